"""The text that the demo model learns from: Debian's manuals in nine languages, and Python's library.

`read` gets the packages with ``apt-get download``, unpacks them with ``dpkg-deb -x`` (neither needs root)
and yields one `Paragraph` after another, each already assigned to training or to one of two held-out sets.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import roff

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "el", "ru", "ja")
DOMAINS = (*LANGUAGES, "code")
GUIDE = "installation-guide-amd64"
PYTHON = ("libpython3.11-stdlib", "libpython3.11-minimal")
REFERENCE = {x: f"debian-reference-{x}" for x in ("en", "de", "fr", "es", "it", "pt", "ja")}
DEVELOPERS = {x: f"developers-reference-{x}" for x in ("de", "fr", "it", "ru", "ja")} | {
    "en": "developers-reference",
}
MANUALS = {x: (f"manpages-{x}", f"manpages-{x}-dev") for x in ("de", "fr", "es", "it", "ru", "ja")} | {
    "en": ("manpages", "manpages-dev"),
    "pt": ("manpages-pt-br", "manpages-pt-br-dev"),
    "el": ("manpages-el",),
}

# Whole documents of the books that no language's model text may contain, by file name without the ending.
HELD_OUT_CHAPTERS = {
    GUIDE: {"ch01s04", "ch02s03", "ch02s04", "ch03s02", "ch03s05", "ch05s04", "ch08s05", "apcs03", "apds01"},
    "debian-reference": {"ch11"},
    "developers-reference": {"l10n", "beyond-pkging"},
}
LEFT_OUT = re.compile(r"/(apf|ape\w*|index|search|pr01|genindex|developers-reference)\b")
NOT_PROSE = re.compile(
    r"©|\(c\)|copyright|licen[cs]|lizenz|licença|лиценз|copyleft|@|warranty|SPDX", re.IGNORECASE
)
NOT_MODULES = re.compile(r"/(encodings|pydoc_data|test|tests|idlelib)/|/_sysconfigdata")
ENGLISH = frozenset("the of and to is that for with this be are by on it as if an from which".split())
SCRIPTS = {"el": "GREEK", "ru": "CYRILLIC", "ja": "CJK HIRAGANA KATAKANA"}
CJK_BREAK = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\s+(?=[\u3000-\u9fff\uff00-\uffef])")


@dataclass(frozen=True)
class Paragraph:
    """One paragraph and where it comes from."""

    domain: str
    package: str
    document: str
    text: str
    split: str  # "train", "paragraphs" (held out one by one) or "documents" (held out whole)


class _HtmlParagraphs(HTMLParser):
    """Collects the text of ``<p>`` that stands in no table of contents, sidebar or title."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._words: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"p", "pre", "table", "ul", "ol", "dl"}:
            self._close()
        if tag == "p" and dict(attrs).get("class") not in {"topless", "title", "caption", "copyright"}:
            self._words = []

    def handle_endtag(self, tag: str) -> None:
        if tag in {"p", "div", "body"}:
            self._close()

    def handle_data(self, data: str) -> None:
        if self._words is not None:
            self._words.append(data)

    def _close(self) -> None:
        if self._words:
            self.found.append("".join(self._words))
        self._words = None


def packages() -> tuple[str, ...]:
    """Names of the Debian packages that hold the texts."""
    manuals = tuple(name for names in MANUALS.values() for name in names)
    return (GUIDE, *REFERENCE.values(), *DEVELOPERS.values(), *manuals, *PYTHON)


