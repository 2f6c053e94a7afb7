"""Write ``languages.csv``: passages in nine languages, Python code and random characters.

The passages come from text that the demo model never saw: held-out paragraphs and documents of the corpus
in ``examples/demo_model``. Run from the root of the repository, when the model is made::

    python examples/paradigms/make_languages.py
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import string
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo_model"))

import corpus  # noqa: E402

SHORTEST, LONGEST = 45, 90  # tokens of the demo model, <bos> not counted
LICENCES = {
    "installation-guide": "GPL-2.0-only",
    "debian-reference": "GPL-2.0-or-later",
    "developers-reference": "GPL-2.0-or-later",
    "libpython": "PSF-2.0",
}
# Modules of the library that carry a notice of their own.
OWN_NOTICE = re.compile(r"cookies\.py|_compiler\.py|ElementInclude\.py")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\W\d_a-z\u0430-\u044f\u03b1-\u03c9])|(?<=。)")
COMMAND = re.compile(r"https?:|www\.|[|<>$@=\\{}*_\[\]]|--|\s/\S+/|…")


@dataclass(frozen=True)
class Candidate:
    """A passage that may become a row, and where in its book it stands."""

    text: str
    package: str
    document: str
    place: tuple[str, int]


def sentences(text: str, language: str) -> Iterator[str]:
    """Growing beginnings of `text`, each ending where a sentence does."""
    pieces = SENTENCE_END.split(text)
    for end in range(1, len(pieces) + 1):
        yield ("" if language == "ja" else " ").join(pieces[:end]).strip()


def lines(text: str) -> Iterator[str]:
    """Growing beginnings of `text`, each ending where a line does."""
    pieces = text.splitlines()
    for end in range(1, len(pieces) + 1):
        yield "\n".join(pieces[:end]).rstrip()


def longest_fit(beginnings: Iterable[str], tokenizer: Tokenizer) -> str | None:
    """Return the longest of `beginnings` that has `SHORTEST` to `LONGEST` tokens."""
    fitting = [
        text
        for text in beginnings
        if SHORTEST <= len(tokenizer.encode(text, add_special_tokens=False).ids) <= LONGEST
    ]
    return fitting[-1] if fitting else None


def is_running_prose(text: str) -> bool:
    """Whether `text` is whole sentences, without commands, addresses, lists or many figures."""
    characters = [c for c in text if not c.isspace()]
    letters = sum(c.isalpha() or c == "ー" for c in characters)
    begins = text[0].isalpha() and text[0] == text[0].upper()
    ends = text.rstrip("»”\"')」").endswith((".", "!", "?", "。"))
    digits = sum(c.isdigit() for c in characters)
    return (
        begins
        and ends
        and not COMMAND.search(text)
        and letters >= 0.9 * len(characters)
        and digits <= 0.03 * len(characters)
    )


def is_code(text: str) -> bool:
    """Whether `text` is statements rather than a comment or a docstring."""
    signs = sum(c in "()[]=:.,_" for c in text)
    quoted = '"""' in text or "'''" in text
    return len(text.splitlines()) >= 3 and signs >= 0.09 * len(text) and not quoted


def candidates(
    cache: Path, domain: str, english: frozenset[str], tokenizer: Tokenizer
) -> Iterator[Candidate]:
    """Held-out passages of one domain, out of the books or the held-out modules."""
    seen: dict[str, int] = defaultdict(int)
    for paragraph in corpus.read(cache, domain, english=english):
        seen[paragraph.document] += 1
        code = domain == "code"
        if paragraph.split == "train" or paragraph.package.startswith("manpages"):
            continue
        if code and (paragraph.split != "documents" or OWN_NOTICE.search(paragraph.document)):
            continue
        text = longest_fit(lines(paragraph.text) if code else sentences(paragraph.text, domain), tokenizer)
        if text and (is_code(text) if code else is_running_prose(text)):
            place = (Path(paragraph.document).name.split(".")[0], seen[paragraph.document] // 2)
            yield Candidate(text, paragraph.package, paragraph.document, place)


def choose(found: list[Candidate], n: int, taken: set[tuple[str, int]], seed: str) -> list[Candidate]:
    """`n` of the candidates, first those whose place in the book no other language has taken."""
    shuffled = sorted(found, key=lambda c: c.text)
    random.Random(seed).shuffle(shuffled)
    chosen = sorted(shuffled, key=lambda c: c.place in taken)[:n]
    if len(chosen) < n:
        raise ValueError(
            f"domain and seed {seed!r} have {len(chosen)} passages that fit, but {n} are wanted. "
            "Ask for fewer with --passages, or hold out more documents."
        )
    taken |= {candidate.place for candidate in chosen}
    return chosen


def random_strings(n: int, seed: str) -> Iterator[str]:
    """Strings of 60 to 140 random letters, digits, punctuation marks and spaces."""
    rng = random.Random(seed)
    alphabet = string.ascii_letters + string.digits + string.punctuation + " " * 12
    for _ in range(n):
        text = rng.choice(string.ascii_letters)
        text += "".join(rng.choices(alphabet, k=rng.randint(58, 138)))
        yield text + rng.choice(string.ascii_letters)


def rows(cache: Path, tokenizer: Tokenizer, *, n: int, seed: int) -> Iterator[tuple[str, str, str, str]]:
    """(text, condition, source, licence) of every row."""
    versions = corpus.fetch(cache)
    english = corpus.english_keys(cache)
    taken: set[tuple[str, int]] = set()
    # The domains with the fewest candidates choose first.
    chosen: dict[str, list[Candidate]] = {}
    for domain in reversed(corpus.DOMAINS):
        found = list(candidates(cache, domain, english if domain != "en" else frozenset(), tokenizer))
        chosen[domain] = choose(found, n, taken, f"{domain} {seed}")
        print(f"{domain}: {n} of {len(found)} passages")
    for domain in corpus.DOMAINS:
        for candidate in chosen[domain]:
            licence = next(value for name, value in LICENCES.items() if candidate.package.startswith(name))
            source = f"{candidate.package} {versions[candidate.package]}, {candidate.document}"
            yield candidate.text, domain, source, licence
    for text in random_strings(200, f"random {seed}"):
        yield text, "random", "generated", "CC0-1.0"


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cache", type=Path, default=Path(".cache/demo_model"), help="packages' folder")
    parser.add_argument(
        "--tokenizer", type=Path, default=HERE.parents[1] / "actome" / "demo" / "model" / "tokenizer.json"
    )
    parser.add_argument("--out", type=Path, default=HERE / "languages.csv")
    parser.add_argument("--passages", type=int, default=24, help="passages of each language")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    table = list(rows(arguments.cache, tokenizer, n=arguments.passages, seed=arguments.seed))
    with arguments.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["text", "condition", "source", "licence"])
        writer.writerows(table)


if __name__ == "__main__":
    main()
