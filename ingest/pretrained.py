"""Reading a model and its tokenizer from a folder or the hub: safetensors alone, no code unless asked for."""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging
from transformers.utils.hub import is_offline_mode  # type: ignore[attr-defined]

from ..store.errors import InputError, MissingDependencyError, MissingFileError

_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "tokenizer.model")
_UNREACHABLE = {"ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError"}


@dataclass(frozen=True)
class Source:
    """Where a model is read from.

    Attributes
    ----------
    name
        What the user called it.
    path
        A folder, or an id on the hub.
    revision
        Of an id: the branch, tag or commit.
    trust_remote_code
        The code that it brings may run.
    only_here
        The hub cannot be reached, and what is kept of it on this machine must do.
    """

    name: str
    path: str
    revision: str | None = None
    trust_remote_code: bool = False
    only_here: bool = False

    def options(self) -> dict[str, Any]:
        """Return what every ``from_pretrained`` is given."""
        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.revision is not None:
            options["revision"] = self.revision
        if self.only_here:
            options["local_files_only"] = True
        return options

    def commit(self) -> str | None:
        """Commit of a model of the hub that is on this machine."""
        if os.path.exists(self.path):
            return None
        file = huggingface_hub.try_to_load_from_cache(self.path, "config.json", revision=self.revision)
        return Path(file).parent.name if isinstance(file, str) else None


def read_config(source: Source) -> tuple[Any, Source]:
    """Read the configuration of a model; return it with the source at the commit that it is of.

    All files are then of one commit. And the library never asks the hub's bot to convert pickled
    weights, as it does for a branch: anyone can file what it then loads.

    Raises
    ------
    InputError
        A file was given, or a revision of a folder.
    MissingFileError
        There is no such model, the hub cannot be reached, or the model brings code that may not run.
    """
    name, folder = source.name, Path(source.path)
    if folder.is_file():
        raise InputError(f"a model is a folder or an id, got the file {name!r}")
    if _looks_local(source) and not (folder / "config.json").is_file():
        raise MissingFileError(f"there is no model at {name!r}: no config.json in it")
    if folder.exists() and source.revision is not None:
        raise InputError(f"a revision is of a model on the hub, and {name!r} is a folder; leave it out")
    try:
        source = _reached(source)
        config: Any = AutoConfig.from_pretrained(source.path, **source.options())
    except (OSError, ValueError) as error:
        raise MissingFileError(
            f"model {name!r} is neither a local folder nor an id that can be had: {_reason(source, error)}"
        ) from error
    if folder.exists():
        return config, source
    commit = getattr(config, "_commit_hash", None) or source.commit()
    if commit is None:
        raise MissingFileError(f"model {name!r} cannot be loaded: its files are of no commit of the hub")
    return config, replace(source, revision=commit)


