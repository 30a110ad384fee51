"""``text``: a small transformer that predicts the next byte of a text.

Any file will do; without one, the Python sources of the standard library are the text. The last
tenth is held out. Shards are ranges of the rest, one after the other, so that peers who own
different shards learn from different passages.

Shapes: S samples, T bytes of context, D width, V bytes in use, H heads.
"""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention
from torch.optim import AdamW, Optimizer

from gossip.errors import UsageError
from peers.tasks.muon import BETAS, MuonAndAdamW
from peers.tasks.task import Batch

HELD_OUT_SHARE: Final = 0.1
HELD_OUT_SAMPLES: Final = 1024
"""Evaluated, evenly spaced over the held-out part; fewer when it is shorter."""
LIBRARY_BYTES: Final = 2_000_000
INIT_STD: Final = 0.02
"""Of all weights at the start (Radford et al., "Language models are unsupervised multitask
learners", 2019); those that end a residual branch are scaled by 1 / sqrt(2 layers)."""


INNER_NAMES: Final = ("adamw", "muon")


@dataclass(frozen=True, slots=True)
class TextTask:
    """Next-byte prediction; every field is an option.

    file     the text; empty: the standard library's sources.
    width    of the residual stream; ``heads`` must divide it.
    layers   blocks of attention and a feed-forward of four times the width.
    context  bytes seen at most.
    shards   ranges of the text.
    batch    samples a step, each of ``context`` bytes.
    inner    the optimizer: ``adamw``, or ``muon`` for the blocks' matrices and AdamW for the rest.
    lr       its step size; 8 peers did best at 0.012 with AdamW and 0.024 with Muon.
    rest     with ``muon``, the step size of AdamW's part, as a share of ``lr``.
    """

    file: str = ""
    width: int = 96
    layers: int = 3
    heads: int = 4
    context: int = 64
    shards: int = 64
    batch: int = 8
    inner: str = "adamw"
    lr: float = 3e-3
    rest: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        _require(self.heads >= 1 and self.width % self.heads == 0, "heads must divide width")
        _require(self.layers >= 1, "layers must be at least 1")
        _require(self.context >= 2, "context must be at least 2")
        _require(self.batch >= 1, "batch must be at least 1")
        _require(self.shards >= 1, "shards must be at least 1")
        _require(self.inner in INNER_NAMES, f"inner must be {' or '.join(INNER_NAMES)}")
        _require(0 < self.lr < 10, "lr must be above 0 and below 10")
        _require(0 < self.rest <= 1, "rest must be above 0 and at most 1")

    @property
    def name(self) -> str:
        """See Task."""
        return "text"

    @property
    def batch_samples(self) -> int:
        """See Task."""
        return self.batch

    def model(self, seed: int) -> nn.Module:
        """A decoder-only transformer, about 350,000 parameters at the default settings."""
        _, vocabulary = read_text(self.file)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Transformer(vocabulary, self.width, self.layers, self.heads, self.context)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """See ``inner``."""
        if self.inner == "adamw":
            return AdamW(model.parameters(), lr=self.lr, betas=BETAS)
        hidden: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            (hidden if parameter.ndim == 2 and "blocks." in name else rest).append(parameter)
        return MuonAndAdamW(hidden, rest, self.lr, rest_lr=self.rest * self.lr)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross entropy of the next byte, in nats, at every place of the context."""
        (window_ST,) = batch
        scores_STV: Tensor = model(window_ST[:, :-1])
        return cross_entropy(scores_STV.flatten(0, 1), window_ST[:, 1:].flatten())

    def shard(self, index: int) -> Batch:
        """One tensor: every window of ``context`` + 1 bytes in the shard (a view, int64)."""
        text_n, _ = read_text(self.file)
        kept = self._kept(text_n)
        start, stop = kept * index // self.shards, kept * (index + 1) // self.shards
        _require(
            stop - start > self.context,
            f"the text is too short for {self.shards} shards of more than {self.context} bytes",
        )
        return (text_n[start:stop].unfold(0, self.context + 1, 1),)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``loss`` on evenly spaced windows of the held-out part."""
        text_n, _ = read_text(self.file)
        windows_ST = text_n[self._kept(text_n) :].unfold(0, self.context + 1, 1)
        count = min(HELD_OUT_SAMPLES, windows_ST.shape[0])
        chosen_S = torch.arange(count) * (windows_ST.shape[0] - 1) // max(1, count - 1)
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                total = 0.0
                for some_S in torch.split(chosen_S, 128):
                    part = (windows_ST[some_S].to(device),)
                    total += float(self.loss(model, part)) * some_S.numel()
        finally:
            model.train(was_training)
        return {"loss": total / count}

    def describe(self) -> str:
        """See Task."""
        text_n, vocabulary = read_text(self.file)
        what = Path(self.file).name if self.file else "Python's standard library"
        return (
            f"text: {what}, {text_n.numel():,} bytes of {vocabulary} kinds, the last tenth held "
            f"out; {self.shards} shards; transformer {self.layers} x {self.width}, {self.heads} "
            f"heads, context {self.context}, batch {self.batch}, {self.inner} lr {self.lr}"
        )

    def _kept(self, text_n: Tensor) -> int:
        kept = int(text_n.numel() * (1 - HELD_OUT_SHARE))
        _require(
            text_n.numel() - kept > self.context,
            f"the text has only {text_n.numel()} bytes: a tenth must exceed the context",
        )
        return kept


