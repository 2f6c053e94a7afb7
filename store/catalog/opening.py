"""`catalog.yaml`: the table of contents of a lab's archive, as strict Intake v1 YAML.

Nothing in a catalog is imported or executed: the one driver is ``zarr`` and the one template is
``{{ CATALOG_DIR }}``. No store is opened to list or search it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, MissingFileError
from .entry import Entry, Metadata, Recipe
from .listing import Catalog

__all__ = ["Catalog", "CatalogLike", "Entry", "Metadata", "Recipe", "open_catalog", "resolve"]

CatalogLike = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Catalog


def open_catalog(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "catalog.yaml") -> Catalog:
    """Read a catalog, or several as one.

    Parameters
    ----------
    path
        The YAML file or its URL, or several. What several list can be read, not changed.

    Raises
    ------
    MissingFileError, InputError
        There is no such file, or it is not a strict Intake v1 catalog; two list different entries
        under one name.
    StorageError
        A remote file cannot be reached.
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not paths:
        raise InputError("no catalog is named; give the path or URL of one")
    first, *others = map(Catalog, paths)
    return first.merged(others) if others else first


def resolve(name_or_path: str | os.PathLike[str], catalog: CatalogLike | None = None) -> str:
    """Return the location that a name of the catalog, a path or a URL stands for.

    A text without a separator is a name of the catalog that is given. Where none is given, something
    of that name in the current folder comes before ``catalog.yaml``. ``NAME@VERSION`` is a version of
    what NAME stands for.

    Raises
    ------
    MissingFileError
        There is no such path, or an entry that is not built yet; the message says how to build it.
    UnknownNameError
        The catalog has no such name.
    """
    text = os.fspath(name_or_path)
    if not isinstance(name_or_path, str) or _is_path(text):
        return text
    here = Path(text).exists()
    if "@" in text and not here:  # a version of what the name stands for
        from ..versions.addresses import history_beside

        name, _, version = text.rpartition("@")
        return f"{history_beside(resolve(name, catalog))}@{version}"
    if catalog is None:
        if here:
            return text
        if not Path("catalog.yaml").is_file():
            raise MissingFileError(
                f"there is nothing at {text!r}, and no catalog.yaml here to look the name up in"
            )
    if not isinstance(catalog, Catalog):
        catalog = open_catalog(catalog or "catalog.yaml")
    if here and text not in catalog:
        return text
    if not catalog.is_built(text):
        raise MissingFileError(f"entry {text!r} of {catalog} is not built yet{_how_to_build(catalog[text])}")
    return catalog.location(text)


def _is_path(text: str) -> bool:
    return "/" in text or os.sep in text


def _how_to_build(entry: Entry) -> str:
    recipe = entry.metadata.recipe or Recipe()
    if recipe.command:
        return f"; build it with `{recipe.command}`"
    if recipe.paradigm and recipe.model:
        return f"; record the paradigm {recipe.paradigm} with the model {recipe.model}"
    return ""
