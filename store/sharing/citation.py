"""``CITATION.cff``: how a package is cited, in the Citation File Format."""

from pathlib import Path

from ..errors import InputError
from ..yaml import dump, read_mapping
from .description import Package

_REQUIRED = ("cff-version", "message", "title", "authors")


def citation_file(package: Package) -> str:
    """Write ``CITATION.cff`` from the package's title, authors, citation and digests."""
    cited = f" {package.citation}" if package.citation else ""
    content = {
        "cff-version": "1.2.0",
        "type": "dataset",
        "title": package.title,
        "message": f"If you use these data, please cite them.{cited}",
        "authors": [{"name": a} for a in package.authors] or [{"name": "not recorded; see the message"}],
        "date-released": package.published,
    }
    if package.licence and " " not in package.licence:
        content["license"] = package.licence
    content["identifiers"] = [
        {"type": "other", "value": item.digest, "description": f"digest of {item.name}"}
        for item in package.items
    ]
    return dump(content)


def read_citation(path: Path) -> str:
    """Return the text of a ``CITATION.cff`` that goes into a package as it is.

    Raises
    ------
    MissingFileError, InputError
        There is no such file; it is not YAML, or lacks what the format requires.
    """
    content, text = read_mapping(path, "citation")
    missing = [key for key in _REQUIRED if key not in content]
    if missing:
        raise InputError(f"{path} is no CITATION.cff: it lacks {missing}; the format requires {_REQUIRED}")
    return text
