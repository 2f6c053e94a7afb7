"""The first and the last section: what was analysed in a few lines, and where every number comes from."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from .design import prompt_labels
from .fingerprints import fingerprint_line
from .gather import Network, Results
from .lesions import lesion_lines
from .overview import decomposition_line
from .page import Block, Bullets, Cell, Record, Section, Table
from .recurrences import recurrence_line
from .sections import identification_line
from .statements import statements_line
from .wording import MISSING, count, isolate, plural

_INLINE = 90  # characters of a value that does not fold away
_SHOWN = 14
_OPEN = 12  # results; of more, the attributes fold away


def summary(results: Results) -> Section:
    """State what was analysed, and one line a headline number."""
    analysed = results.of("recording") or results.of("fit")
    blocks: list[Block] = _analysed(analysed)
    lines = [statements_line(ds) for ds in results.of("statements")]
    titles = {str(ds.attrs.get("title", "")) for ds in results.of("components")} - {""}
    lines += [_network_line(networks) for networks in results.networks if networks[0].title not in titles]
    lines += [
        decomposition_line(ds, maps, results)
        for ds, maps in zip(results.of("components"), results.components, strict=True)
    ]
    lines += [recurrence_line(ds) for ds in results.of("recurrence") if not ds.attrs.get("published")]
    lines += [fingerprint_line(ds) for ds in results.of("fingerprint")]
    lines += [f"Identification: {identification_line(ds)}" for ds in results.of("identification")]
    lines += [line for ds in results.of("effects") for line in lesion_lines(ds)]
    if results.contrasts and not results.networks:
        lines.insert(0, f"{plural(len(results.contrasts), 'contrast')}, none of them thresholded.")
    if lines:
        blocks.append(Bullets(lines))
    if not blocks:
        blocks.append(
            Bullets([f"{plural(len(v), 'result')} of kind {k}." for k, v in results.by_kind.items()])
        )
    return Section("summary", "Summary", blocks)


def _analysed(given: Sequence[xr.Dataset]) -> list[Block]:
    """Say what each recording is: one below the other, or several side by side."""
    entries = [_said(ds) for ds in given]
    if len(given) < 2:
        return [Record("", [(k, v, "") for k, v in own.items()]) for own in entries]
    columns = [k for k in entries[0] if k != "recording" and any(own.get(k) for own in entries)]
    rows = [
        (own.get("recording", MISSING), [Cell(own.get(k, MISSING), prose=k == "conditions") for k in columns])
        for own in entries
    ]
    return [Table("recording", columns, rows)]


def _said(ds: xr.Dataset) -> dict[str, str]:
    attrs = ds.attrs
    inputs = (
        attrs.get("provenance", {}).get("inputs", {}) if isinstance(attrs.get("provenance"), Mapping) else {}
    )
    labels = prompt_labels(ds)
    entries = {
        "recording": attrs.get("name") or attrs.get("source_name"),
        "model": inputs.get("model"),
        "architecture": inputs.get("architecture"),
        "paradigm": inputs.get("paradigm"),
        "site": attrs.get("site"),
        "prompts": count(len(labels)),
        "unfinished": attrs.get("unfinished"),
        "tokens": "" if labels["tokens"].isna().any() else count(float(labels["tokens"].sum())),
        "layers": count(ds.sizes["layer"]) if "layer" in ds.sizes else "",
        "neurons": f"{count(ds.sizes['neuron'])} in each layer" if "neuron" in ds.sizes else "",
        "conditions": _conditions(labels["condition"].unique().tolist()) if "condition" in labels else "",
        "runs": count(labels["run"].nunique()) if "run" in labels else "",
    }
    return {k: str(v) for k, v in entries.items() if v}


def _conditions(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)}: {', '.join(map(isolate, names[:_SHOWN]))}{more}"


def _network_line(networks: list[Network]) -> str:
    sizes = [int(n.mask.sum()) for n in networks]
    total = networks[0].mask.size
    rules = "; ".join(dict.fromkeys(n.rule for n in networks))
    listed = ", ".join(
        f"{isolate(n.name)} {count(size)}" for n, size in zip(networks[:_SHOWN], sizes, strict=False)
    )
    more = f" and {len(networks) - _SHOWN} more" if len(networks) > _SHOWN else ""
    site = f" at {networks[0].site}" if networks[0].site else ""
    title = f"{networks[0].title}: " if networks[0].title else ""
    head = f"{title}{plural(len(networks), 'network')}{site} ({rules})"
    head += f", {'its size' if len(networks) == 1 else 'their sizes'} out of {count(total)} neurons"
    return f"{head}: {listed}{more}."


def provenance(results: Results) -> Section:
    """List every attribute of every result."""
    blocks: list[Block] = []
    many = sum(map(len, results.by_kind.values())) > _OPEN
    for kind, given in results.by_kind.items():
        for i, ds in enumerate(given, start=1):
            name = str(ds.attrs.get("title") or ds.attrs.get("name") or ds.attrs.get("contrast") or "")
            title = (
                kind.capitalize().replace("_", " ")
                + (f" {i}" if len(given) > 1 else "")
                + (f": {name}" if name else "")
            )
            entries = [_entry(str(k), v) for k, v in ds.attrs.items() if k != "kind"]
            blocks.append(Record(title, entries, folded=many))
    return Section("provenance", "Provenance", blocks)


def _entry(name: str, value: Any) -> tuple[str, str, str]:
    """Return an attribute: short values as they are, long ones folded, structures as JSON."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(value, str):
        fits = len(value) <= _INLINE and "\n" not in value
        return (name, value, "") if fits else (name, plural(len(value), "character"), value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= _INLINE:
        return name, text, ""
    noun = "value" if isinstance(value, list) else "entry"
    size = (
        plural(len(value), noun).replace("entrys", "entries") if isinstance(value, (list, dict)) else "long"
    )
    return name, size, json.dumps(value, ensure_ascii=False, indent=1, default=str)
