"""``ro-crate-metadata.json``: what a package holds and how it was made, in RO-Crate 1.1.

References
----------
.. [1] Soiland-Reyes et al. (2022), Data Science 5:97-138.
"""

import json
from collections.abc import Iterator
from typing import Any

from .description import Item, Package
from .licence import links

NAME = "ro-crate-metadata.json"
_ZARR = "https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html"


def ro_crate(package: Package, files: list[str]) -> str:
    """Write the file.

    Parameters
    ----------
    package
        What is described.
    files
        The files beside the entries: card, licence, checksums, ...
    """
    graph = [_descriptor(), _root(package, files), *_licences(package)]
    graph += [{"@id": name, "@type": "File", "name": name} for name in files]
    graph += [{"@id": f"#author-{i}", "@type": "Person", "name": n} for i, n in enumerate(package.authors)]
    for item in package.items:
        graph += _entry(item)
    content = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _descriptor() -> dict[str, Any]:
    return {
        "@id": NAME,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }


def _root(package: Package, files: list[str]) -> dict[str, Any]:
    parts = [_id(item) for item in package.items] + files
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": package.title,
        "description": package.title,
        "datePublished": package.published,
        "keywords": ", ".join(package.tags),
        "hasPart": [{"@id": part} for part in parts],
    }
    if package.licence:
        root["license"] = [{"@id": url} for url in links(package.licence)] or package.licence
    if package.authors:
        root["author"] = [{"@id": f"#author-{i}"} for i in range(len(package.authors))]
    if package.citation:
        root["citation"] = package.citation
    return root


def _licences(package: Package) -> Iterator[dict[str, Any]]:
    for url in links(package.licence):
        name = url.removesuffix(".html").rpartition("/")[2]
        yield {"@id": url, "@type": "CreativeWork", "name": name, "identifier": name}


def _id(item: Item) -> str:
    return item.path if item.sha256 else f"{item.path}/"


def _entry(item: Item) -> list[dict[str, Any]]:
    """Describe an entry, its digest, its variables, and the run that made it."""
    key = item.name
    entity: dict[str, Any] = {
        "@id": _id(item),
        "@type": "File" if item.sha256 else "Dataset",
        "name": item.name,
        "description": item.description or item.name,
        "contentSize": str(item.n_bytes),
        "encodingFormat": ["application/zip" if item.sha256 else "application/vnd.zarr", {"@id": _ZARR}],
        "identifier": {"@id": f"#digest-{key}"},
        "variableMeasured": [{"@id": f"#{key}/{path}"} for path in item.arrays],
    }
    if item.licence:
        entity["license"] = [{"@id": url} for url in links(item.licence)] or item.licence
    if item.citation:
        entity["citation"] = item.citation
    if item.derived_from:
        entity["isBasedOn"] = list(item.derived_from)
    if item.created:
        entity["dateCreated"] = item.created
    digest = {"@id": f"#digest-{key}", "@type": "PropertyValue", "propertyID": "manifest digest"}
    return [entity, {**digest, "value": item.digest}, *_variables(item), *_run(item)]


def _variables(item: Item) -> Iterator[dict[str, Any]]:
    for path, array in item.arrays.items():
        form = f"{array.dtype} ({', '.join(array.dims)}) {list(array.shape)}"
        said = {"description": array.meaning} if array.meaning else {}
        yield {"@id": f"#{item.name}/{path}", "@type": "PropertyValue", "name": path, "value": form, **said}


def _run(item: Item) -> Iterator[dict[str, Any]]:
    """Describe what made an entry: the software, and the inputs that its provenance names."""
    if not item.environment:
        return
    software = [{"@id": f"#software-{item.name}-{name}"} for name in item.environment]
    inputs = {**item.inputs, **({"exported part": item.cut} if item.cut else {})}
    yield {
        "@id": f"#run-{item.name}",
        "@type": "CreateAction",
        "name": f"making of {item.name}",
        "instrument": software,
        "result": {"@id": _id(item)},
        **({"endTime": item.created} if item.created else {}),
        **({"object": [{"@id": f"#input-{item.name}-{k}"} for k in inputs]} if inputs else {}),
    }
    for name, version in item.environment.items():
        yield {
            "@id": f"#software-{item.name}-{name}",
            "@type": "SoftwareApplication",
            "name": name,
            "softwareVersion": version,
        }
    for k, value in inputs.items():
        text = value if isinstance(value, str) else json.dumps(value)
        yield {"@id": f"#input-{item.name}-{k}", "@type": "PropertyValue", "name": k, "value": text}