def fetch(cache: Path) -> dict[str, str]:
    """Download and unpack what `cache` lacks.

    Returns
    -------
    dict
        Package name -> version.
    """
    debs = cache / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    missing = [name for name in packages() if not list(debs.glob(f"{name}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "download", "--quiet", *missing], cwd=debs, check=True)
    versions = {}
    for name in packages():
        deb = next(debs.glob(f"{name}_*.deb"))
        target = cache / "unpacked" / name
        if not target.exists():
            subprocess.run(["dpkg-deb", "-x", str(deb), str(target)], check=True)
        shown = subprocess.run(
            ["dpkg-deb", "-f", str(deb), "Version"], check=True, capture_output=True, text=True
        )
        versions[name] = shown.stdout.strip()
    return versions


def _text(file: Path) -> str:
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return data.decode("utf-8", errors="replace")


def _tidy(text: str) -> str:
    text = unicodedata.normalize("NFC", re.sub(r"\s+", " ", text.replace("¶", ""))).strip()
    return CJK_BREAK.sub("", text)


def _key(text: str, *, code: bool = False) -> str:
    """Return what two paragraphs that only differ in spaces, case or punctuation share."""
    return re.sub(r"\s+" if code else r"[\W\d_]+", "", text).casefold()


def _percentile(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100


def _in_language(text: str, domain: str) -> bool:
    """Whether `text` is prose of its language, by script and by the share of English function words."""
    letters = [c for c in text if c.isalpha()]
    if len(text) < (15 if domain == "ja" else 30) or len(letters) < 0.55 * len(text):
        return False
    if domain in SCRIPTS:
        own = sum(unicodedata.name(c, "").split()[0] in SCRIPTS[domain] for c in letters)
        return own > 0.5 * len(letters)
    words = re.findall(r"[^\W\d_]+", text.casefold())
    share = sum(word in ENGLISH for word in words) / len(words)
    return domain == "en" or share < 0.12


def _books(cache: Path, domain: str) -> Iterator[tuple[str, str, Path]]:
    """(package, book, file) of the HTML pages in one language."""
    roots = [(GUIDE, GUIDE, f"usr/share/doc/{GUIDE}/{domain}/*.html")]
    if domain in REFERENCE:
        roots.append((REFERENCE[domain], "debian-reference", "usr/share/debian-reference/*.html"))
    if domain in DEVELOPERS:
        folder = "" if domain == "en" else f"{domain}/"
        pattern = f"usr/share/developers-reference/{folder}*.html"
        roots.append((DEVELOPERS[domain], "developers-reference", pattern))
    for package, book, pattern in roots:
        for file in sorted((cache / "unpacked" / package).glob(pattern)):
            if not LEFT_OUT.search(f"/{file.name}"):
                yield package, book, file


def _modules(cache: Path) -> Iterator[tuple[str, str, bool, list[str]]]:
    """As `_documents`, for Python's library; a paragraph is what stands between two blank lines."""
    for package in PYTHON:
        root = cache / "unpacked" / package
        for file in sorted(root.glob("usr/lib/python3*/**/*.py")):
            name = str(file.relative_to(root))
            if not NOT_MODULES.search(name):
                blocks = [block.rstrip() for block in re.split(r"\n\s*\n", _text(file).expandtabs())]
                yield package, name, _percentile("module " + file.stem) < 5, blocks


def _documents(cache: Path, domain: str) -> Iterator[tuple[str, str, bool, list[str]]]:
    """(package, document, held out whole, raw paragraphs) of one language, books first."""
    for package, book, file in _books(cache, domain):
        parser = _HtmlParagraphs()
        parser.feed(_text(file))
        name = str(file.relative_to(cache / "unpacked" / package))
        yield package, name, file.name.split(".")[0] in HELD_OUT_CHAPTERS[book], parser.found
    for package in MANUALS[domain]:
        root = cache / "unpacked" / package
        for file in sorted(root.glob("usr/share/man/**/*.gz")):
            if not file.is_symlink():
                held_out = _percentile("page " + file.name.lower()) < 3
                yield package, str(file.relative_to(root)), held_out, list(roff.paragraphs(_text(file)))


def read(
    cache: Path, domain: str, *, english: frozenset[str] = frozenset(), percent: int = 3
) -> Iterator[Paragraph]:
    """Paragraphs of one domain, each text once.

    Parameters
    ----------
    cache
        The folder that `fetch` filled.
    domain
        One of `DOMAINS`.
    english
        Keys of the English paragraphs; one of another language that is among them was left untranslated.
    percent
        How many of a hundred paragraphs are held out, by the hash of their text.
    """
    code = domain == "code"
    # Held-out documents go first: a paragraph that they share with others is then held out with them.
    documents = sorted(_modules(cache) if code else _documents(cache, domain), key=lambda item: not item[2])
    seen: set[str] = set()
    for package, document, held_out, raw in documents:
        for text in raw:
            text = text if code else _tidy(text)
            key = _key(text, code=code)
            if not key or key in seen or key in english or NOT_PROSE.search(text):
                continue
            if len(text) < 20 if code else not _in_language(text, domain):
                continue
            seen.add(key)
            split = "documents" if held_out else "paragraphs" if _percentile(key) < percent else "train"
            yield Paragraph(domain, package, document, text, split)


def english_keys(cache: Path) -> frozenset[str]:
    """Return what `read` needs to leave out the paragraphs that a translation left in English."""
    return frozenset(_key(paragraph.text) for paragraph in read(cache, "en"))


def read_all(cache: Path) -> Iterator[Paragraph]:
    """Paragraphs of every domain, English first."""
    yield from read(cache, "en")
    english = english_keys(cache)
    for domain in DOMAINS[1:]:
        yield from read(cache, domain, english=english)


def main() -> None:
    """Print how much text of each domain falls into each split."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/demo_model"))
    cache = parser.parse_args().cache
    fetch(cache)
    sizes: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    for paragraph in read_all(cache):
        sizes[paragraph.domain, paragraph.split] += len(paragraph.text.encode())
        counts[paragraph.domain, paragraph.split] += 1
    for (domain, split), size in sizes.items():
        print(f"{domain:5} {split:11} {counts[domain, split]:7} paragraphs {size / 1e6:7.2f} MB")


if __name__ == "__main__":
    main()
