"""``croissant.json``: what a package holds, in Croissant 1.0 (MLCommons).

References
----------
.. [1] Akhtar et al. (2024), Croissant: a metadata format for ML-ready datasets, DEEM '24.
"""

import json
from collections.abc import Mapping
from typing import Any

from .description import Item, Package
from .licence import links

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        word: f"cr:{word}"
        for word in (
            "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes "
            "isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
            "samplingRate separator source subField transform"
        ).split()
    },
}


def croissant(package: Package, sizes: Mapping[str, int], digests: Mapping[str, str]) -> str:
    """Write the file.

    Parameters
    ----------
    package
        What is described.
    sizes, digests
        Bytes and SHA-256 (hexadecimal) of the members, by name.
    """
    content: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": package.title,
        "description": f"{package.title}: {', '.join(_said(item) for item in package.items)}",
        "version": "1.0.0",
        "datePublished": package.published,
        "keywords": list(package.tags),
        "license": links(package.licence) or package.licence,
        "creator": [{"@type": "sc:Person", "name": name} for name in package.authors],
        "citeAs": package.citation,
        "isLiveDataset": False,
        "distribution": [part for item in package.items for part in _distribution(item, sizes, digests)],
    }
    return json.dumps({k: v for k, v in content.items() if v not in (None, "", [])}, indent=2) + "\n"


def _said(item: Item) -> str:
    return item.description or item.name


def _distribution(item: Item, sizes: Mapping[str, int], digests: Mapping[str, str]) -> list[dict[str, Any]]:
    """Describe an entry's ZIP file; of a folder, its manifest and the set of its files."""
    if item.sha256:
        return [_file(item.path, item.path, "application/zip", sizes, digests, _said(item))]
    manifest = f"{item.path}/actome/manifest.json"
    return [
        _file(
            manifest, manifest, "application/json", sizes, digests, f"SHA-256 of every file of {item.name}"
        ),
        {
            "@type": "cr:FileSet",
            "@id": item.path,
            "name": item.name,
            "description": _said(item),
            "encodingFormat": "application/vnd.zarr",
            "includes": f"{item.path}/**",
        },
    ]


def _file(
    identifier: str,
    name: str,
    encoding: str,
    sizes: Mapping[str, int],
    digests: Mapping[str, str],
    description: str,
) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": identifier,
        "name": name,
        "description": description,
        "contentUrl": name,
        "contentSize": f"{sizes[name]} B",
        "encodingFormat": encoding,
        "sha256": digests[name],
    }
