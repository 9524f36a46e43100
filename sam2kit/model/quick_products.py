"""What float32 means to torch, while one of our passes runs: quick products on a CPU, exact convolutions on a GPU.

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

_EXACT = 1e-5  # relative error of a product; float32 makes less than 1e-6 of it, bfloat16 about 3e-3
_SIZE = 256

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
