"""Fingerprint: whether the networks of two models are those of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from ..._version import __version__
from ...store.arguments import check_seed, whole_number
from ...store.errors import InputError, InputTypeError
from ...store.moments import Float64
from ...store.provenance import unfinished_of
from ..components.map_thresholds import FAR_OUT
from ..threshold import Top, Z, check_fraction
from .alignment import Pair, align, shared_prompts
from .comparable import check_null, is_signature, number_of_networks
from .signature import check_recording, signature
from .similarity import Int, Likeness, can_shuffle, likeness, ranked, shuffled_scores

_ASSUMPTIONS = {
    "unrelated": "the second model, if unrelated to the first, is as like it as the given unrelated models",
    "shuffled": "none of a common origin: the courses do not follow the text, other than by the place in it",
}


def fingerprint(
    a: xr.Dataset,
    b: xr.Dataset,
    *,
    unrelated: Sequence[xr.Dataset] = (),
    n_components: int | None = None,
    network: Z | Top = FAR_OUT,
    match: float = 0.5,
    alpha: float = 0.05,
    within: str | None = None,
    n_permutations: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Compare two models by what their networks do on the same texts.

    The time courses of all networks are averaged over the stretches of characters that both tokenizers
    share, and correlated by ranks (Spearman) within each text; networks are matched one to one so that
    the magnitudes of their correlations add up to the most. Neither the places nor the scales of neurons
    matter, nor do width and depth.

    Parameters
    ----------
    a, b
        Recordings at the level of tokens, of the same paradigm; or what `signature` gives of them, which
        saves the decomposition where a model is compared more than once.
    unrelated
        Recordings or signatures of models known to be unrelated to `a`, of the same paradigm, each a
        model of its own. The score of `b` is compared with theirs, so that theirs must have come about as
        its has: with as many networks, found in the same way; those of `a` may be others. Without any, it
        is compared with scores of shuffled texts, which asks less: unrelated models that answer to the same
        words are more alike on the same text too.
    n_components, network
        For recordings, see `signature`; by default as many as the signatures among those given have, or 64.
    match
        Magnitude of a correlation above which a pair of networks counts as matched.
    alpha
        False positive rate of the verdict.
    within
        A label of the prompts, such as "condition"; texts are shuffled among those with the same value,
        so that what the label decides counts as chance.
    n_permutations
        Shuffles of the texts, where no unrelated models are given.
    seed
        Draws the shuffles, and the starts of the decompositions.

    Returns
    -------
    Dataset, computed here

    score : mean magnitude of the correlation over the pairs; a network without a course, or left over up
        to the smaller number of networks, counts as 0
    share : share of pairs that match
    p_value : (1 + null scores at least as large) / (1 + their number)
    critical : the score above which p is at most `alpha`; NaN if the null is too small to say
    null : (draw), scores of the unrelated models, or of shuffled texts
    correlation : (network, network_other), mean over texts, each counted by its stretches less one; NaN
        where one never varies
    partner : (network), the matched network of `b`, "" without one
    partner_correlation : (network), NaN without one
    matched : (network), its magnitude is above `match`

    attrs ``verdict``: "related" (p is at most `alpha` among unrelated models), "alike" (the same against
    shuffled texts alone, and some pair matches), "not shown", or "cannot say" (fewer null scores than
    1 / `alpha` - 1, or fewer ways to shuffle the texts than 1 / `alpha`).

    Raises
    ------
    InputError, InputTypeError
        The recordings have fewer than two prompts in common, or show other texts under one name; an
        unrelated model is given twice, or not comparable with `b`; a signature has another number of
        networks than `n_components`; an option is not allowed; what `signature` refuses.

    References
    ----------
    .. [1] Liu et al. (2026), arXiv 2601.22692.
    """
    given = [a, b, *unrelated]
    _check(given, network, match, alpha)
    n_permutations = whole_number(n_permutations, "n_permutations", least=1)
    seed, n_components = check_seed(seed), number_of_networks(given, n_components)
    check_null(given, n_components, network)
    strata = _strata(a, shared_prompts(given), within)  # refused, if it is, before any work
    signatures = [
        s if is_signature(s) else signature(s, n_components=n_components, network=network, seed=seed)
        for s in given
    ]
    prompts = shared_prompts(signatures)
    pair = align(signatures[0], signatures[1], prompts)
    found = _of(pair)
    if unrelated:
        null = np.array([_of(align(signatures[0], other, prompts)).score for other in signatures[2:]])
    else:
        null = shuffled_scores(pair, strata[pair.kept], n_permutations, np.random.default_rng(seed))
    kind = "unrelated" if unrelated else "shuffled"
    enough = bool(unrelated) or can_shuffle(strata[pair.kept], alpha)
    tested = _test(found.score, null, alpha, enough)
    result = _result(found, signatures[0], signatures[1], match)
    above = "related" if unrelated else "alike" if bool(result["matched"].any()) else "not shown"
    attrs = {
        "kind": "fingerprint",
        "verdict": above if tested.verdict == "above" else tested.verdict,
        "null": kind,
        "assumption": _ASSUMPTIONS[kind],
        "match": match,
        "alpha": alpha,
        "within": within or "",
        "n_permutations": 0 if unrelated else n_permutations,
        "seed": seed,
        "network": [s.attrs.get("network", "") for s in signatures[:2]],
        "n_prompts": len(pair.first),
        "n_stretches": pair.n_stretches,
        **_origin(signatures),
    }
    numbers = {"p_value": tested.p_value, "critical": tested.critical, "null": ("draw", null)}
    return result.assign(numbers).assign_attrs(attrs)


