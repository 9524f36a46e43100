"""What people pass to the official interfaces: lists, arrays and tensors on any device, in several shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.predict.session import finite_numbers


def points_of(values: ArrayLike | Tensor, name: str) -> np.ndarray:
    """float32 [B, N, 2], from [N, 2] or [B, N, 2].

    Raises:
        ValueError: if they are something else, or no finite numbers.
    """
    points = array_of(values, name)
    if points.ndim not in (2, 3) or points.shape[-1] != 2:
        raise ValueError(f"{name} must be [N, 2] or [B, N, 2], got shape {list(points.shape)}")
    return points if points.ndim == 3 else points[None]


def boxes_of(values: ArrayLike | Tensor, name: str) -> np.ndarray:
    """float32 [B, 2, 2] corners, from [4], [B, 4] or corners.

    Raises:
        ValueError: if they are something else, or no finite numbers.
    """
    boxes = array_of(values, name)
    if not boxes.size or boxes.size % 4 or boxes.shape[-1] not in (2, 4):
        raise ValueError(f"{name} must be [4] or [B, 4], got shape {list(boxes.shape)}")
    return boxes.reshape(-1, 2, 2)


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
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # NumPy has no bfloat16
    return finite_numbers(values, name)
