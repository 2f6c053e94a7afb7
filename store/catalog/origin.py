"""Where a catalog is, and where the locations that it lists lead: never out of its folder unseen."""

import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import InputError, MissingFileError
from ..safe_names import climbs
from ..yaml import MAX_BYTES, decode, parse_mapping, read_mapping

TEMPLATE: Final = "{{ CATALOG_DIR }}"
PROTOCOLS: Final = ("abfs", "az", "file", "gs", "hf", "http", "https", "memory", "s3")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # of two letters at least: C: is a drive


@dataclass(frozen=True)
class Origin:
    """The file that lists some entries.

    Attributes
    ----------
    file
        Its path or URL, as it was given.
    folder
        Absolute path or URL of its folder: what ``{{ CATALOG_DIR }}`` stands for.
    is_local
        Whether it lies on a disk of this machine.
    """

    file: str
    folder: str
    is_local: bool

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "Origin":
        """Locate a catalog.

        Raises
        ------
        InputError
            A URL of a protocol that no catalog is read through.
        """
        text = os.fspath(path).removeprefix("file://")
        if "://" not in text:
            return cls(text, str(Path(text).absolute().parent), True)
        origin = cls(text, text.rpartition("/")[0], False)
        origin._check_url(text, "its own address")
        return origin

    def __str__(self) -> str:
        """Return the path or URL of the file."""
        return self.file

    def read(self) -> dict[str, Any]:
        """Read the document, of at most 32 MiB.

        Raises
        ------
        MissingFileError, InputError, StorageError
            There is no such file, it is not YAML or not a mapping, or it cannot be reached.
        """
        if self.is_local:
            return read_mapping(Path(self.file), "catalog")[0]
        return parse_mapping(decode(self._fetch(), "catalog", self.file), "catalog", self.file)

    def _fetch(self) -> bytes:
        from ..location import Location

        content = b""
        try:
            for piece in Location.of(self.folder).pieces(self.file.rpartition("/")[2]):
                content += piece
                if len(content) > MAX_BYTES:
                    break  # the rest would be refused
        except FileNotFoundError as error:
            raise MissingFileError(f"there is no catalog file at {self.file}") from error
        return content

    def locate(self, urlpath: str, name: str) -> str:
        """Return the path or URL that the entry `name` gives, by its text alone; no slash ends it.

        Raises
        ------
        InputError
            It leads out of the folder, has a template of another kind or a protocol that is not
            allowed, or is a path of this machine in a catalog that is not on it.
        """
        whose = f"entry {name!r}"
        if not urlpath or not urlpath.isprintable() or "\\" in urlpath:
            raise self._error(f"{whose}: a location is a path with / or a URL, got {urlpath!r}")
        if climbs(urlpath):
            raise self._error(f"{whose} leads out of the catalog's folder: {urlpath!r}")
        inside = urlpath.removeprefix(TEMPLATE)
        has_template = inside != urlpath
        if "{{" in inside or "{%" in inside or (has_template and not inside.startswith("/")):
            raise self._error(
                f"{whose}: the one template is '{TEMPLATE}' at the start, before a /, got {urlpath!r}"
            )
        if _SCHEME.match(urlpath) or "://" in inside or "::" in inside:
            self._check_url(urlpath, whose)
            return _without_end(urlpath)
        if not has_template and os.path.isabs(urlpath):
            if not self.is_local:
                raise self._error(f"{whose}: a path of one machine, got {urlpath!r}; write a relative one")
            return _without_end(urlpath)
        below = posixpath.normpath(inside.lstrip("/"))
        return self.folder if below == "." else f"{self.folder.rstrip('/')}/{below}"

    def check_links(self, urlpath: str, path: str, name: str) -> None:
        """Refuse a relative location that a symbolic link leads out of the folder.

        Parameters
        ----------
        urlpath, path
            What the entry `name` gives, and what `locate` made of it.

        Raises
        ------
        InputError
            It does.
        """
        if not self.is_local or os.path.isabs(urlpath) or "://" in urlpath:
            return
        folder, real = os.path.realpath(self.folder), os.path.realpath(path)
        if not f"{real}/".startswith(f"{folder.rstrip('/')}/"):
            raise self._error(f"entry {name!r}: a link leads out of the folder: {urlpath!r} is at {real}")

    def _check_url(self, url: str, whose: str) -> None:
        protocol, colon, rest = url.partition("://")
        if not colon or protocol not in PROTOCOLS or "::" in url:
            raise self._error(f"{whose}: a URL is of {', '.join(PROTOCOLS)}, not chained, got {url!r}")
        if protocol == "file" and not (rest.startswith("/") and self.is_local):
            raise self._error(
                f"{whose}: file:// is for absolute paths and a catalog beside them, got {url!r}"
            )

    def _error(self, problem: str) -> InputError:
        return InputError(f"catalog {self}: {problem}")


def _without_end(path: str) -> str:
    """Leave slashes at the end out, but for those that name a root."""
    cut = path.rstrip("/")
    return path if not cut or cut.endswith(":") else cut
