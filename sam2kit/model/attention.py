"""Attention with separate projections, as the mask decoder and the memory attention use it; and what float32 means.

torch hands float32 products on a CPU to a library that is slow on some processors. With its switch
`torch.backends.mkldnn.matmul.fp32_precision` at "bf16" they go to oneDNN instead, in about half the time, which may
then compute in bfloat16 where the processor has units for that, and computes in float32 where it has none. So the
switch is tried once on a small product, and used only where nothing is lost.

On a CUDA GPU torch computes float32 convolutions in TF32, with 10 bits of mantissa in place of 23, unless another
switch says otherwise. Products of matrices are float32 there anyway.

A switch counts for the whole process: it is set while any of our passes runs, and back at what it was after the last.
Meanwhile torch refuses to tell its older name of the second one, `torch.backends.cudnn.allow_tf32`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.model.layers import within_range
from sam2kit.model.positions import rotate, rotate_maps

_EXACT = 1e-5  # relative error of a product; float32 makes less than 1e-6 of it, bfloat16 about 3e-3
_SIZE = 256
_WEIGHTS = 2**19  # that are in work at once: they stay near the processor
_ROWS = 256  # queries whose weights are in work at once, where those of all of them are too many
_FEW_KEYS = 16  # fewer are added up faster across the queries than along the keys
_MANY_KEYS = 4096  # more are faster in pieces than in the fused kernel, even in float32
_APPLE_WEIGHTS = 2**28  # that Apple's GPUs may hold at once: more than fit one of their buffers end the process
_TRIALS = 5  # of each kernel


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for [B, heads, L, D] tensors; a batch of 1 serves all.

    On a GPU this is the fused kernel. On a CPU the plain form is several times faster than that one as long as the
    weights stay near the processor, so work goes in pieces; and training always has the plain form there, for the sake
    of its backward.
    """
    if query.device.type == "cpu":
        if torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value)):
            return _plainly(query, key, value)
        if query.shape[1] * query.shape[2] * key.shape[2] <= _WEIGHTS:
            return _attend_by_samples(query, key, value)
        if key.shape[2] > _MANY_KEYS or query.dtype != torch.float32:
            return _attend_by_rows(query, key, value)
    query, key, value = _together(query, key, value)
    if query.device.type == "mps":
        return _attend_on_apple(query, key, value)
    if query.device.type == "cuda":  # whether every kernel there can read one sample as if it were many is not known
        query, key, value = (t.contiguous() if t.stride(0) == 0 else t for t in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value)