class _Block(nn.Module):
    """Attention and feed-forward, each normalized first and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.norm_forward = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(4 * width, width, bias=False)

    def forward(self, x_STD: Tensor) -> Tensor:
        """The block's output, shaped as its input."""
        samples, places, width = x_STD.shape
        qkv = self.query_key_value(self.norm_attention(x_STD))
        qkv = qkv.view(samples, places, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        x_STD = x_STD + self.attended(mixed.transpose(1, 2).reshape(samples, places, width))
        return x_STD + self.narrow(gelu(self.widen(self.norm_forward(x_STD))))  # type: ignore[no-any-return]  # modules are untyped when called


class Transformer(nn.Module):
    """A decoder-only transformer with learned places."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        self.bytes = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                ends_branch = name.endswith(("attended.weight", "narrow.weight"))
                std = INIT_STD / (2 * layers) ** 0.5 if ends_branch else INIT_STD
                nn.init.normal_(parameter, std=std)

    def forward(self, window_ST: Tensor) -> Tensor:
        """Scores of each next byte, [S, T, V]."""
        x_STD = self.bytes(window_ST) + self.places.weight[: window_ST.shape[1]]
        for block in self.blocks:
            x_STD = block(x_STD)
        return self.head(self.norm(x_STD))  # type: ignore[no-any-return]  # modules are untyped when called


@lru_cache(maxsize=4)
def read_text(file: str) -> tuple[Tensor, int]:
    """The text as numbers from 0 (int64), one for each kind of byte in it, and how many kinds.

    Raises UsageError when the file cannot be read or is empty.
    """
    try:
        raw = Path(file).read_bytes() if file else _library()
    except OSError as error:
        raise UsageError(f"task text: {file} cannot be read: {error.strerror}") from error
    _require(len(raw) > 0, f"{file} is empty")
    values_n = torch.frombuffer(bytearray(raw), dtype=torch.uint8).to(torch.int64)
    kinds, numbers_n = torch.unique(values_n, return_inverse=True)
    return numbers_n, kinds.numel()


def _library() -> bytes:
    """The standard library's top-level modules in order of their names, up to 2 MB.

    They differ between versions of Python: compare runs of one version only.
    """
    pieces: list[bytes] = []
    size_bytes = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if size_bytes >= LIBRARY_BYTES:
            break
        pieces.append(path.read_bytes())
        size_bytes += len(pieces[-1])
    return b"".join(pieces)[:LIBRARY_BYTES]


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise UsageError(f"task text: {text}")
