"""What the study of functional networks chose, or leaves open, as it was done here."""

from collections.abc import Mapping

import xarray as xr

from ..outcome import Choice
from .samples import Samples
from .settings import JACCARD, NETWORK, Settings, Way


def choices(way: Way, settings: Settings, samples: Mapping[str, Samples], counts: xr.Dataset) -> list[Choice]:
    """List the choices of one way.

    Parameters
    ----------
    way, settings
        How networks were found, and what was asked for.
    samples
        Of every data set.
    counts
        Samples with too few tokens for all components: ``few`` (data_set).
    """
    return [*_shown(samples), *_found(way, settings), *_compared(counts)]


def _shown(samples: Mapping[str, Samples]) -> list[Choice]:
    sizes = ", ".join(f"{name} {len(s.group)} + {len(s.single)}" for name, s in samples.items())
    return [
        (
            "data sets",
            ", ".join(samples),
            "the study's are AG News, Wikitext-2, MathQA and CodeNet; any paradigm can stand for one",
        ),
        (
            "samples",
            f"{sizes}, drawn at random; one prompt each, by itself",
            "for the templates + to find them in, as in the study; none of a design's rests",
        ),
    ]


def _found(way: Way, settings: Settings) -> list[Choice]:
    to_the_letter = way.name == "paper"
    values = {
        "mlp_out": "output of the MLP's last linear map, the study's neuron",
        "mlp": "hidden units of the MLP, the same kind of value in every architecture",
    }
    return [
        ("values", way.site, values.get(way.site, "as asked for")),
        (
            "tokens",
            "all" if way.all_tokens else "those that stand for characters of the text",
            "as in the study"
            if way.all_tokens
            else "a token that begins every text makes a component of its own",
        ),
        (
            "scale of neurons",
            "unit variance over tokens" if way.standardize else "as they are, centred",
            "otherwise the few neurons of large variance make the components"
            if way.standardize
            else "as in the study's notebooks on recurrence",
        ),
        (
            "ICA",
            "temporal, FastICA: a network is a row of the transposed mixing matrix"
            if way.ica == "temporal"
            else "spatial, quasi-Newton, after principal components of each sample and of the group",
            "as in the study"
            if to_the_letter
            else "maps are independent over neurons, of which there are many more than tokens",
        ),
        (
            "non-linearity of the ICA",
            "log cosh",
            "the study's code takes the cube; of planted sources that found the worst at a correlation of "
            ".71, log cosh at 1.00",
        ),
        ("components", str(settings.n_components), "10 in the study, of the group and of each sample"),
        (
            "networks",
            f"z over neurons above {NETWORK.value:g}, one side",
            "of the study's notebooks; the library's default is 1.96. The sign of a component is arbitrary: "
            "here its longer tail is positive",
        ),
        (
            "stability",
            f"{way.n_runs} repeats, samples bootstrapped, clustered as in ICASSO"
            if way.n_runs > 1
            else f"of {settings.n_runs} further repeats by the same ICA, samples bootstrapped",
            "which of the templates would be found again"
            if way.n_runs > 1
            else "the templates are those of a single run, as in the study, which gives no stability",
        ),
        (
            "null of a component",
            f"{way.null} draws of noise of the same covariance through the whole procedure"
            if way.null
            else "none",
            "ICA finds components in noise too; all templates are counted, those that beat it are marked"
            if way.null
            else "as in the study",
        ),
    ]


def _compared(counts: xr.Dataset) -> list[Choice]:
    few = {
        str(n): int(k) for n, k in zip(counts["data_set"].to_numpy(), counts["few"].to_numpy(), strict=True)
    }
    short = ", ".join(f"{name} {k}" for name, k in few.items() if k)
    return [
        ("match", f"Jaccard index above {JACCARD:g}", "the study's intersection over union"),
        (
            "chance",
            "random templates with as many neurons in each layer",
            "the study has none; networks that favour a layer overlap by that alone",
        ),
        (
            "short samples",
            f"kept, with fewer components: {short}" if short else "none",
            "a sample has at most as many components as it has tokens, less one",
        ),
    ]
