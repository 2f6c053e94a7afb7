"""The licence of a package: an SPDX expression, its text where it is known, and its name on the Hub."""

import re

from .description import Item, Package

# licences that the Hugging Face Hub knows by their SPDX identifier in lower case
_HUB = frozenset(
    "apache-2.0 mit bsd-2-clause bsd-3-clause cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 "
    "cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 "
    "cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 "
    "cdla-permissive-2.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 isc mpl-2.0 ncsa osl-3.0 "
    "unlicense wtfpl zlib".split()
)
_ID = re.compile(r"[A-Za-z0-9.+-]+")


def identifiers(expression: str) -> list[str]:
    """Return the identifiers of an SPDX expression, each once.

    >>> identifiers("GPL-2.0-only AND (MIT OR CC0-1.0)")
    ['GPL-2.0-only', 'MIT', 'CC0-1.0']
    """
    words = _ID.findall(expression)
    return list(dict.fromkeys(w for w in words if w.upper() not in ("AND", "OR", "WITH")))


def links(expression: str | None) -> list[str]:
    """Return where the texts of an expression's licences are published."""
    return [f"https://spdx.org/licenses/{i}.html" for i in identifiers(expression or "") if "Ref-" not in i]


def hub_fields(expression: str | None) -> dict[str, str]:
    """Return the licence as the front matter of a card on the Hub gives it."""
    if expression is None:
        return {"license": "unknown"}
    if expression.lower() in _HUB:
        return {"license": expression.lower()}
    return {"license": "other", "license_name": expression, "license_link": "LICENSE.txt"}


def licence_file(package: Package) -> str:
    """Write ``LICENSE.txt``: the expression, whose it is, and the text where it was given."""
    lines = [f"SPDX-License-Identifier: {package.licence}", ""] if package.licence else []
    lines += [f"{item.name}: {_of(item)}" for item in package.items]
    published = links(package.licence)
    if published:
        lines += ["", "The texts of these licences:", *published]
    if package.licence_text:
        lines += ["", "-" * 78, "", package.licence_text.strip()]
    return "\n".join(lines) + "\n"


def _of(item: Item) -> str:
    return item.licence or "no licence is recorded; ask those who made it before you use it"
