"""Results kept beside the recording they come from: computed once, opened the next time."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec

import xarray as xr

from .archive import open as open_result
from .errors import InputError
from .results import save_result

Q = ParamSpec("Q")


class Kept:
    """A folder of results, all of one recording and made with the same settings.

    Attributes
    ----------
    folder
        Where they are.
    source
        Digest of the recording.
    settings
        What decides their numbers, by name; short values that JSON holds.
    """

    def __init__(self, folder: Path, source: str, settings: Mapping[str, Any] | None = None) -> None:
        self.folder, self.source, self.settings = folder, source, dict(settings or {})

    def __call__(
        self, name: str, compute: Callable[Q, xr.Dataset], *args: Q.args, **kwargs: Q.kwargs
    ) -> xr.Dataset:
        """Open a result, in memory; if it is not there, compute and save it first.

        Raises
        ------
        InputError
            What is there comes from another recording, or was made with other settings.
        """
        path = self.folder / f"{name}.zarr"
        if not path.exists():
            self._save(compute(*args, **kwargs), path)
        ds = open_result(path)
        self._check(ds, path)
        return ds.load()

    def _save(self, ds: xr.Dataset, path: Path) -> None:
        """Write beside the place, then move there: what is there is always whole."""
        partial = path.with_name(f".{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        save_result(ds.assign_attrs(settings=self.settings), partial, derived_from=self.source)
        partial.rename(path)

    def _check(self, ds: xr.Dataset, path: Path) -> None:
        advice = "remove it or choose another folder"
        if self.source not in ds.attrs.get("derived_from", []):
            raise InputError(f"{path} was computed from another recording; {advice}")
        there = ds.attrs.get("settings", {})
        for name, asked in self.settings.items():
            if there.get(name) != asked:
                raise InputError(f"{path} was made with {name} {there.get(name)!r}, not {asked!r}; {advice}")