def _plainly(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    if key.shape[2] < _FEW_KEYS:
        weights = (key * query.shape[-1] ** -0.5) @ query.transpose(-2, -1)
        return weights.softmax(dim=-2).to(value.dtype).transpose(-2, -1) @ value
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    return weights.softmax(dim=-1).to(value.dtype) @ value


def _together(*tensors: Tensor) -> list[Tensor]:
    """All of them for as many samples."""
    batch = max(len(t) for t in tensors)
    return [t.expand(batch, -1, -1, -1) for t in tensors]


def _attend_by_samples(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Some samples, or windows, at a time."""
    at_once = max(1, _WEIGHTS // (query.shape[1] * query.shape[2] * key.shape[2]))
    parts = zip(*(t.split(at_once) for t in _together(query, key, value)), strict=True)
    done = [_plainly(*part) for part in parts]
    return done[0] if len(done) == 1 else torch.cat(done)


def _attend_by_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Some queries of one sample and head at a time."""
    query, key, value = _together(query, key, value)
    batch, heads, length, width = query.shape
    out = value.new_empty(batch, heads, length, value.shape[3])
    weights = query.new_empty(min(_ROWS, length), key.shape[2])
    with torch.autocast(query.device.type, enabled=False):
        for b in range(batch):
            for head in range(heads):
                q, k, v = query[b, head] * width**-0.5, key[b, head].T, value[b, head].to(query.dtype)
                for start in range(0, length, _ROWS):
                    rows = q[start : start + _ROWS]
                    part = torch.mm(rows, k, out=weights[: len(rows)])
                    out[b, head, start : start + _ROWS] = torch.softmax(part, dim=-1, out=part) @ v
    return out


def _attend_on_apple(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """So many queries at a time that their weights fit."""
    batch, heads, length, _ = query.shape
    at_once = max(1, _APPLE_WEIGHTS // (heads * key.shape[2]))  # queries
    samples, rows = max(1, at_once // length), min(at_once, length)
    done = []
    for some in (slice(i, i + samples) for i in range(0, batch, samples)):
        parts = query[some].split(rows, dim=2)
        done.append(torch.cat([F.scaled_dot_product_attention(q, key[some], value[some]) for q in parts], dim=2))
    return done[0] if len(done) == 1 else torch.cat(done)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator] # torch's own has no types
def narrow_values_are_quicker(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a CUDA device attends to a full memory's 64-wide values faster than to 256-wide ones.

    It is a third less work, but the quickest kernels want values as wide as keys. So both are tried, once per device.
    """
    return _tried(device, dtype)


@cache
@torch.inference_mode()
def _tried(device: torch.device, dtype: torch.dtype) -> bool:
    def seconds(width: int) -> float:
        query, key, value = (
            torch.zeros(1, 1, tokens, channels, device=device, dtype=dtype)
            for tokens, channels in ((_MANY_KEYS, 256), (7 * _MANY_KEYS, 256), (7 * _MANY_KEYS, width))
        )
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        F.scaled_dot_product_attention(query, key, value)  # libraries choose their kernels
        start.record()
        for _ in range(_TRIALS):
            F.scaled_dot_product_attention(query, key, value)
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    return seconds(64) < seconds(256)


class Attention(nn.Module):
    """Multi-head attention between two sequences of different widths.

    Args:
        dim: channels of the queries and of the result.
        heads: number of heads; must divide the inner width.
        downsample: dim / inner width.
        key_dim: channels of keys and values; None means `dim`.
    """

    def __init__(self, dim: int, *, heads: int, downsample: int = 1, key_dim: int | None = None) -> None:
        super().__init__()
        inner, key_dim = dim // downsample, key_dim or dim
        if inner % heads:
            raise ValueError(f"{heads} heads do not divide the attention width {inner}")
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(key_dim, inner)
        self.v_proj = nn.Linear(key_dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        rotary: Tensor | None = None,
        rotary_key: Tensor | None = None,
        maps: int = 1,
    ) -> Tensor:
        """Attend from query [B or 1, L, dim] to key and value [B or 1, S, key_dim].

        Args:
            rotary: [L, D / 2, 2] turns of the queries, of `rotary_table`; None for no rotation.
            rotary_key: [h * w, D / 2, 2] turns of the places of a map.
            maps: how many of such maps the keys begin with; later keys are not rotated.
        Returns:
            [B, L, dim].
        """
        q = self._queries(query)
        if rotary is not None:
            q = rotate(q, rotary)
        return self._attended(q, self.keys(key, rotary_key, maps), value, maps)

    def keys(self, key: Tensor, rotary_key: Tensor | None = None, maps: int = 1) -> Tensor:
        """[B, heads, S, D] projected keys, as `forward` turns them."""
        k = self._split(within_range(self.k_proj(key)))
        return k if rotary_key is None else rotate_maps(k, rotary_key, maps)

    def attend_to(self, query: Tensor, k: Tensor, value: Tensor, *, rotary: Tensor, maps: int) -> Tensor:
        """As `forward`, for keys that `keys` has made of so many maps and what lies behind them."""
        return self._attended(rotate(self._queries(query), rotary), k, value, maps)

    def _queries(self, query: Tensor) -> Tensor:
        return self._split(within_range(self.q_proj(query)))

    def _attended(self, q: Tensor, k: Tensor, value: Tensor, maps: int) -> Tensor:
        if self._projects_late(value, k.dtype):
            attended = within_range(self.v_proj(attend(q, k, value[:, None])))
        else:
            attended = attend(q, k, self._split(within_range(self.v_proj(value))))
        return self._joined(attended)

    def _joined(self, attended: Tensor) -> Tensor:
        return self.out_proj(attended.transpose(1, 2).flatten(2))  # [B, heads, L, D] -> [B, L, heads * D]

    def _projects_late(self, value: Tensor, dtype: torch.dtype) -> bool:
        """Whether to attend to the values as they are, and project what comes of it.

        That is the same, as the weights of a query sum to 1, and less work where values are narrow and many.
        """
        narrow = self.heads == 1 and self.v_proj.in_features < self.v_proj.out_features
        if not narrow or value.shape[1] <= _MANY_KEYS or value.device.type == "mps":
            return False
        return value.device.type == "cpu" or narrow_values_are_quicker(value.device, dtype)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, L, C] -> [B, heads, L, C / heads]


_trial = Lock()


class _Held:
    """A switch that stays where it was put until the last of those who need it there has gone.

    Args:
        find: the object that has the switch.
        name: of its attribute.
        wanted: value.
    """

    def __init__(self, find: Callable[[], Any], name: str, wanted: str | bool) -> None:
        self._find, self._name, self._wanted = find, name, wanted
        self._lock = Lock()
        self._inside = 0  # passes that run
        self._before: Any = None  # what the switch was before the first of them

    @contextmanager
    def held(self) -> Iterator[None]:
        """The switch is where it is wanted inside of this."""
        with self._lock:
            if self._inside == 0:
                self._before = getattr(self._find(), self._name)
                setattr(self._find(), self._name, self._wanted)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    setattr(self._find(), self._name, self._before)


@contextmanager
def quick_products() -> Iterator[None]:
    """Quick float32 products on the CPU inside of this, where they are exact on this machine."""
    if _switch() is None or not products_are_exact():
        yield
        return
    with _PRODUCTS.held():
        yield


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions of float32 on a CUDA GPU are float32 inside of this."""
    with (_CONVOLUTIONS if hasattr(_convolutions(), "fp32_precision") else _OLDER_CONVOLUTIONS).held():
        yield


def products_are_exact() -> bool:
    """Whether quick products keep float32's precision on this machine; False where there are none."""
    with _trial:  # a second trial would turn the switch back while a pass runs
        return _tried_products()


@cache
def _tried_products() -> bool:
    switch = _switch()
    if switch is None:
        return False
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(_SIZE, _SIZE, generator=generator) for _ in range(2))
    true = a.double() @ b.double()
    before = switch.fp32_precision
    try:
        switch.fp32_precision = "bf16"
        off = ((a @ b).double() - true).abs().max() / true.abs().max()
    except RuntimeError:  # a build without oneDNN
        return False
    finally:
        switch.fp32_precision = before
    return bool(off < _EXACT)


def _switch() -> Any:
    """The switch for products on the CPU, or None."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)  # torch 2.9 and later
    return matmul if hasattr(matmul, "fp32_precision") else None


def _convolutions() -> Any:
    """The switch for convolutions on a CUDA GPU, of torch 2.9 and later, or None."""
    return getattr(torch.backends.cudnn, "conv", None)


_PRODUCTS = _Held(lambda: _switch(), "fp32_precision", "bf16")
_CONVOLUTIONS = _Held(lambda: _convolutions(), "fp32_precision", "ieee")
_OLDER_CONVOLUTIONS = _Held(lambda: torch.backends.cudnn, "allow_tf32", False)
