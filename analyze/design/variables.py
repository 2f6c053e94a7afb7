"""What a formula or a confound may name: labels of prompts, variables of tokens, and counts of both."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from ...store.blocks import valid_tokens
from ...store.errors import InputError
from ...store.moments import Bool
from ...store.schema import ROOT, text_array
from .tokens import log_frequency, token_position

Int64 = npt.NDArray[np.int64]

_OF_TOKENS: Final = {"token_position", "log_frequency"} | {v.name for v in ROOT if "token" in v.dims}
# whole numbers that say how much, not which
_AMOUNTS: Final = {"n_tokens", "token_position", "position", "char_start", "char_end"}


def prompt_labels(ds: xr.Dataset) -> pd.DataFrame:
    """Return the labels of the prompts, one row each."""
    names = [v for v in ds.coords if ds[v].dims == ("prompt",)]
    columns = {str(v): np.asarray(ds[v].to_numpy()) for v in names}
    table = {k: text_array(v).astype(object) if v.dtype.kind in "OUT" else v for k, v in columns.items()}
    return pd.DataFrame(table, index=pd.RangeIndex(ds.sizes["prompt"]))


@dataclass(frozen=True)
class Variables:
    """The variables of a recording, read when they are asked for; the cube is not.

    Attributes
    ----------
    ds
        The recording, or a part of it.
    labels
        One row a prompt.
    valid
        (prompt, token), which tokens are real; None where the Dataset has no tokens.
    count
        (prompt,), real tokens; 1 where nothing is known of tokens.
    """

    ds: xr.Dataset
    labels: pd.DataFrame
    valid: Bool | None
    count: Int64

    @classmethod
    def of(cls, ds: xr.Dataset) -> "Variables":
        """Read the labels, and which tokens are real."""
        labels = prompt_labels(ds)
        if "token" in ds.dims:
            if not {"token_id", "activation"} & set(ds.variables):
                raise InputError(
                    "the Dataset has neither token_id nor activation to tell which tokens are real"
                )
            valid = valid_tokens(ds)
            return cls(ds, labels, valid, valid.sum(axis=1).astype(np.int64))
        count = ds["count"].to_numpy() if "count" in ds.variables else np.ones(len(labels))
        return cls(ds, labels, None, count.astype(np.int64))

    def __contains__(self, name: str) -> bool:
        """Whether the recording has a variable of that name, or it can be computed."""
        if name in self.labels or name == "n_tokens" or name in self.stored_by_token():
            return True
        if name == "log_frequency":
            return "token_id" in self.stored_by_token()
        return name == "token_position" and self.valid is not None

    def stored_by_token(self) -> list[str]:
        """Return the stored variables that vary from token to token."""
        if self.valid is None:
            return []
        return [str(v) for v in self.ds.variables if set(self.ds[v].dims) == {"prompt", "token"}]

    def is_by_token(self, name: str) -> bool:
        """Whether a variable varies from token to token."""
        return name not in self.labels and name != "n_tokens"

    def is_number(self, name: str) -> bool:
        """Whether a variable is a number; text, truth values and other whole numbers are categories.

        >>> from actome.store.phantom import phantom
        >>> variables = Variables.of(phantom(n_prompts=4))
        >>> [variables.is_number(v) for v in ("run", "n_tokens", "token_id", "log_frequency")]
        [False, True, False, True]
        """
        stored = self.labels[name] if name in self.labels else self.ds.get(name)
        return name in _AMOUNTS or stored is None or stored.dtype.kind == "f"

    def refuse_hidden(self, name: str, where: str) -> None:
        """Refuse a variable of tokens where the Dataset has no tokens."""
        if name in _OF_TOKENS and name not in self.labels and self.valid is None:
            raise InputError(
                f"{where} names {name!r}, which varies from token to token; open the cube with level='token'"
            )

    def values(self, name: str) -> npt.NDArray[Any]:
        """Return a variable, (prompt,) or, where it varies from token to token, (valid token,).

        Raises
        ------
        InputError
            It has no value somewhere.
        """
        if name in self.labels:
            out = self.labels[name].to_numpy()
        elif name == "n_tokens":
            out = self.count
        elif name in self.stored_by_token():
            out = self._stored(name)
        elif name == "log_frequency":
            out = log_frequency(self._stored("token_id"))
        else:
            out = token_position(self.real())
        if out.dtype.kind == "f":
            self._refuse_missing(name, ~np.isfinite(out))
        return text_array(out) if out.dtype.kind in "OUT" else out

    def real(self) -> Bool:
        """Return which tokens are real: (prompt, token)."""
        if self.valid is None:
            raise InputError("the Dataset has no tokens; open the cube with level='token'")
        return self.valid

    def _stored(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(self.ds[name].transpose("prompt", "token").to_numpy()[self.real()])

    def _refuse_missing(self, name: str, missing: Bool) -> None:
        if not missing.any():
            return
        prompts = self.ds["prompt"].to_numpy()
        of_tokens = self.is_by_token(name)
        first = (np.repeat(prompts, self.count) if of_tokens else prompts)[missing.argmax()]
        raise InputError(
            f"{name!r} has no finite value at {missing.sum()} of {missing.size} "
            f"{'valid tokens' if of_tokens else 'prompts'}, the first in prompt {str(first)!r}; leave them "
            "out"
            + (", the first token of every prompt by ds.isel(token=slice(1, None))" if of_tokens else "")
        )
