"""Loading a language model with its tokenizer, and saying exactly which one it is."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..store.errors import InputError, InputTypeError, MissingFileError
from .identity import config_digest, tokenizer_digest, weights_digest
from .pretrained import Source, first_line, is_encoder, read_config, read_model, read_tokenizer
from .probe import evaluating
from .structure import text_config

DEMO = Path(__file__).absolute().parents[1] / "demo" / "model"


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run.

    Attributes
    ----------
    module
        On its device, or spread over several; in the mode, training or evaluation, in which it was
        given.
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
        """Where the tokens go in."""
        return self._embedding().weight.device  # type: ignore[no-any-return]

    @property
    def context(self) -> int | None:
        """Most tokens that the model takes, where its configuration says so."""
        limit = getattr(text_config(self.module), "max_position_embeddings", None)
        for name, part in self.module.named_modules():
            # RoBERTa and its kin count positions from behind that of the padding
            if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
                limit = int(part.num_embeddings) - part.padding_idx - 1
        return int(limit) if limit else None

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows, by the rows of its embedding."""
        return int(self._embedding().weight.shape[0])

    @property
    def is_causal(self) -> bool:
        """Whether it gives logits of the next token; an encoder, or a model without its head, does not."""
        head = getattr(self.module, "get_output_embeddings", None)
        config: Any = self.module.config
        causal = not is_encoder(config) and not getattr(config, "is_encoder_decoder", False)
        return causal and head is not None and head() is not None

    @property
    def backbone(self) -> nn.Module:
        """The module without its language-model head, or the module itself where it has none."""
        inner = getattr(self.module, "base_model", self.module)
        if inner is self.module and self.is_causal and hasattr(self.module, "get_decoder"):
            inner = self.module.get_decoder()  # type: ignore[operator]
        return inner if isinstance(inner, nn.Module) else self.module

    def evaluating(self) -> AbstractContextManager[None]:
        """Turn dropout off as long as the ``with`` block lasts; each part then gets its mode back."""
        return evaluating(self.module)

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

    def _embedding(self) -> Any:
        return self.module.get_input_embeddings()  # type: ignore[operator]


ModelLike: TypeAlias = (
    str | os.PathLike[str] | nn.Module | tuple[nn.Module, PreTrainedTokenizerBase] | LoadedModel
)


def load_model(
    model: ModelLike,
    *,
    device: str | torch.device | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dtype: str | None = None,
) -> LoadedModel:
    """Load a model, or take a loaded one as it is.

    Parameters
    ----------
    model
        ``"demo"``, a Hugging Face id, a local folder, a loaded module, (module, tokenizer), or what
        this function gave before. A causal language model, or an encoder of the BERT family: its
        head is left out.
    device
        Where to put a model that is loaded here; by default the GPU where there is one; "auto"
        spreads it over all there are. A loaded module stays where it is unless this is given.
    revision
        Branch, tag or commit, of a model on the hub.
    trust_remote_code
        Run the code that a model brings with it, where the library has none of its kind.
    dtype
        Type of the weights of a model that is loaded here, such as "bfloat16"; by default float32 on
        the CPU, and that of its files on a GPU. A loaded module keeps its own.

    Raises
    ------
    MissingFileError
        There is no such model, it has no tokenizer, or its files cannot be read: those that are
        pickled never are. Where the environment sets HF_HUB_OFFLINE, no model is looked for on the
        hub.
    InputError, InputTypeError
        The files lack some of the weights; the device cannot be used; the tokenizer does not know
        character spans; something else than a model was given.
    MissingDependencyError
        The device is "auto", and the package accelerate is not installed.
    """
    if device is not None and str(device) != "auto":
        device = _check_device(device)
    if not isinstance(model, (str, os.PathLike)):
        if revision is not None:
            raise InputError("a revision is of a model on the hub, and a loaded one was given; leave it out")
        return _take(model, device)
    name = os.fspath(model)
    path = str(DEMO) if name == "demo" else name
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    config, source = read_config(Source(name, path, revision, trust_remote_code))
    tokenizer = read_tokenizer(source)
    _check_fast(tokenizer, name)
    module = read_model(source, config, device=device, dtype=dtype)
    return _ready(module, tokenizer, name, source.revision, None if str(device) == "auto" else device)


def _take(model: Any, device: str | torch.device | None) -> LoadedModel:
    """Take a model that is loaded already, with its tokenizer."""
    if str(device) == "auto":
        raise InputError("device='auto' is for a model that is loaded here; a loaded one was given")
    if isinstance(model, LoadedModel):
        return _ready(model.module, model.tokenizer, model.name, model.revision, device)
    if isinstance(model, tuple):
        module, tokenizer = _check_pair(model)
        return _ready(module, tokenizer, _module_name(module), None, device)
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"model must be an id, a folder or a module, got {type(model).__name__}")
    _check_kind(model)
    name = getattr(model, "name_or_path", "")
    if not name:
        raise MissingFileError(
            f"no tokenizer is known for this {type(model).__name__}, which was not loaded from a name. "
            "Give (module, tokenizer)."
        )
    return _ready(model, read_tokenizer(Source(name, name)), name, None, device)


def _ready(
    module: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    revision: str | None,
    device: str | torch.device | None,
) -> LoadedModel:
    _check_kind(module)
    _check_fast(tokenizer, name)
    places = set(getattr(module, "hf_device_map", {}).values())
    if device is not None and len(places) > 1:
        raise InputError(f"model {name!r} is spread over {len(places)} devices already; leave `device` out")
    if any(parameter.is_meta for parameter in module.parameters()):
        raise InputError(
            f"model {name!r} has parameters without values, on the device 'meta': load them; where the "
            "devices do not hold the whole model, use a smaller one"
        )
    return LoadedModel(module if device is None else module.to(device), tokenizer, name, revision)


def _check_kind(module: nn.Module) -> None:
    if not hasattr(module, "config") or not hasattr(module, "get_input_embeddings"):
        kind = type(module).__name__
        raise InputTypeError(
            f"model must be a causal language model or an encoder of transformers, got {kind}"
        )


def _check_fast(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of {name!r} must be a fast one: the slow kind knows no character spans"
        )


def _check_device(device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise InputError(f"device {str(device)!r} cannot be used here: {first_line(error)}") from error
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
