"""Export: recordings and results become a package that another lab can check, cite and open."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..catalog import CatalogLike, open_catalog
from ..catalog.stored_metadata import stored_metadata
from ..errors import InputError, MissingFileError
from ..licence import combine
from . import checksums, ro_crate
from .card import card
from .catalog_file import catalog_file, read_about
from .citation import citation_file, read_citation
from .container import Container, Zip, check_free, new_container
from .croissant import croissant
from .cut import Cut, TextPolicy
from .description import Item, Package, read_root
from .licence import licence_file
from .sources import Names, Source, copy_files, find_sources


def export(
    names: Names,
    out: str | os.PathLike[str],
    *,
    catalog: CatalogLike | None = None,
    layers: Sequence[int] | None = None,
    conditions: Sequence[str] | None = None,
    dtype: str | None = None,
    text: TextPolicy = "keep",
    keep_labels: Sequence[str] = (),
    packed: bool = False,
    title: str | None = None,
    authors: Sequence[str] = (),
    citation: str | os.PathLike[str] | None = None,
    licence: str | None = None,
    licence_text: str | os.PathLike[str] | None = None,
    published: str | None = None,
    progress: bool = False,
) -> str:
    """Write recordings and results as one package, with all that another lab needs to use them.

    A whole export copies the bytes, so digests stay. A part (`layers`, `conditions`, `dtype`, `text`) is a
    recording of its own, whose moments are those of its values and whose provenance names its source.
    Results are always whole. Equal content gives equal bytes.

    Parameters
    ----------
    names
        A name of the catalog or a path, or several.
    out
        A folder, or a ``.zip``; must not exist yet.
    catalog
        The catalog in which names are looked up; by default ``catalog.yaml`` here.
    layers
        Numbers of the layers of the recordings that are exported; None for all.
    conditions
        Conditions of the prompts that are exported; None for all.
    dtype
        "float16" or "float32", in which activations are exported; None for as stored.
    text
        ``"keep"``; or ``"digest"``: texts, completions, further labels of text and the prompts of the
        stored paradigm become their SHA-256, and token ids 0 (-1 on padding).
    keep_labels
        Labels that stay readable with ``text="digest"``.
    packed
        Write each entry as one ZIP file that is opened in place: few, large files, as `push` sends them.
    title
        One line; the names when left out.
    authors
        Names of those who made the data.
    citation
        How the data are cited, in one text, or the path of a ``CITATION.cff``; by default what the
        catalog says.
    licence
        SPDX expression for all of it; by default joined from the entries'.
    licence_text
        Path of a file with the licence in full.
    published
        Day, such as 2026-11-21; by default that on which the newest entry was made.
    progress
        Show a bar when on a terminal.

    Returns
    -------
    The path of the package.

    Raises
    ------
    InputError, MissingFileError, UnknownNameError
        A name leads nowhere, an entry is not finished, it has no such layer or condition, or `out` is taken.
    DamagedError
        A file of an entry is not the one that was written. Whatever is wrong, nothing is written then.
    """
    target, cut = Path(out), Cut.of(layers, conditions, dtype, text, keep_labels)
    check_free(target)
    if packed and target.suffix == ".zip":
        raise InputError(f"packed entries go into a folder, got {target}; leave packed or the .zip out")
    given = {}
    if citation is not None and os.fspath(citation).endswith(".cff"):
        given["CITATION.cff"] = read_citation(Path(citation)).encode()
    full_text = _read(licence_text)
    sources = find_sources(names, catalog)
    for source in sources:
        source.check(cut)
    with new_container(target) as (container, scratch), _bar(progress) as bar:
        items = tuple(_add(source, cut, container, scratch, bar, packed, licence) for source in sources)
        package = Package(
            title=title or ", ".join(item.name for item in items),
            items=items,
            licence=licence or combine([item.licence for item in items]),
            licence_text=full_text,
            authors=tuple(authors),
            citation=_cited(items) if citation is None or given else os.fspath(citation),
            published=published or _newest(items),
        )
        _add_metadata(package, container, given)
    return str(out)


def forecast(names: Names, cut: Cut, catalog: CatalogLike | None = None) -> Mapping[str, int]:
    """Return the bytes that each entry will take: exactly for a whole copy, at most for a part."""
    sources = find_sources(names, catalog)
    for source in sources:
        source.check(cut)
    return {source.name: source.n_bytes(cut) for source in sources}


def _bar(progress: bool) -> Any:
    return tqdm(desc="export", unit="B", unit_scale=True, disable=None if progress else True)


def _add(
    source: Source,
    cut: Cut,
    container: Container,
    scratch: Path,
    bar: Any,
    packed: bool,
    licence: str | None = None,
) -> Item:
    """Add the files of an entry; return what is known of it, under a licence where it has none of its own."""
    location = source.exported(cut, scratch)
    attrs, arrays = read_root(location)
    path = f"{source.name}.{'zip' if packed else 'zarr'}"
    if packed:
        with Zip(scratch / path) as entry:
            copy_files(location, entry, "", bar)
        container.add_file(path, scratch / path)
    else:
        copy_files(location, container, f"{path}/", bar)
    known = None if source.entry is None else source.entry.metadata
    return Item(
        name=source.name,
        path=path,
        attrs=attrs,
        arrays=arrays,
        metadata=stored_metadata(str(location)),
        description="" if source.entry is None else source.entry.description,
        licence=(known and known.licence) or attrs.get("provenance", {}).get("licence") or licence,
        citation=known.citation if known else None,
        tags=known.tags if known else (),
        n_bytes=sum(n for name, n in container.sizes.items() if name == path or name.startswith(f"{path}/")),
        sha256=container.digests[path] if packed else "",
    )


def repack(package: Path, out: Path) -> None:
    """Write a package again with each entry as one ZIP file; licence, citation and card stay.

    Raises
    ------
    InputError, MissingFileError, DamagedError
        Its catalog is none that an export wrote; an entry is damaged.
    """
    entries = open_catalog(package / "catalog.yaml")
    about = read_about(package / "catalog.yaml")
    sources = find_sources(list(entries), entries)
    kept = {name: package / name for name in ("LICENSE.txt", "README.md", "CITATION.cff")}
    given = {name: path.read_bytes() for name, path in kept.items() if path.is_file()}
    with new_container(out) as (container, scratch), _bar(False) as bar:
        items = tuple(_add(source, Cut(), container, scratch, bar, True) for source in sources)
        _add_metadata(Package(items=items, **about), container, given)


def _add_metadata(package: Package, container: Container, given: Mapping[str, bytes]) -> None:
    """Add all that describes the package; of what is given, nothing is written anew."""
    made = {
        "LICENSE.txt": licence_file(package),
        "README.md": card(package),
        "catalog.yaml": catalog_file(package),
        "croissant.json": croissant(package, container.sizes, container.digests),
    }
    if package.citation or package.authors:
        made["CITATION.cff"] = citation_file(package)
    names = sorted({*made, *given, checksums.NAME})
    made[ro_crate.NAME] = ro_crate.ro_crate(package, names)
    files = {name: text.encode() for name, text in made.items()} | dict(given)
    for name in sorted(files):
        container.add(name, files[name])
    container.add(checksums.NAME, checksums.write_sums(container.digests).encode())


def _read(path: str | os.PathLike[str] | None) -> str:
    if path is None:
        return ""
    if not Path(path).is_file():
        raise MissingFileError(f"there is no text of a licence at {path}")
    return Path(path).read_text(encoding="utf-8")


def _cited(items: Sequence[Item]) -> str:
    return " ".join(dict.fromkeys(item.citation for item in items if item.citation))


def _newest(items: Sequence[Item]) -> str:
    """Return the day on which the newest entry was made; today where none of them says."""
    return max(item.created for item in items)[:10] or datetime.now(UTC).date().isoformat()
