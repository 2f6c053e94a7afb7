"""Exactly which model: digests of its settings, its weights and its tokenizer."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..store.provenance import digest_bytes, digest_json

# of a configuration: where it came from, not what the model computes
_PASSING = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_PIECE = 2**26  # bytes taken from a device at a time, in each thread


def config_digest(module: nn.Module) -> str:
    """Digest of the settings of the architecture: activation function, rotary base, epsilon, ..."""
    config: Any = module.config
    content = json.loads(config.to_json_string(use_diff=True))
    return digest_json({k: v for k, v in content.items() if k not in _PASSING})


def weights_digest(module: nn.Module) -> str:
    """Digest of every parameter and stored buffer: name, type, shape and bytes, in the order of the names.

    Tied weights count once. Buffers that are not stored with a model follow from its configuration and
    are left out. The tensors may be on several devices; they are read piece by piece.
    """
    passing = {
        f"{prefix}.{name}".lstrip(".")
        for prefix, part in module.named_modules()
        for name in part._non_persistent_buffers_set
    }
    tensors: dict[str, torch.Tensor] = dict(module.named_parameters())
    tensors |= {name: buffer for name, buffer in module.named_buffers() if name not in passing}
    names = sorted(tensors)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        digests = pool.map(lambda name: _tensor_digest(tensors[name].detach()), names)
        parts = [name.encode() + b"\0" + digest for name, digest in zip(names, digests, strict=True)]
    return digest_bytes(*parts)


def _tensor_digest(tensor: torch.Tensor) -> bytes:
    h = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    for piece in tensor.reshape(-1).view(torch.uint8).split(_PIECE):
        h.update(piece.cpu().numpy().data)
    return h.digest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of the tokenizer's whole definition and of its chat template.

    How its last call padded and truncated is left out, although the tokenizer notes it.
    """
    definition = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    return digest_json({"definition": definition, "chat_template": str(tokenizer.chat_template or "")})
