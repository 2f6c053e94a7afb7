"""What of a recording is exported, and how it is noted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..._version import __version__
from ..errors import InputError

TextPolicy = Literal["keep", "digest"]

_DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Cut:
    """What of a recording is exported.

    Attributes
    ----------
    layers
        Numbers of the layers; None for all. A site that has none of them is left out.
    conditions
        Conditions of the prompts; None for all.
    dtype
        "float16" or "float32"; None as stored.
    text
        "keep", or "digest": text is replaced by its digest, token ids by 0.
    keep_labels
        Labels that stay readable with ``text="digest"``.
    """

    layers: tuple[int, ...] | None = None
    conditions: tuple[str, ...] | None = None
    dtype: str | None = None
    text: TextPolicy = "keep"
    keep_labels: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        layers: Sequence[int] | None,
        conditions: Sequence[str] | None,
        dtype: str | None,
        text: str,
        keep_labels: Sequence[str],
    ) -> "Cut":
        """Check the values that do not depend on a recording.

        Raises
        ------
        InputError
            An unknown type or policy, nothing chosen, or labels kept where no text is hidden.
        """
        if dtype is not None and dtype not in _DTYPES:
            raise InputError(f"dtype must be one of {list(_DTYPES)} or None, got {dtype!r}")
        if text not in ("keep", "digest"):
            raise InputError(f"text must be 'keep' or 'digest', got {text!r}")
        for name, chosen in (("layers", layers), ("conditions", conditions)):
            if chosen is not None and (isinstance(chosen, str) or not len(chosen)):
                raise InputError(
                    f"{name} must be a list with something in it, or None for all, got {chosen!r}"
                )
        if keep_labels and text == "keep":
            raise InputError("keep_labels says what stays readable with text='digest'; give both or neither")
        numbers = None if layers is None else tuple(dict.fromkeys(int(i) for i in layers))
        names = None if conditions is None else tuple(dict.fromkeys(map(str, conditions)))
        return cls(numbers, names, dtype, text, tuple(keep_labels))  # type: ignore[arg-type]

    @property
    def hides(self) -> bool:
        """Whether text is replaced by its digest."""
        return self.text == "digest"

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out and nothing is changed."""
        return self == Cut()

    def noted(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what the provenance keeps of the cut, and of one before it."""
        given = {
            "layers": None if self.layers is None else list(self.layers),
            "conditions": None if self.conditions is None else list(self.conditions),
            "dtype": self.dtype,
            "text": self.text if self.hides else None,
            "keep_labels": list(self.keep_labels) or None,
            "before": dict(before) if before else None,
        }
        return {k: v for k, v in given.items() if v is not None} | {"actome": __version__}
