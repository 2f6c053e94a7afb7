"""Loading a causal language model with its tokenizer, and saying exactly which one it is."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from ..store.errors import InputError, InputTypeError, MissingFileError
from ..store.provenance import digest_bytes, digest_json
from .sites import text_config

ModelLike = str | os.PathLike[str] | nn.Module | tuple[nn.Module, PreTrainedTokenizerBase]

# of a configuration: where it came from, not what the model computes
_PASSING = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")

DEMO = Path(__file__).absolute().parents[1] / "demo" / "model"


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes
    ----------
    module
        On its device; in the mode, training or evaluation, in which it was given.
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

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows, by the rows of its embedding."""
        embedding: Any = self.module.get_input_embeddings()  # type: ignore[operator]
        return int(embedding.weight.shape[0])

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Turn dropout off as long as the ``with`` block lasts; each part then gets its mode back."""
        training = [part for part in self.module.modules() if part.training]
        self.module.eval()
        try:
            yield
        finally:
            for part in training:
                part.training = True

    def identity(self) -> dict[str, Any]:
        """Digests and settings that decide the numbers; two equal identities must give equal numbers."""
        return {
            "model": self.name,
            "revision": self.revision,
            "architecture": type(self.module).__name__,
            "config_digest": config_digest(self.module),
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
        There is no such model, or its files cannot be read.
    InputError, InputTypeError
        The files lack some of the weights; the device cannot be used; the tokenizer does not know
        character spans; something else than a model was given.
    """
    if device is not None:
        device = _check_device(device)
    if isinstance(model, tuple):
        module, tokenizer = _check_pair(model)
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
            found: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True)
            module, info = found
    except (OSError, ValueError, SafetensorError) as error:
        raise MissingFileError(f"model {name!r} cannot be loaded: {_first_line(error)}") from error
    if info["missing_keys"]:  # the library fills them with random numbers
        missing = sorted(info["missing_keys"])
        raise InputError(
            f"the files of model {name!r} lack {len(missing)} weights, such as {missing[0]!r}; "
            "give a complete model, of the kind that its config.json names"
        )
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
    if Path(source).is_file():
        raise InputError(f"a model is a folder or an id, got the file {name!r}")
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


def _check_device(device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise InputError(f"device {str(device)!r} cannot be used here: {_first_line(error)}") from error
    return chosen


def _check_pair(model: tuple[Any, ...]) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    kinds = [type(part).__name__ for part in model]
    if len(model) != 2:
        raise InputTypeError(f"a model given as a tuple must be (module, tokenizer), got {kinds}")
    module, tokenizer = model
    if not isinstance(module, nn.Module) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputTypeError(f"a model given as a tuple must be (module, tokenizer), got {kinds}")
    return module, tokenizer


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
    if not hasattr(module, "config"):
        raise InputTypeError(
            f"model must be a causal language model of transformers, got {type(module).__name__}"
        )
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of {name!r} must be a fast one: the slow kind knows no character spans"
        )
    if device is not None:
        module = module.to(device)
    if any(parameter.is_meta for parameter in module.parameters()):
        raise InputError(f"model {name!r} has parameters without values, on the device 'meta'; load them")
    return LoadedModel(module, tokenizer, name, revision)


def config_digest(module: nn.Module) -> str:
    """Digest of the settings of the architecture: activation function, rotary base, epsilon, ..."""
    config: Any = module.config
    content = json.loads(config.to_json_string(use_diff=True))
    return digest_json({k: v for k, v in content.items() if k not in _PASSING})


def weights_digest(module: nn.Module) -> str:
    """Digest of every parameter and buffer: name, type, shape and bytes, in the order of the names."""
    h = hashlib.sha256()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        h.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        h.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{h.hexdigest()}"


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of the tokenizer's whole definition and of its chat template."""
    definition = tokenizer.backend_tokenizer.to_str()
    return digest_bytes(definition.encode(), str(tokenizer.chat_template or "").encode())