@dataclass(frozen=True)
class _Test:
    p_value: float
    critical: float
    verdict: Literal["above", "not shown", "cannot say"]


def _check(given: Sequence[object], network: Z | Top, match: float, alpha: float) -> None:
    for ds in given:
        if not isinstance(ds, xr.Dataset):
            raise InputTypeError(
                f"fingerprint takes recordings, or signatures of them, got {type(ds).__name__}"
            )
        if not is_signature(ds):
            check_recording(ds, network)
    check_fraction("match", match)
    check_fraction("alpha", alpha)


def _strata(a: xr.Dataset, prompts: list[str], within: str | None) -> Int:
    """Return a number of each prompt, equal for those that may be exchanged."""
    if within is None:
        return np.zeros(len(prompts), dtype=np.int64)
    if within not in a.coords or a[within].dims != ("prompt",):
        raise InputError(f"within must be a label of the prompts, got {within!r}")
    return np.unique(a[within].sel(prompt=prompts).to_numpy(), return_inverse=True)[1]


def _of(pair: Pair) -> Likeness:
    return likeness(ranked(pair.first), ranked(pair.second))


def _test(score: float, null: Float64, alpha: float, enough: bool = True) -> _Test:
    """Place a score among the null's: it and they are equally likely to have any rank.

    `enough`: whether the null holds so many different scores that p can be `alpha`.
    """
    n = len(null)
    p = (1 + int((null >= score - 1e-12).sum())) / (1 + n)
    allowed = int(np.floor(alpha * (n + 1) + 1e-9)) - 1  # null scores that may be as large
    if allowed < 0 or not enough:
        return _Test(p, float("nan"), "cannot say")
    return _Test(p, float(np.sort(null)[::-1][allowed]), "above" if p <= alpha else "not shown")


def _result(found: Likeness, a: xr.Dataset, b: xr.Dataset, match: float) -> xr.Dataset:
    names, others = (s["network"].to_numpy() for s in (a, b))
    partner = np.full(len(names), "", dtype=object)
    correlation = np.full(len(names), np.nan)
    for i, j in found.pairs:
        partner[i], correlation[i] = str(others[j]), found.correlation[i, j]
    matched = np.abs(np.nan_to_num(correlation)) > match
    return xr.Dataset(
        {
            "score": found.score,
            "share": matched.sum() / max(min(len(names), len(others)), 1),
            "correlation": (("network", "network_other"), found.correlation),
            "partner": ("network", partner),
            "partner_correlation": ("network", correlation),
            "matched": ("network", matched),
            "size": ("network", a["size"].to_numpy()),
            "size_other": ("network_other", b["size"].to_numpy()),
        },
        coords={"network": names, "network_other": others},
    )


def _origin(signatures: Sequence[xr.Dataset]) -> dict[str, object]:
    """Say which recordings were compared, and which the null came from."""
    out: dict[str, object] = {
        k: [s.attrs.get(k, "") for s in signatures[:2]] for k in ("source", "source_name", "site")
    }
    out |= {"null_source": [s.attrs.get("source", "") for s in signatures[2:]], "actome": __version__}
    return out | unfinished_of(*(s.attrs for s in signatures))
