"""A folder in which Hugging Face `datasets` saved activations: Arrow streams, mapped and read row by row."""

import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, MissingFileError

_TOKENS = "token_ids"
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class ArrowFolder:
    """Rows of activations, each column a list (token, neuron) of one size.

    Attributes
    ----------
    path
        The folder.
    files
        Its streams, in the order of the rows.
    widths, dtypes
        Neurons and type of each column of activations.
    n_rows, n_tokens
        Rows, and tokens in each.
    has_token_ids
        Whether there is a column ``token_ids``.
    """

    path: Path
    files: tuple[Path, ...]
    widths: dict[str, int]
    dtypes: dict[str, str]
    n_rows: int
    n_tokens: int
    has_token_ids: bool
    _batches: tuple[Any, ...]
    _starts: tuple[int, ...]  # first row of each batch

    @classmethod
    def open(cls, path: Path) -> "ArrowFolder":
        """Map the streams and check that they belong together.

        Raises
        ------
        MissingFileError, InputError, MissingDependencyError
            A file is not there, is cut off, or holds something else.
        """
        files = _find(path)
        batches: list[Any] = []
        for file in files:
            for batch in _map(file):
                if batches and batch.schema.names != batches[0].schema.names:
                    raise InputError(
                        f"{file} has the columns {batch.schema.names}, {files[0].name} "
                        f"{batches[0].schema.names}; all files of a cache hold the same"
                    )
                batches.append(batch)
        if not batches:
            raise InputError(f"{path} holds no rows")
        names = batches[0].schema.names
        rows = {str(n): _matrix(batches[0].column(n), 0, f"{path}, {n!r}") for n in names if n != _TOKENS}
        if not rows:
            raise InputError(f"{path} has no column of activations; it has {names}")
        if _TOKENS in names and not all(_is_list(_flat(batch.column(_TOKENS))) for batch in batches):
            raise InputError(f"{path}: token_ids must be lists, got {batches[0].column(_TOKENS).type}")
        lengths = {len(row) for row in rows.values()}
        if len(lengths) > 1:
            raise InputError(f"{path}: the columns of a row must have as many tokens, got {sorted(lengths)}")
        ends = tuple(accumulate(batch.num_rows for batch in batches))
        return cls(
            path,
            tuple(files),
            {name: row.shape[1] for name, row in rows.items()},
            {name: row.dtype.name for name, row in rows.items()},
            ends[-1],
            lengths.pop(),
            _TOKENS in names,
            tuple(batches),
            (0, *ends[:-1]),
        )

    def read(self, column: str, row: int) -> npt.NDArray[Any]:
        """Return the activations of a row: (token, neuron).

        Raises
        ------
        InputError
            It is of another size than the first row, or lacks values.
        """
        where = f"{self.path}, {column!r}, row {row}"
        batch, place = self._find_row(row)
        values = _matrix(batch.column(column), place, where)
        if values.shape != (self.n_tokens, self.widths[column]):
            raise InputError(
                f"{where} has shape {values.shape}, the first row {(self.n_tokens, self.widths[column])}"
            )
        return values

    def read_token_ids(self, row: int) -> npt.NDArray[np.int32]:
        """Return the token ids of a row: (token,).

        Raises
        ------
        InputError
            They are not one whole number from 0 up a token.
        """
        batch, place = self._find_row(row)
        ids = _flat(batch.column(_TOKENS)).slice(place, 1).flatten()
        values = np.asarray(ids.to_numpy(zero_copy_only=False))
        if len(values) != self.n_tokens or values.dtype.kind not in "iu" or values.min() < 0:
            raise InputError(
                f"{self.path}, row {row}: token_ids must be {self.n_tokens} whole numbers from 0 up, "
                f"got {values[:5].tolist()}"
            )
        return values.astype(np.int32)

    def has_same_token_ids(self, other: "ArrowFolder") -> bool:
        """Say whether two folders hold the same tokens, as far as they name them."""
        if not (self.has_token_ids and other.has_token_ids):
            return self.has_token_ids == other.has_token_ids
        import pyarrow

        mine, theirs = (
            pyarrow.chunked_array([_flat(b.column(_TOKENS)).flatten() for b in folder._batches])
            for folder in (self, other)
        )
        return bool(mine.equals(theirs))

    def _find_row(self, row: int) -> tuple[Any, int]:
        k = bisect_right(self._starts, row) - 1
        return self._batches[k], row - self._starts[k]

    def description(self) -> dict[str, Any]:
        """Return what the folder says of itself, without paths of the machine that it was made on."""
        info = read_json(self.path / "dataset_info.json")
        info = {key: info[key] for key in ("features", "license", "citation", "description") if info.get(key)}
        config = read_json(self.path / "cache_activations_runner_cfg.json")
        return info | ({"config": _without_paths(config)} if config else {})


