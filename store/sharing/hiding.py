"""Text that may not be shared is replaced by its digest, wherever an entry keeps it."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..provenance import digest_bytes
from ..yaml import dump, parse_mapping
from .description import Array

_TEXT = ("text", "completion")
_NO_TEXT = ("bool", "int", "uint", "float", "complex", "datetime", "timedelta")
_NAMES = ("id", "prompt", "condition")  # of the experiment, not of what was shown


def hidden_text(text: str) -> str:
    """Return the digest of a text; an empty one stays empty.

    >>> hidden_text("the cat")[:17]
    'sha256:70a48cc5ea'
    """
    return digest_bytes(text.encode()) if text else ""


def hidden_token_ids(token_id: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Keep which tokens are real, -1 on padding, and nothing else: ids spell the text."""
    return np.where(token_id == -1, -1, 0).astype(token_id.dtype)


def text_columns(arrays: Mapping[str, Array], keep: Collection[str]) -> list[str]:
    """List the arrays of an entry that hold text or spell it.

    Parameters
    ----------
    arrays
        By path.
    keep
        Labels that may be read.

    Returns
    -------
    Paths: ``text``, ``completion``, ``token_id``, and all further text along ``prompt``, ``token`` or
    ``item`` (questions of a probe) but the prompts' names and conditions.
    """
    return [path for path, array in arrays.items() if _holds_text(path.rpartition("/")[2], array, keep)]


def _holds_text(name: str, array: Array, keep: Collection[str]) -> bool:
    if name == "token_id":
        return True
    if array.dtype.removeprefix("numpy.").startswith(_NO_TEXT):
        return False
    shown = bool({"prompt", "token", "item"} & set(array.dims)) and name not in (*_NAMES, *keep)
    return name in _TEXT or shown


def check_kept(arrays: Mapping[str, Array], keep: Collection[str]) -> None:
    """Refuse to keep what is no label, or is the text itself.

    Raises
    ------
    InputError
        No array has that name, or it is what was to be hidden.
    """
    labels = [path for path, a in arrays.items() if a.dims == ("prompt",) and path not in _TEXT]
    unknown = [name for name in keep if name not in labels]
    if unknown:
        raise InputError(f"keep_labels must name labels of the prompts, some of {labels}, got {unknown[0]!r}")


def shared_paradigm(
    source: str, *, conditions: Collection[str] | None, hide: bool, keep: Collection[str]
) -> str:
    """Return the stored paradigm as it may be shared.

    Parameters
    ----------
    source
        Its YAML.
    conditions
        Those that are exported; None for all. Inline prompts of others are left out.
    hide
        Whether the texts of inline prompts, and a template's, become digests.
    keep
        Labels that stay readable.
    """
    if conditions is None and not hide:
        return source
    content = parse_mapping(source, "paradigm", "of the recording")
    if isinstance(content.get("prompts"), list):
        kept = [
            p for p in content["prompts"] if conditions is None or p.get("condition", "all") in conditions
        ]
        content["prompts"] = [_hidden(p, (*_NAMES, *keep)) for p in kept] if hide else kept
    if hide and "template" in content:
        template = content["template"]
        content["template"] = _hidden(template, ()) if isinstance(template, dict) else hidden_text(template)
    return dump(content)


def _hidden(values: Mapping[str, Any], keep: Collection[str]) -> dict[str, Any]:
    return {k: hidden_text(v) if isinstance(v, str) and k not in keep else v for k, v in values.items()}
