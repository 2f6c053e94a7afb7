"""``README.md``: the dataset card of a package, with the front matter that the Hugging Face Hub reads."""

import json
from typing import Any

from ..yaml import dump
from .description import Item, Package
from .licence import hub_fields, links

_SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}


def card(package: Package) -> str:
    """Write the card."""
    parts = [
        f"---\n{dump(front_matter(package))}---",
        f"# {_line(package.title)}",
        "Activations of language models, and what was computed from them, as Zarr v3 groups that "
        "Actome, xarray and any other reader of Zarr open.",
        _contents(package),
        *(_origin(item) for item in package.items),
        *_hidden(package),
        _use(package),
        _terms(package),
    ]
    return "\n\n".join(parts) + "\n"


def front_matter(package: Package) -> dict[str, Any]:
    """Return the front matter: licence, title, tags and size, as the Hub names them."""
    return {
        **hub_fields(package.licence),
        "pretty_name": _line(package.title),
        "tags": list(package.tags),
        "size_categories": [_size_category(package)],
        "viewer": False,  # the Hub would look for tables in the files
    }


def _size_category(package: Package) -> str:
    """Count the prompts, as the Hub counts rows."""
    n = sum(item.shape.get("prompt", 0) for item in package.items if item.is_recording)
    return next((name for most, name in _SIZES.items() if n < most), "10M<n<100M")


def _contents(package: Package) -> str:
    rows = [
        f"| `{item.name}` | {_line(item.description) or _kind(item)} | "
        f"{', '.join(f'{d} {n}' for d, n in item.shape.items())} | {item.n_bytes:,} | `{item.digest[7:19]}` |"
        for item in package.items
    ]
    head = "| entry | what it is | sizes | bytes | digest |\n|---|---|---|---|---|"
    return "\n".join(["## Contents\n", head, *rows])


def _kind(item: Item) -> str:
    kind = str(item.attrs.get("kind", "result"))
    return f"{kind}, sites {', '.join(item.sites)}" if item.is_recording else kind


def _origin(item: Item) -> str:
    """Say where an entry's numbers come from, as far as its provenance does."""
    known: dict[str, Any] = {"created": item.created, **item.inputs}
    if item.derived_from:
        known["derived from"] = list(item.derived_from)
    if item.cut:
        known["exported part"] = item.cut
    known["made with"] = ", ".join(f"{k} {v}" for k, v in item.environment.items())
    lines = [f"- {key.replace('_', ' ')}: {_value(value)}" for key, value in known.items() if value]
    return "\n".join([f"## Where `{item.name}` comes from\n", *lines, f"- digest: `{item.digest}`"])


def _value(value: Any) -> str:
    return _line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _hidden(package: Package) -> list[str]:
    names = [f"`{item.name}`" for item in package.items if item.cut.get("text") == "digest"]
    if not names:
        return []
    return [
        f"## Text that is not shared\n\nIn {', '.join(names)} every text is replaced by its SHA-256, and "
        "every token id by 0 (-1 on padding), because ids spell the text. Spans and log probabilities are as "
        "recorded. Who has the texts can match them by digest; a short text can be guessed from its."
    ]


def _use(package: Package) -> str:
    first = package.items[0]
    return f"""## Use

```sh
sha256sum -c --quiet SHA256SUMS
actome import . -o ARCHIVE
```

```python
import actome

ds = actome.open({json.dumps(first.name)}, catalog="catalog.yaml")
```"""


def _terms(package: Package) -> str:
    lines = [f"## Licence and citation\n\n{package.licence or 'No licence is known for all of it.'}"]
    lines += [f"- <{url}>" for url in links(package.licence)]
    if package.authors:
        lines += ["", f"Made by {_line(', '.join(package.authors))}."]
    lines += ["", f"Cite as: {_line(package.citation)}"] if package.citation else []
    return "\n".join(lines)


def _line(text: str) -> str:
    """Keep a text in one line, and in one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")