def read_json(path: Path) -> dict[str, Any]:
    """Return a file of JSON; {} where there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a mapping, got {type(content).__name__}")
    return content


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_paths(v) for k, v in value.items()}
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _find(path: Path) -> list[Path]:
    """List the streams of a folder, or of the pieces that it holds, in the order of the rows."""
    if not path.is_dir():
        raise MissingFileError(f"there is no folder of cached activations at {path}")
    pieces = sorted(
        (p for p in path.glob("shard_*") if re.fullmatch(r"shard_\d+", p.name)), key=lambda p: int(p.name[6:])
    )
    files = [
        file for folder in ([path] if (path / "state.json").is_file() else pieces) for file in _listed(folder)
    ]
    if not files:
        reason = "its cache was not finished" if (path / ".tmp_shards").exists() else "it has no state.json"
        raise InputError(f"{path} is no data set that `datasets` saved: {reason}")
    return files


def _listed(folder: Path) -> list[Path]:
    """List the streams that ``state.json`` names."""
    if not (folder / "state.json").is_file():
        raise MissingFileError(f"{folder} has no state.json; its cache was not finished")
    entries = read_json(folder / "state.json").get("_data_files")
    names = [e.get("filename") if isinstance(e, dict) else None for e in entries or []]
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise InputError(f"{folder / 'state.json'} names no files of the folder: {entries!r}")
    missing = [name for name in names if not (folder / str(name)).is_file()]
    if missing:
        raise MissingFileError(f"{folder} lacks {missing[0]}, which its state.json names")
    return [folder / str(name) for name in names]


def _map(file: Path) -> Iterator[Any]:
    """Map the batches of a stream; nothing is read yet."""
    import pyarrow

    try:
        source = pyarrow.memory_map(str(file))
        batches = list(pyarrow.ipc.open_stream(source))
        for batch in batches:
            batch.validate()
        source.seek(source.size() - len(_END_OF_STREAM))
        if source.read() != _END_OF_STREAM:  # a stream cut between two batches looks whole
            raise InputError(f"{file} is cut off: its stream has no end; copy or write it again")
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} is cut off or no Arrow stream: {error}") from error
    return (batch for batch in batches if batch.num_rows)


def _flat(column: Any) -> Any:
    """Return a column without its extension type, which is there once `datasets` is imported."""
    return getattr(column, "storage", column)


def _matrix(column: Any, row: int, where: str) -> npt.NDArray[Any]:
    """Read one row of a column of lists of lists: (token, neuron)."""
    tokens = _flat(column).slice(row, 1)
    lists = tokens.flatten() if _is_list(tokens) else None
    values = lists.flatten() if lists is not None and _is_list(lists) else None
    if values is None or lists is None:
        raise InputError(f"{where} must be lists (token, neuron) of numbers, got {column.type}")
    if tokens.null_count or lists.null_count or values.null_count or not len(values):
        raise InputError(f"{where} lacks values")
    widths = set(lists.value_lengths().to_numpy().tolist())
    if len(widths) > 1:
        raise InputError(f"{where}: its tokens have {sorted(widths)} neurons, not all as many")
    numbers = values.to_numpy(zero_copy_only=False).reshape(len(lists), -1)
    if numbers.dtype.name not in _FLOATS:
        raise InputError(f"{where} must be {' or '.join(_FLOATS)}, got {numbers.dtype}")
    return np.asarray(numbers)


def _is_list(array: Any) -> bool:
    import pyarrow.types as types

    return bool(
        types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type)
    )
