"""Loading a causal language model with its tokenizer, and saying exactly which one it is."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from ..store.errors import InputError, InputTypeError, MissingFileError
from ..store.provenance import digest_bytes
from .sites import text_config

ModelLike = str | os.PathLike[str] | nn.Module | tuple[nn.Module, PreTrainedTokenizerBase]

DEMO = Path(__file__).absolute().parents[1] / "demo" / "model"


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes
    ----------
    module
        In evaluation mode, on its device.
    tokenizer
        A fast tokenizer: it knows the character span of each token.
    name
        What the user called it.
    revision
        Commit of the model hub, where it came from there.
    """

    module: nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None

    @property
    def device(self) -> torch.device:
        """Where the first parameter is."""
        return next(self.module.parameters()).device

    @property
    def context(self) -> int | None:
        """Most tokens that the model takes, where its configuration says so."""
        limit = getattr(text_config(self.module), "max_position_embeddings", None)
        return int(limit) if limit else None

    def identity(self) -> dict[str, Any]:
        """Digests and settings that decide the numbers; two equal identities must give equal numbers."""
        return {
            "model": self.name,
            "revision": self.revision,
            "architecture": type(self.module).__name__,
            "weights_digest": weights_digest(self.module),
            "tokenizer_digest": tokenizer_digest(self.tokenizer),
            "attention_kernel": getattr(text_config(self.module), "_attn_implementation", None),
            "compute_dtype": str(next(self.module.parameters()).dtype).removeprefix("torch."),
        }


def load_model(model: ModelLike, *, device: str | torch.device | None = None) -> LoadedModel:
    """Load a model, or take a loaded one as it is.

    Parameters
    ----------
    model
        ``"demo"``, a Hugging Face id, a local folder, a loaded module, or (module, tokenizer).
    device
        Where to put a model that is loaded here; by default the GPU where there is one. A loaded
        module stays where it is unless this is given.

    Raises
    ------
    MissingFileError
        There is no such model.
    InputError, InputTypeError
        The tokenizer does not know character spans; something else than a model was given.
    """
    if isinstance(model, tuple):
        module, tokenizer = model
        return _ready(module, tokenizer, _module_name(module), None, device)
    if isinstance(model, nn.Module):
        return _ready(model, _load_tokenizer(_module_name(model)), _module_name(model), None, device)
    if not isinstance(model, (str, os.PathLike)):
        raise InputTypeError(f"model must be an id, a folder or a module, got {type(model).__name__}")
    name = os.fspath(model)
    source = str(DEMO) if name == "demo" else name
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if torch.device(device).type == "cpu" else "auto"
    _check_exists(name, source)
    try:
        with _quiet_unless_terminal():
            module = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    except (OSError, ValueError) as error:
        raise MissingFileError(f"model {name!r} cannot be loaded: {_first_line(error)}") from error
    revision = getattr(module.config, "_commit_hash", None)
    return _ready(module, _load_tokenizer(source), name, revision, device)


@contextmanager
def _quiet_unless_terminal() -> Iterator[None]:
    """Keep the library's progress bars out of logs."""
    shown = logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _check_exists(name: str, source: str) -> None:
    """Refuse a wrong path before the hub is asked for it."""
    looks_local = (
        name == "demo" or Path(source).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    )
    if looks_local and not (Path(source) / "config.json").is_file():
        raise MissingFileError(f"there is no model at {name!r}: no config.json in it")
    if not Path(source).exists():
        try:
            AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise MissingFileError(
                f"model {name!r} is neither a local folder nor an id that can be had: {_first_line(error)}"
            ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]


def _module_name(module: nn.Module) -> str:
    return str(getattr(module, "name_or_path", "") or type(module).__name__)


def _load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise MissingFileError(
            f"no tokenizer for {source!r}: {_first_line(error)}. Give (module, tokenizer)."
        ) from error
    return tokenizer


def _ready(
    module: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    revision: str | None,
    device: str | torch.device | None,
) -> LoadedModel:
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of {name!r} must be a fast one: the slow kind knows no character spans"
        )
    if device is not None:
        module = module.to(device)
    return LoadedModel(module.eval(), tokenizer, name, revision)


def weights_digest(module: nn.Module) -> str:
    """Digest of every parameter and buffer: name, type, shape and bytes, in the order of the names."""
    h = hashlib.sha256()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        h.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        h.update(tensor.view(torch.uint8).numpy().data if tensor.ndim else bytes(tensor.numpy()))
    return f"sha256:{h.hexdigest()}"


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of the tokenizer's whole definition and of its chat template."""
    definition = tokenizer.backend_tokenizer.to_str()
    return digest_bytes(definition.encode(), str(tokenizer.chat_template or "").encode())
