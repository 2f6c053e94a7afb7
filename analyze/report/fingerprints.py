"""The section on fingerprints: whether two models' networks take the same course over the same texts."""

import numpy as np
import xarray as xr

from .figures import CONTROL, CONTROL_MEAN, INK, new_figure, picture, quiet
from .gather import Float64, Results
from .page import Block, Cell, Gallery, Paragraph, Picture, Section, Table
from .wording import MISSING, count, decimal, isolate, plural, probability, share

_NULLS = {"unrelated": "unrelated models", "shuffled": "shuffled texts"}
_VERDICTS = {
    "related": "Related: {b} is more like {a} than models known to be unrelated are, at a false positive "
    "rate of {alpha:g}.",
    "alike": "Alike: networks of {a} and {b} follow the same texts alike, at a false positive rate of "
    "{alpha:g}. Models that answer to the same words do so whatever their origin; only a comparison with "
    "unrelated models tells more.",
    "not shown": "Not shown: {b} is no more like {a} than chance gives; false positive rate {alpha:g}.",
    "cannot say": "Cannot say: the null has too few different scores for a false positive rate of {alpha:g}.",
}
_LISTED = 20  # networks in the table of pairs


def fingerprints(results: Results) -> Section | None:
    """Show the verdict, the score among those of the null, and which network is which."""
    blocks: list[Block] = []
    for ds in results.of("fingerprint"):
        figures = [_draw_null(ds), _draw_pairs(ds)]
        caption = (
            f"Left: the score (line) among those of {_null(ds)}; dashed: what it must exceed. Right: "
            "magnitude of the correlation of all networks, matched ones on the diagonal, the most alike "
            "first; white 0, dark 1."
        )
        blocks += [Paragraph(verdict_line(ds)), Paragraph(_how(ds)), Gallery(figures, caption), _pairs(ds)]
    return Section("fingerprint", "Fingerprint", blocks) if blocks else None


def fingerprint_line(ds: xr.Dataset) -> str:
    """State the score, its p and the verdict in a line."""
    a, b = _names(ds)
    return (
        f"Fingerprint of {isolate(a)} and {isolate(b)}: score {decimal(float(ds['score']))}, "
        f"{share(float(ds['share']), 1)} of the networks matched, p = {probability(float(ds['p_value']))} "
        f"among {plural(ds.sizes['draw'], 'score')} of {_null(ds)}: {ds.attrs.get('verdict', '')}."
    )


def _names(ds: xr.Dataset) -> tuple[str, str]:
    given = [str(n) for n in ds.attrs.get("source_name", [])]
    return (given[0], given[1]) if len(given) == 2 and all(given) else ("the first model", "the second model")


def _null(ds: xr.Dataset) -> str:
    return _NULLS.get(str(ds.attrs.get("null")), "the null")


def verdict_line(ds: xr.Dataset) -> str:
    """Say what the verdict means, with its rate of false positives."""
    a, b = map(isolate, _names(ds))
    text = _VERDICTS.get(str(ds.attrs.get("verdict")), "")
    return text.format(a=a, b=b, alpha=ds.attrs.get("alpha", 0.05))


def _how(ds: xr.Dataset) -> str:
    attrs = ds.attrs
    critical = float(ds["critical"])
    text = (
        f"Score, the mean magnitude of the correlation over matched networks: {decimal(float(ds['score']))}; "
        f"share of pairs above {attrs.get('match', 0.5):g}: {share(float(ds['share']), 1)}; "
        f"p = {probability(float(ds['p_value']))} among {plural(ds.sizes['draw'], 'score')} of {_null(ds)}"
    )
    text += f", of which it must exceed {decimal(critical)}. " if np.isfinite(critical) else ". "
    if "n_stretches" in attrs:
        text += (
            f"Courses over {plural(attrs['n_prompts'], 'text')}, {count(attrs['n_stretches'])} stretches of "
            "characters that both tokenizers share, correlated by ranks within each text. "
        )
    return text + (f"Assumed: {attrs['assumption']}." if "assumption" in attrs else "")


def _pairs(ds: xr.Dataset) -> Table:
    correlation = ds["partner_correlation"].to_numpy().astype(np.float64)
    order = np.argsort(-np.abs(np.nan_to_num(correlation)), kind="stable")
    rows = []
    other_size = dict(zip(*(ds[v].to_numpy().tolist() for v in ("network_other", "size_other")), strict=True))
    for i in order[:_LISTED]:
        partner = str(ds["partner"].to_numpy()[i])
        rows.append(
            (
                str(ds["network"].to_numpy()[i]),
                [
                    Cell(count(int(ds["size"][i]))),
                    Cell(partner or MISSING, prose=True),
                    Cell(count(other_size[partner]) if partner in other_size else MISSING),
                    Cell(_two_digits(correlation[i]), marked=bool(ds["matched"][i])),
                ],
            )
        )
    a, b = _names(ds)
    caption = (
        f"Networks of {isolate(a)} and their partners in {isolate(b)}, one to one, the most alike first; "
        "outlined: matched. The sign of a component is arbitrary, so a negative correlation counts like a "
        "positive one."
    )
    if len(order) > _LISTED:
        caption += f" {len(order) - _LISTED} more are less alike."
    return Table("network", ["neurons", "partner", "its neurons", "correlation"], rows, caption)


def _two_digits(r: float) -> str:
    return f"{r:.2f}".replace("-", "\u2212") if np.isfinite(r) else MISSING


def _draw_null(ds: xr.Dataset) -> Picture:
    null, score = ds["null"].to_numpy().astype(np.float64), float(ds["score"])
    figure = new_figure(420, 260)
    axes = quiet(figure.add_axes((0.12, 0.17, 0.84, 0.68)))
    axes.hist(null, bins=np.linspace(0, 1, 51).tolist(), color=CONTROL, label=_null(ds))
    axes.axvline(score, color=CONTROL_MEAN, linewidth=1.6, label="these two")
    if np.isfinite(float(ds["critical"])):
        axes.axvline(float(ds["critical"]), color=INK, linewidth=1.0, linestyle="--", label="critical")
    axes.set(xlim=(0, 1.01), xlabel="score", ylabel="scores")
    axes.legend(fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=3)
    return picture(figure, f"Histogram of {null.size} null scores; that of the two models is {score:.2f}")


def _draw_pairs(ds: xr.Dataset) -> Picture:
    """Draw the magnitudes of all correlations, matched networks on the diagonal."""
    shown = _sorted_by_pair(ds)
    figure = new_figure(300, 260)
    axes = quiet(figure.add_axes((0.15, 0.17, 0.8, 0.78)))
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set(xlabel="network of the second", ylabel="network of the first", xticks=[], yticks=[])
    return picture(figure, f"Correlations of {shown.shape[0]} by {shown.shape[1]} networks")


def _sorted_by_pair(ds: xr.Dataset) -> Float64:
    magnitude = np.abs(ds["correlation"].transpose("network", "network_other").to_numpy().astype(np.float64))
    best = np.nan_to_num(np.abs(ds["partner_correlation"].to_numpy().astype(np.float64)))
    rows = np.argsort(-best, kind="stable")
    place = {str(n): j for j, n in enumerate(ds["network_other"].to_numpy())}
    columns = [place[p] for p in ds["partner"].to_numpy()[rows].astype(str) if p in place]
    columns += [j for j in range(magnitude.shape[1]) if j not in set(columns)]
    return np.asarray(np.nan_to_num(magnitude)[np.ix_(rows, np.array(columns, dtype=np.intp))])