def read_model(
    source: Source, config: Any, *, device: torch.device | str, dtype: str | None = None
) -> nn.Module:
    """Read the weights: of a causal language model whole, of an encoder without its head.

    They get the type `dtype`; by default float32 on the CPU, and that of the files on a GPU.

    Raises
    ------
    InputError
        The files lack some of the weights.
    MissingDependencyError
        The device is "auto", and the package that spreads a model over devices is not there.
    MissingFileError
        The files cannot be read, or the weights are pickled.
    """
    spread = {"device_map": "auto"} if str(device) == "auto" else {}
    if spread and find_spec("accelerate") is None:
        raise MissingDependencyError(
            "device='auto' needs accelerate, which is not installed here: pip install 'actome[multi-gpu]'"
        )
    on_cpu = not torch.cuda.is_available() if spread else torch.device(device).type == "cpu"
    encoder = is_encoder(config)
    try:
        with quiet_library(report=not encoder):
            found: Any = (AutoModel if encoder else AutoModelForCausalLM).from_pretrained(
                source.path,
                config=config,
                dtype=dtype or ("float32" if on_cpu else "auto"),
                use_safetensors=True,
                output_loading_info=True,
                **source.options(),
                **spread,
                **(_without_pooler(config) if encoder else {}),
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise MissingFileError(f"model {source.name!r} cannot be loaded: {_reason(source, error)}") from error
    module, info = found
    missing = sorted(k for k in info["missing_keys"] if not (encoder and k.startswith("pooler.")))
    if missing:  # the library fills them with random numbers
        raise InputError(
            f"the files of model {source.name!r} lack {len(missing)} weights, such as {missing[0]!r}; "
            "give a complete model, of the kind that its config.json names"
        )
    return module  # type: ignore[no-any-return]


def read_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a model.

    Raises
    ------
    MissingFileError
        There is none, or it cannot be read.
    """
    hint = "Give (module, tokenizer)."
    folder = Path(source.path)
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise MissingFileError(
            f"no tokenizer in {source.path!r}: none of {', '.join(_TOKENIZER_FILES)} is there. {hint}"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.path, **_reached(source).options()
        )
    except (OSError, ValueError, ImportError) as error:
        raise MissingFileError(
            f"no tokenizer for {source.path!r}: {_reason(source, error)}. {hint}"
        ) from error
    return tokenizer


def is_encoder(config: Any) -> bool:
    """Whether a model with this configuration sees the tokens on both sides, as BERT does."""
    decides = any(getattr(config, key, False) for key in ("is_decoder", "is_encoder_decoder", "causal"))
    return getattr(config, "model_type", None) in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not decides


def _reached(source: Source) -> Source:
    """Ask the hub once whether it is there; the library itself would ask for half a minute.

    Raises
    ------
    OSError
        There is no connection, and the model is not on this machine. A slow answer is none of this
        function's business.
    """
    if os.path.exists(source.path) or source.only_here:
        return source
    if is_offline_mode():
        if source.commit() is None:
            raise OSError("it is not on this machine, and HF_HUB_OFFLINE forbids to look on the hub")
        return source
    url = huggingface_hub.hf_hub_url(source.path, "config.json", revision=source.revision)
    try:
        huggingface_hub.get_hf_file_metadata(url)
    except Exception as error:  # of any HTTP library; the download that follows knows what else to say
        if _UNREACHABLE & {kind.__name__ for kind in type(error).__mro__}:
            if source.commit() is not None:
                return replace(source, only_here=True)
            host = url.split("/")[2]
            raise OSError(f"it is not on this machine, and {host} cannot be reached: {error}") from error
    return source


def first_line(error: Exception) -> str:
    """First line of what an error says."""
    return str(error).strip().split("\n", maxsplit=1)[0].rstrip(".")


def _looks_local(source: Source) -> bool:
    name = source.name
    local = Path(source.path).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    return local or name == "demo"


def _without_pooler(config: Any) -> dict[str, bool]:
    """Leave out the layer on top of the first token, which many checkpoints lack, where a model can."""
    kind: Any = MODEL_MAPPING.get(type(config), None)
    takes = isinstance(kind, type) and "add_pooling_layer" in inspect.signature(kind).parameters
    return {"add_pooling_layer": False} if takes else {}


def _reason(source: Source, error: Exception) -> str:
    """Say in one line what went wrong, and what to do where the library's first line does not."""
    folder = Path(source.path)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    only_pickled = any(n.endswith(_PICKLED) for n in names) and not any("safetensors" in n for n in names)
    only_pickled &= "no file named" in str(error)
    if only_pickled or "Please do not set `use_safetensors=True`" in str(error):  # of a folder, of the hub
        return (
            "its weights are pickled, which can run code when they are read, and none are in the safetensors "
            "format. Where you trust them, load them with transformers and write them with "
            "save_pretrained(FOLDER); then give FOLDER"
        )
    if "trust_remote_code" in str(error) and not source.trust_remote_code:
        return "it brings code of its own; read that, and where you trust it, set trust_remote_code=True"
    return first_line(error)


@contextmanager
def quiet_library(*, report: bool) -> Iterator[None]:
    """Keep progress bars out of logs; and without `report`, that a head was left out."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    if not report:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
