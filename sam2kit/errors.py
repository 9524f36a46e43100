"""What goes wrong, told apart: files of another shape than expected, and devices that are full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import torch

# what a file of another shape than expected makes Python stumble over
ODD = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
# what a RuntimeError says when a device is full: Apple's GPUs and CUDA's driver, CPUs, cuBLAS and cuDNN
_FULL = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")


def is_out_of_memory(error: object) -> bool:
    """Whether an error says that a device is full: only CUDA's allocator has a class of its own for it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    told = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in told for words in _FULL)


def refuse_unknown_keys(stated: Iterable[str], known: Iterable[str], where: str, aliases: Mapping[str, str]) -> None:
    """Check the keys that somebody wrote: a misspelt one must not be passed over.

    Args:
        where: what holds the keys, as it is called in the error.
        aliases: what other programs call them -> the key that is meant.
    Raises:
        ValueError: for the first key that is not known; names the one that was meant, or all.
    """
    known = list(known)
    for key in stated:
        if key not in known:
            near = [aliases[key]] if key in aliases else get_close_matches(str(key), known, n=1)
            told = f'did you mean "{near[0]}"?' if near else f"known are: {', '.join(known)}"
            raise ValueError(f'{where} has the unknown key "{key}"; {told}')
