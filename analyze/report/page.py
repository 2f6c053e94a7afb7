"""What a section of the report is made of; the template knows how each kind of block looks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

PIXELS = 2  # device pixels to a CSS pixel: sharp on dense screens and on paper


@dataclass(frozen=True)
class Paragraph:
    """A line or two of text."""

    text: str
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Bullets:
    """A list of statements."""

    lines: Sequence[str]
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Legend:
    """What the marks of the figures below mean: (shape, colour, meaning) each."""

    entries: Sequence[tuple[str, str, str]]
    kind: ClassVar[str] = "legend"


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI, its width in CSS pixels, and what is said about it in text."""

    source: str
    width: int
    alt: str
    title: str = ""
    caption: str = ""
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side under one caption."""

    pictures: Sequence[Picture]
    caption: str = ""
    wide: bool = False
    small: bool = False  # four in a row
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes
    ----------
    text, note
        What is shown, and a smaller line below it.
    colour
        Background, "#rrggbb"; "" for none.
    light
        The text is light, as the background is dark.
    marked
        Outlined, because it is the entry to look at.
    prose
        Text, aligned left; numbers are aligned right.
    hint
        Shown when the mouse rests on it.
    """

    text: str
    note: str = ""
    colour: str = ""
    light: bool = False
    marked: bool = False
    prose: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells, each row with its name.

    Attributes
    ----------
    corner
        Heading of the column of names.
    columns
        Headings.
    rows
        (name, cells) each.
    heat
        The cells are coloured: small, and without lines between them.
    told
        The names of the rows are sentences.
    """

    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    caption: str = ""
    heat: bool = False
    told: bool = False
    kind: ClassVar[str] = "table"

    def is_prose(self, column: int) -> bool:
        """Whether a column holds text."""
        return any(cells[column].prose for _, cells in self.rows)

    @property
    def upright(self) -> bool:
        """Whether the headings stand on end, as they would widen the columns too much."""
        return self.heat and len(self.columns) * max(map(len, self.columns), default=0) > 110


@dataclass(frozen=True)
class Record:
    """Names and values; long values fold away: (name, value, folded text) each; none for a mere heading."""

    title: str
    entries: Sequence[tuple[str, str, str]]
    folded: bool = False  # but for its title, until it is opened
    kind: ClassVar[str] = "record"


Block = Paragraph | Bullets | Legend | Picture | Gallery | Table | Record


def headed(title: str) -> list[Block]:
    """Return a heading inside a section, none for an empty one."""
    return [Record(title, [])] if title else []


def once(blocks: Sequence[Block]) -> list[Block]:
    """Leave out what a section says again: paragraphs and legends that stood in it before."""
    out: list[Block] = []
    for block in blocks:
        if not (isinstance(block, (Paragraph, Legend)) and block in out):
            out.append(block)
    return out


def captions_once(blocks: Sequence[Block]) -> list[Block]:
    """Leave out captions that another block of the section has already."""
    out: list[Block] = []
    said: set[str] = set()
    for block in blocks:
        if isinstance(block, (Table, Gallery)) and block.caption:
            out.append(replace(block, caption="") if block.caption in said else block)
            said.add(block.caption)
        else:
            out.append(block)
    return out


@dataclass(frozen=True)
class Section:
    """A heading with an anchor, and what stands below it."""

    anchor: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)
