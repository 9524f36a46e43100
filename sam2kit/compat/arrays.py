"""What people pass to the official interfaces: lists, arrays and tensors on any device, in several shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.predict.session import finite_numbers


def boxes_of(values: ArrayLike | Tensor, name: str) -> np.ndarray:
    """float32 [B, 2, 2] corners, from [4], [B, 4] or corners.

    Raises:
        ValueError: if they are something else, or no finite numbers.
    """
    boxes = array_of(values, name)
    if not boxes.size or boxes.size % 4 or boxes.shape[-1] not in (2, 4):
        raise ValueError(f"{name} must be [4] or [B, 4], got shape {list(boxes.shape)}")
    return boxes.reshape(-1, 2, 2)


def array_of(values: ArrayLike | Tensor, name: str) -> np.ndarray:
    """float32 of the same shape.

    Raises:
        ValueError: if they are no finite numbers.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # NumPy has no bfloat16
    return finite_numbers(values, name)
