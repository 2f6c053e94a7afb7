"""A part of a recording as a recording of its own, written unit by unit."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr

from ..allocate import SiteSpec, allocate
from ..archive import array_of, sites_of
from ..beside import split_number
from ..errors import InputError
from ..housekeeping.finished import Finished
from ..location import Location
from ..moments import Bool, masked_moments, valid_tokens
from ..precision import fit
from ..schema import ROOT, SUMMARY
from ..writer import RecordingWriter, real_tokens
from .cut import Cut
from .description import read_root
from .hiding import check_kept, hidden_text, hidden_token_ids, shared_paradigm, text_columns

Values = npt.NDArray[Any]

_PARADIGM = "actome/paradigm.yaml"
_SOURCES = "actome/sources.json"


class Part:
    """The part of a recording that a cut leaves.

    Attributes
    ----------
    rows
        Numbers of its prompts in the source.
    sites
        What each of its sites holds.
    """

    def __init__(self, source: Location, cut: Cut) -> None:
        self.source, self.cut = source, cut
        self.attrs, self.arrays = read_root(source)
        check_kept(self.arrays, cut.keep_labels)
        self._group = source.group()
        self.rows = self._chosen_rows()
        self._places = {site: self._chosen_layers(site) for site in sites_of(self._group)}
        self._places = {site: places for site, places in self._places.items() if len(places)}
        if cut.layers is not None:
            self._check_layers(cut.layers)
        self.sites = {site: self._spec(site) for site in self._places}

    @property
    def n_tokens(self) -> int:
        """Length of the token axis, which stays as it is."""
        return max((a.shape[1] for a in self.arrays.values() if a.dims[:2] == ("prompt", "token")), default=0)

    @property
    def n_bytes(self) -> int:
        """Bytes before compression, at most."""
        return len(self.rows) * sum(s.bytes_per_prompt(self.n_tokens) for s in self.sites.values())

    def _chosen_rows(self) -> npt.NDArray[np.int64]:
        if self.cut.conditions is None:
            return np.arange(self.arrays["prompt"].shape[0])
        if "condition" not in self.arrays:
            raise InputError(f"{self.source} has no label 'condition'; export it without conditions=")
        labels = self._read("condition")
        unknown = [c for c in self.cut.conditions if c not in labels]
        if unknown:
            known = list(dict.fromkeys(labels.tolist()))
            raise InputError(f"{self.source} has no condition {unknown[0]!r}; it has {known}")
        return np.flatnonzero(np.isin(labels.astype(str), self.cut.conditions))

    def _chosen_layers(self, site: str) -> npt.NDArray[np.int64]:
        """Places of the layers in the arrays of a site, in their order there."""
        layers = self._read(f"{site}/layer")
        return np.flatnonzero(np.isin(layers, layers if self.cut.layers is None else self.cut.layers))

    def _check_layers(self, chosen: tuple[int, ...]) -> None:
        known = sorted({int(i) for site in sites_of(self._group) for i in self._read(f"{site}/layer")})
        unknown = [i for i in chosen if i not in known]
        if unknown:
            raise InputError(f"{self.source} has no layer {unknown[0]}; it has {known}")

    def _spec(self, site: str) -> SiteSpec:
        places, hook = self._places[site], f"{site}/hook_name"
        cube = f"{site}/activation" in self.arrays
        stored = self.arrays[f"{site}/activation"].dtype if cube else "float32"
        return SiteSpec(
            tuple(map(int, self._read(f"{site}/layer")[places])),
            tuple(map(int, self._read(f"{site}/neuron"))),
            tuple(map(str, self._read(hook)[places])) if hook in self.arrays else ("",) * len(places),
            self.cut.dtype or stored,
            cube=cube,
        )

    def _read(self, path: str, rows: Values | None = None, layers: Values | None = None) -> Values:
        """Read an array: of some prompts (all by default), along ``layer`` at some places."""
        array: zarr.Array[Any] = array_of(self._group, path)
        chosen: list[Any] = [slice(None)] * array.ndim
        if rows is not None:
            chosen[0] = rows
        if layers is not None:
            chosen[self.arrays[path].dims.index("layer")] = layers
        values = np.asarray(array.oindex[tuple(chosen)])
        return values.astype(object) if values.dtype.kind == "T" else values

    def labels(self) -> pd.DataFrame:
        """Return the labels of the prompts, as they may be shared."""
        left_out = ("recorded", "n_tokens")
        names = [p for p, a in self.arrays.items() if a.dims == ("prompt",) and "/" not in p]
        table = {name: self._read(name, self.rows) for name in names if name not in left_out}
        if self.cut.hides:
            for name in set(text_columns(self.arrays, self.cut.keep_labels)) & table.keys():
                table[name] = np.array([hidden_text(str(text)) for text in table[name]], dtype=object)
        return pd.DataFrame(table)

    @property
    def token_variables(self) -> tuple[str, ...]:
        """The (prompt, token) variables of the schema that the source has."""
        return tuple(v.name for v in ROOT if v.dims == ("prompt", "token") and v.name in self.arrays)

    def write(self, location: Location) -> None:
        """Write the part as a recording, one unit in memory at a time.

        Warns
        -----
        UserWarning
            Values were clipped to what float16 holds, or are not finite.
        """
        labels = self.labels()
        allocate(
            location,
            labels=labels,
            n_tokens=self.n_tokens,
            sites=self.sites,
            token_variables=self.token_variables,
            provenance=self._provenance(),
        )
        for key, text in self._paradigms():
            location.write(key, text.encode())
        if self.source.exists(_SOURCES) and not self.cut.hides:  # names of files may say what was shown
            location.write(_SOURCES, self.source.read(_SOURCES))
        writer = RecordingWriter(location)
        for i, unit in enumerate(writer.units):
            self._write_unit(writer, i, labels.iloc[unit], self.rows[unit])
        writer.finalise()
        writer.warn_of_losses(remedy="export with dtype='float32' to keep them", cause=", as in the source")

    def _write_unit(self, writer: RecordingWriter, i: int, labels: pd.DataFrame, rows: Values) -> None:
        columns = {str(c): labels[c].to_numpy() for c in labels}
        stored = (name for name in (*self.token_variables, "n_tokens") if name in self.arrays)
        columns |= {name: self._read(name, rows) for name in stored}
        valid = self._valid(columns, rows)
        columns.setdefault("n_tokens", valid.sum(axis=1))
        if self.cut.hides and "token_id" in columns:
            columns["token_id"] = hidden_token_ids(columns["token_id"])
        counts = {"clipped": 0, "nonfinite": 0}
        cubes, moments = {}, {}
        for site, spec in self.sites.items():
            if spec.cube:
                cubes[site] = self._cube(site, rows, valid, counts)
                with np.errstate(invalid="ignore"):  # moments over an infinity are NaN, as they should be
                    moments[site] = masked_moments(cubes[site], valid)
            else:
                moments[site] = self._moments(site, rows)
        writer.write_unit(i, columns, cubes, moments=moments, counts=counts)

    def _valid(self, columns: Mapping[str, Values], rows: Values) -> Bool:
        """Which tokens are real: (prompt, token)."""
        if "token_id" in columns or "n_tokens" in columns:
            return real_tokens(columns, self.n_tokens)
        site = next(site for site, spec in self.sites.items() if spec.cube)
        layer = self._read(f"{site}/activation", rows, self._places[site][:1])
        return np.asarray(np.arange(self.n_tokens) < valid_tokens(layer)[:, None])

    def _cube(self, site: str, rows: Values, valid: Bool, counts: dict[str, int]) -> Values:
        """Read the activations of some prompts, in the type of the export."""
        spec, places = self.sites[site], self._places[site]
        shape = (len(rows), self.n_tokens, len(places), len(spec.neurons))
        cube = np.full(shape, np.nan, dtype=spec.dtype)
        for k, place in enumerate(places):  # one at a time: what is converted is copied
            layer = self._read(f"{site}/activation", rows, np.array([place]))[:, :, 0]
            cube[valid, k] = fit(layer[valid], cube.dtype, counts)
        return cube

    def _moments(self, site: str, rows: Values) -> dict[str, Values]:
        """Read the moments of a site without a cube."""
        places = self._places[site]
        return {
            v.name: self._read(f"{site}/summary/{v.name}", rows, places if "layer" in v.dims else None)
            for v in SUMMARY
        }

    def _provenance(self) -> dict[str, Any]:
        """Keep where the numbers come from; the inputs name the cut, so that no record goes on with it."""
        source = dict(self.attrs.get("provenance", {}))
        inputs = dict(source.get("inputs", {}))
        inputs["cut"] = self.cut.noted(before=inputs.get("cut"))
        dtypes = sorted({spec.dtype for spec in self.sites.values()})
        return {
            **source,
            "inputs": inputs,
            "derived_from": [self.attrs["manifest_digest"]],
            "storage_dtype": ", ".join(dtypes),
        }

    def _paradigms(self) -> Iterator[tuple[str, str]]:
        """Go through the paradigms, of which a merged recording has several: key and shared text."""
        cut = self.cut
        for key in Finished(self.source, self._group).further_files():
            if split_number(key)[0] == _PARADIGM:
                text = self.source.read(key).decode()
                yield (
                    key,
                    shared_paradigm(text, conditions=cut.conditions, hide=cut.hides, keep=cut.keep_labels),
                )
