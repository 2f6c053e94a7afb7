"""What the study of linguistic regions chose, or leaves open, as it was done here."""

from collections.abc import Mapping

import xarray as xr

from ...analyze.report.wording import percent
from ..outcome import Choice
from .settings import BATCH, FACTORS, LINES, MONOLINGUAL, PLACES, SHARES, Settings
from .texts import Texts


def choices(settings: Settings, texts: Texts, found: Mapping[str, xr.Dataset]) -> list[Choice]:
    """List the choices.

    Parameters
    ----------
    settings, texts
        What was asked for, and shown.
    found
        The results, by name.
    """
    return [*_selected(texts), *_measured(settings, found), *_trained(settings, found["forgetting"])]


def _selected(texts: Texts) -> list[Choice]:
    return [
        (
            "languages",
            ", ".join(texts.conditions),
            "the paradigm's conditions; the study's are 30, six select",
        ),
        (
            "texts",
            f"{len(texts.selecting)} select, {len(texts.scoring)} others evaluate",
            "effects on texts that took part in selecting are too large; the study selects on 10,000 or "
            "100,000 texts of 512 tokens a language",
        ),
        (
            "importance",
            "|sum over a language's texts of gradient x weight|, its loss the mean over tokens",
            "the study's; every language then weighs alike, however long its texts are",
        ),
        (
            "core region",
            f"top {_percent(SHARES)} of every weight matrix, of the sum over languages",
            "as in the study; embeddings, norms and biases are left out",
        ),
        (
            "monolingual regions",
            f"in the top {percent(MONOLINGUAL)} of one language and of no other",
            "the study takes 1 %, of which little remains in a small model with more languages",
        ),
    ]


def _measured(settings: Settings, found: Mapping[str, xr.Dataset]) -> list[Choice]:
    return [
        ("removal", "set to zero", "as in the study"),
        (
            "random regions",
            f"{settings.n_controls} beside each, with as many parameters in every tensor, any of them",
            "the study has one; few draws give no p, so verdicts ask that an effect exceed all of them",
        ),
        (
            "intervals",
            f"95 %, bootstrap over {int(found['core'].attrs.get('n_bootstrap', 0)):,} draws of the texts",
            "the study has none",
        ),
        (
            "dimensions",
            f"share of the top {percent(SHARES[0])} in the fullest {percent(LINES)} of rows and columns",
            "the study shows pictures; here they stand beside random regions of the same size",
        ),
        (
            "perturbation",
            f"{PLACES} most important parameters, rows and columns, one at a time, times "
            + ", ".join(f"{f:g}" for f in FACTORS),
            "the study shows one parameter; single ones are looked for in the whole model, norms and "
            "embeddings too, rows and columns in the matrices of its blocks",
        ),
    ]


def _trained(settings: Settings, trained: xr.Dataset) -> list[Choice]:
    return [
        (
            "further training",
            f"on {trained.attrs['trained_on']}, {settings.steps} updates of {BATCH} texts, learning rate "
            f"{settings.learning_rate:g}",
            "a language that is asked for, or the one that the model foretells worst; far shorter than the "
            "study's",
        ),
        (
            "frozen region",
            f"top {SHARES[-1]:.0%} of the other languages; beside it a random one of its size",
            "freezing anything leaves less to change: without a random region nothing follows",
        ),
        (
            "knowledge",
            f"{trained.attrs['n_items']} questions; the answer with the most probable text is chosen",
            "the study's questions are other ones; few can show no small change",
        ),
    ]


def _percent(shares: tuple[float, ...]) -> str:
    *first, last = [f"{100 * s:g}" for s in shares]
    return f"{', '.join(first)} and {last} %"
