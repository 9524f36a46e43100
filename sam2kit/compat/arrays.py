"""What people pass to the official interfaces: lists, arrays and tensors on any device, in several shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.predict.session import finite_numbers


def rows_of(values: ArrayLike | Tensor, name: str, width: int) -> np.ndarray:
    """float32 [..., width].

    Raises:
        ValueError: if they are something else than rows of this many finite numbers.
    """
    rows = array_of(values, name)
    if not rows.ndim or rows.shape[-1] != width:
        raise ValueError(f"{name} must be rows of {width} numbers, got shape {list(rows.shape)}")
    return rows


def labels_of(values: ArrayLike | Tensor, name: str, known: tuple[int, ...]) -> np.ndarray:
    """int64 of the same shape.

    Raises:
        ValueError: if there are other labels than the known ones.
    """
    labels = array_of(values, name)
    if not np.isin(labels, known).all():
        wanted = ", ".join(map(str, known))
        raise ValueError(f"{name} must be among {wanted}, got {np.unique(labels).tolist()!r:.80}")
    return labels.astype(np.int64)


def array_of(values: ArrayLike | Tensor, name: str) -> np.ndarray:
    """float32 of the same shape.

    Raises:
        ValueError: if they are no finite numbers.
    """
    return finite_numbers(values.detach().cpu() if isinstance(values, Tensor) else values, name)
