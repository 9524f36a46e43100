"""float32 matrix products on a CPU in about half the time, and still float32.

torch hands float32 products on a CPU to a library that is slow on some processors. With its switch
`torch.backends.mkldnn.matmul.fp32_precision` at "bf16" they go to oneDNN instead, which may then compute in bfloat16
where the processor has units for that, and computes in float32 where it has none. So the switch is tried once on a
small product, and used only where nothing is lost.

It is one switch for the whole process: on while any of our passes runs, and back at what it was after the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Protocol

import torch

_EXACT = 1e-5  # relative error of a product; float32 makes less than 1e-6 of it, bfloat16 about 3e-3
_SIZE = 256

_trial, _lock = Lock(), Lock()
_inside = 0  # passes that run
_before = "none"  # what the switch was before the first of them


class _Switch(Protocol):
    fp32_precision: str


@contextmanager
def quick_products() -> Iterator[None]:
    """Quick float32 products on the CPU inside of this, where they are exact on this machine."""
    switch = _switch()
    if switch is None or not products_are_exact():
        yield
        return
    _enter(switch)
    try:
        yield
    finally:
        _leave(switch)


def products_are_exact() -> bool:
    """Whether quick products keep float32's precision on this machine; False where there are none."""
    with _trial:  # a second trial would turn the switch back while a pass runs
        return _tried()


@cache
def _tried() -> bool:
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


def _switch() -> _Switch | None:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)  # torch 2.9 and later
    return matmul if hasattr(matmul, "fp32_precision") else None


def _enter(switch: _Switch) -> None:
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = switch.fp32_precision
            switch.fp32_precision = "bf16"
        _inside += 1


def _leave(switch: _Switch) -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            switch.fp32_precision = _before
