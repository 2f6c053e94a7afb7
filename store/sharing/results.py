"""A result whose text is replaced by its digest; all others are exported byte by byte."""

import numpy as np

from ..archive import open as open_result
from ..errors import InputError
from ..location import Location
from ..results import save_result
from .cut import Cut
from .description import Array
from .hiding import hidden_text, hidden_token_ids, text_columns


def check_result(source: Location, arrays: dict[str, Array], cut: Cut) -> None:
    """Refuse a cut that a result cannot have.

    Raises
    ------
    InputError
        Conditions are chosen, and the result has numbers of every prompt; text lies in groups of it.
    """
    if cut.conditions is not None and any("prompt" in a.dims for a in arrays.values()):
        raise InputError(
            f"{source} is a result with numbers of every prompt, of which no conditions can be left out; "
            "export it without conditions="
        )
    texts = text_columns(arrays, cut.keep_labels) if cut.hides else []
    if texts and any("/" in path for path in arrays):
        raise InputError(
            f"{source} is a result with groups, in which {texts[0]} cannot be hidden; leave it out"
        )


def has_text(arrays: dict[str, Array], cut: Cut) -> bool:
    """Say whether a result holds text that the cut hides."""
    return cut.hides and bool(text_columns(arrays, cut.keep_labels))


def write_hidden(source: Location, arrays: dict[str, Array], cut: Cut, out: Location) -> None:
    """Write a result again, its text as digests; it is computed in memory, as it was when it was saved."""
    ds = open_result(str(source)).load()
    for name in text_columns(arrays, cut.keep_labels):
        values = ds[name].to_numpy()
        if name == "token_id":
            hidden = hidden_token_ids(values)
        else:
            flat = [hidden_text(str(text)) for text in values.ravel()]
            hidden = np.array(flat, dtype=object).reshape(values.shape)
        ds = (
            ds.assign({name: (ds[name].dims, hidden)})
            if name in ds.data_vars
            else ds.assign_coords({name: (ds[name].dims, hidden)})
        )
    digest = str(ds.attrs["manifest_digest"])
    save_result(ds.assign_attrs(cut=cut.noted(ds.attrs.get("cut"))), str(out), derived_from=digest)
