"""``catalog.yaml`` of a package: valid Intake, and read by `Catalog`; all locations are relative."""

from pathlib import Path
from typing import Any

from ..yaml import dump, read_mapping
from .description import Item, Package

_BETWEEN = "; "  # authors
_ABOUT = ("title", "licence", "authors", "citation", "published")


def catalog_file(package: Package) -> str:
    """Write the catalog of a package."""
    content: dict[str, Any] = {
        "version": 1,
        "metadata": _about(package),
        "sources": {item.name: _source(item) for item in package.items},
    }
    return dump(content)


def _about(package: Package) -> dict[str, str]:
    given = {
        "title": package.title,
        "licence": package.licence or "",
        "authors": _BETWEEN.join(package.authors),
        "citation": package.citation,
        "published": package.published,
    }
    return {k: v for k, v in given.items() if v}


def read_about(path: Path) -> dict[str, Any]:
    """Return what a package's catalog says of it as a whole: fields of `Package`."""
    content, _ = read_mapping(path, "catalog")
    given = content.get("metadata") or {}
    about: dict[str, Any] = {k: str(given[k]) for k in _ABOUT if k in given}
    if "authors" in about:
        about["authors"] = tuple(about["authors"].split(_BETWEEN))
    return {"title": path.parent.name, **about}


def _source(item: Item) -> dict[str, Any]:
    further = {"licence": item.licence, "tags": list(item.tags), "citation": item.citation}
    metadata = {**item.metadata, **{k: v for k, v in further.items() if v}}
    return {
        "driver": "zarr",
        "description": item.description,
        "args": {"urlpath": "{{ CATALOG_DIR }}/" + item.path},
        "metadata": metadata,
    }
