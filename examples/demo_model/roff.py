"""Manual pages to plain paragraphs: a light reader of the man macros, without groff.

It keeps running prose and leaves out tables, code samples, tags of option lists and macro definitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

BREAKS = {"SH", "SS", "PP", "P", "LP", "IP", "HP", "TP", "TQ", "RS", "RE", "sp", "br", "Sp", "bp"}
# Macro -> the macro that ends what is left out.
LEFT_OUT = {"nf": "fi", "EX": "EE", "TS": "TE", "de": ".", "ig": ".", "Vb": "Ve", "SY": "YS"}
ONE_FONT = {"B", "I", "SM", "SB", "R"}
TWO_FONTS = {"BR", "IR", "RB", "RI", "BI", "IB"}
CHARACTERS = {
    "aq": "'",
    "dq": '"',
    "em": "—",
    "en": "\u2013",
    "bu": "•",
    "co": "©",
    "rs": "\\",
    "cq": "\u2019",
    "oq": "\u2018",
    "lq": "“",
    "rq": "”",
    "ti": "~",
    "ha": "^",
    "ga": "`",
    "hy": "-",
    "mi": "-",
    "pl": "+",
    "mu": "\u00d7",
    "->": "→",
    "<-": "←",
    "<=": "≤",
    ">=": "≥",
    "!=": "≠",
    "Fo": "«",
    "Fc": "»",
    "sq": "□",
    "at": "@",
    "12": "½",
    "14": "¼",
    "ss": "ß",
    ":u": "ü",
    ":o": "ö",
    ":a": "ä",
    "+-": "±",
    "de": "°",
    "R": "®",
}
NAMED = re.compile(r"\\(?:\((..)|\[([^\]]*)\]|\*\((..)|\*\[([^\]]*)\])")
FONT = re.compile(
    r"\\f(?:\(..|\[[^\]]*\]|.)|\\s[-+]?\d|\\m\[[^\]]*\]|\\[hvwkDlL]'[^']*'|\\n(?:\(..|\[[^\]]*\]|.)"
)
COMMENT = re.compile(r"\\[\"#].*")
ARGUMENT = re.compile(r'"((?:[^"]|"")*)"|((?:\\ |\S)+)')


def unescape(line: str) -> str:
    """Replace the escapes of one line of roff by the characters that they stand for."""
    line = FONT.sub("", COMMENT.sub("", line))
    line = NAMED.sub(lambda m: CHARACTERS.get(next(g for g in m.groups() if g is not None), ""), line)
    line = re.sub(r"\\[-]", "-", line)
    line = re.sub(r"\\[ ~0]", " ", line)
    line = line.replace("\\e", "\x00")
    line = re.sub(r"\\[&/,|^%:cud{}!]", "", line)
    return re.sub(r"\\(['`.])", r"\1", line).replace("\\", "").replace("\x00", "\\")


def _macro_text(name: str, rest: str) -> str | None:
    """Text that a font macro puts into the paragraph; None for a macro without text."""
    arguments = [a.replace('""', '"') if a else b for a, b in ARGUMENT.findall(COMMENT.sub("", rest))]
    if name in ONE_FONT:
        return unescape(" ".join(arguments))
    if name in TWO_FONTS:
        return unescape("".join(arguments))
    return None


def paragraphs(page: str) -> Iterator[str]:
    """Paragraphs of prose of one page written with the man macros, in order.

    Parameters
    ----------
    page
        The source of the page. Pages in the mdoc macros and pages that only include another give nothing.
    """
    if re.search(r"^\.(Dd|so)\b", page, re.MULTILINE):
        return
    words: list[str] = []
    until = ""  # the macro that ends what is being left out
    tag_follows = False
    for line in page.splitlines():
        control = re.match(r"[.']\s*(\S*)\s*(.*)", line)
        name, rest = control.groups() if control else ("", line)
        if until:
            if control and name == until:
                until = ""
            continue
        if control and name.startswith('\\"'):
            continue
        if control and (name in BREAKS or name in LEFT_OUT):
            yield " ".join(words)
            words = []
            until = LEFT_OUT.get(name, "")
            tag_follows = name in {"TP", "TQ"}
            continue
        text = _macro_text(name, rest) if control else unescape(line)
        if tag_follows and text is not None:
            tag_follows = False
        elif text is not None and text.strip():
            words.append(text.strip())
        elif not control:
            yield " ".join(words)
            words = []
    yield " ".join(words)
