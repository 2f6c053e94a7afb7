"""The catalog: the table of contents of a lab's archive, read strictly; nothing in one is executed."""

from .entry import Entry
from .listing import Catalog
from .opening import CatalogLike, open_catalog, resolve

__all__ = ["Catalog", "CatalogLike", "Entry", "open_catalog", "resolve"]
