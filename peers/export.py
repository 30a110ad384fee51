"""One model out of a peer: safetensors with the model's own names, loadable without us."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from gossip.errors import UsageError
from peers.identity import write_whole


def export_model(model: nn.Module, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write ``model.state_dict()`` whole or not at all; tied weights are written once.

    ``notes`` become the file's metadata, beside ``format: pt``. Raises UsageError when the file
    cannot be written; an older file is then untouched.
    """
    seen: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() == 0 or seen.setdefault(place, name) == name:
            tensors[name] = tensor.detach().cpu().contiguous()
    content = save(tensors, metadata={"format": "pt", **(notes or {})})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as wrong:
        raise UsageError(f"cannot write {path}: {wrong.strerror}") from wrong


def load_model(model: nn.Module, path: Path) -> nn.Module:
    """Fill ``model`` from an exported file; no code in it can run.

    Raises UsageError when the file is missing or is of another model; the model is then unchanged.
    """
    try:
        tensors = load_file(path)
    except (OSError, ValueError, SafetensorError) as wrong:
        raise UsageError(f"cannot read {path}: {wrong}") from wrong
    own = model.state_dict()
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            raise UsageError(f"{path} is of another model: {name} does not fit")
    model.load_state_dict(tensors, strict=False)
    return model
