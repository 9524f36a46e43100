"""What a person asks for: clicks, a box, a rough mask. Validated once, here.

Before geometry.py, which moves it into the model's square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.model.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, NEGATIVE, NOT_A_POINT, POSITIVE
from sam2kit.model.sam2 import PromptTensors
from sam2kit.predict.geometry import points_to_square

MOST_POINTS = 1000  # of one prompt; the decoder looks at each pair of them
_LABELS = {POSITIVE: "this", NEGATIVE: "not this", NOT_A_POINT: "no point"}


@dataclass(frozen=True, init=False, eq=False)
class Prompt:
    """One prompt, or B prompts of the same form, in pixels of the original picture.

    Args:
        points_xy: [N, 2] or [B, N, 2] clicks (x, y).
        labels: [N] or [B, N]: 1 "this", 0 "not this" (-1 fills up a shorter row); all 1 when left out.
        box_xyxy: [4] or [B, 4] boxes (x0, y0, x1, y1).
        mask_logits: [1, h, w] or [B, 1, h, w] low-res mask logits of an earlier answer.
    Raises:
        ValueError: if shapes, labels or numbers cannot be used; says what was wanted.
    """

    points_xy: Tensor | None  # [B, N, 2] float32
    labels: Tensor | None  # [B, N] int64
    box_xyxy: Tensor | None  # [B, 4] float32
    mask_logits: Tensor | None  # [B, 1, h, w] float32

    def __init__(
        self,
        points_xy: ArrayLike | Tensor | None = None,
        labels: ArrayLike | Tensor | None = None,
        box_xyxy: ArrayLike | Tensor | None = None,
        mask_logits: ArrayLike | Tensor | None = None,
    ) -> None:
        points = batched(points_xy, 3, "points_xy", "[N, 2] or [B, N, 2]", last=2)
        boxes = batched(box_xyxy, 2, "box_xyxy", "[4] or [B, 4]", last=4)
        masks = batched_masks(mask_logits, "mask_logits")
        if boxes is not None and bool((boxes[:, :2] > boxes[:, 2:]).any()):
            raise ValueError("box_xyxy must be (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1")
        check_count(0 if points is None else points.shape[1])
        marks = checked_labels(labels, points)
        if points is None and boxes is None and masks is None:
            raise ValueError("an empty prompt: give points_xy, box_xyxy or mask_logits")
        check_same_number(points, boxes, masks)
        object.__setattr__(self, "points_xy", points)
        object.__setattr__(self, "labels", marks)
        object.__setattr__(self, "box_xyxy", boxes)
        object.__setattr__(self, "mask_logits", masks)

    def __len__(self) -> int:
        return next(len(t) for t in (self.points_xy, self.box_xyxy, self.mask_logits) if t is not None)

    @property
    def is_ambiguous(self) -> bool:
        """True for a single click: it may mean a thing or a part of it."""
        return self.points_xy is not None and self.points_xy.shape[1] == 1 and self.box_xyxy is None

    def to_square(self, size_hw: tuple[int, int], side: int, device: torch.device) -> PromptTensors:
        """Move the prompt into the model's square; a box becomes two points before the clicks.

        Args:
            size_hw: height and width of the picture, in pixels.
            side: edge of the square.
        Raises:
            ValueError: if a point or a whole box lies outside the picture.
        """
        if self.box_xyxy is not None:
            _check_boxes(self.box_xyxy, size_hw)
        if self.points_xy is not None:
            assert self.labels is not None, "each click has a label"
            _check_points(self.points_xy[self.labels != NOT_A_POINT], size_hw)
        clicks = points_and_labels(self.points_xy, self.labels, self.box_xyxy)
        return prompt_tensors(clicks, self.mask_logits, size_hw, side, device)


def points_and_labels(
    points_xy: Tensor | None, labels: Tensor | None, box_xyxy: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Clicks [B, N, 2] with labels [B, N], and boxes [B, 4] as two points before them; None if there are neither."""
    points, marks = [], []
    if box_xyxy is not None:
        points.append(box_xyxy.unflatten(1, (2, 2)))
        corners = torch.tensor([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]], device=box_xyxy.device)
        marks.append(corners.expand(len(box_xyxy), -1))
    if points_xy is not None and labels is not None:
        points.append(points_xy)
        marks.append(labels)
    return (torch.cat(points, dim=1), torch.cat(marks, dim=1)) if points else None


def prompt_tensors(
    clicks: tuple[Tensor, Tensor] | None,
    mask_logits: Tensor | None,
    size_hw: tuple[int, int],
    side: int,
    device: torch.device,
) -> PromptTensors:
    """Points with labels and a mask prompt, moved into the model's square; points may lie anywhere.

    Args:
        clicks: as `points_and_labels` gives them, in pixels of the picture.
        mask_logits: [B, 1, h, w] low-res mask logits.
        size_hw: height and width of the picture, in pixels.
        side: edge of the square.
    """
    mask = None if mask_logits is None else mask_logits.to(device)
    if clicks is None:
        return PromptTensors(mask_logits=mask)
    points, labels = clicks
    return PromptTensors(points_to_square(points, size_hw, side).to(device), labels.to(device), mask)


def check_count(points: int) -> None:
    """Refuse more clicks than one prompt can have.

    Raises:
        ValueError: says how many came.
    """
    if points > MOST_POINTS:
        raise ValueError(f"a prompt has {points} points, and {MOST_POINTS} are the most; give a mask instead")


def check_same_number(*parts: Tensor | None) -> None:
    """Refuse parts that are for different numbers of prompts, which come first in their shapes.

    Raises:
        ValueError: says how many they are for.
    """
    sizes = {len(part) for part in parts if part is not None}
    if len(sizes) > 1:
        raise ValueError(f"points, boxes and masks must be for the same number of prompts, got {sorted(sizes)}")


def batched(
    values: ArrayLike | Tensor | None,
    ndim: int,
    name: str,
    wanted: str,
    *,
    last: int | None = None,
    may_be_empty: bool = False,
) -> Tensor | None:
    """float32 tensor of `ndim` dimensions on the CPU; a missing batch axis is added.

    Args:
        name, wanted: what it is and what shape it should have, for messages.
        last: how long the last axis must be.
        may_be_empty: whether it may hold no number at all.
    Raises:
        ValueError: if it is something else, or not finite.
    """
    if values is None:
        return None
    try:
        tensor = torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values)).detach().cpu()
        if tensor.is_complex():
            raise TypeError("complex numbers are no places")
        tensor = tensor.float()
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{name} must be {wanted} of numbers, got {values!r:.80}") from error
    if tensor.ndim == ndim - 1:
        tensor = tensor[None]
    if tensor.ndim != ndim or (last is not None and tensor.shape[-1] != last) or not (tensor.numel() or may_be_empty):
        raise ValueError(f"{name} must be {wanted}, got shape {list(tensor.shape)}")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} must be finite numbers, got NaN or infinity")
    return tensor


def batched_masks(values: ArrayLike | Tensor | None, name: str) -> Tensor | None:
    """float32 [B, 1, h, w] low-res mask logits on the CPU.

    Raises:
        ValueError: if they are something else, or not finite.
    """
    wanted = "[1, h, w] or [B, 1, h, w]"
    masks = batched(values, 4, name, wanted)
    if masks is not None and masks.shape[1] != 1:
        raise ValueError(f"{name} must be {wanted}, got {list(masks.shape)}")
    return masks


def checked_labels(
    labels: ArrayLike | Tensor | None, points: Tensor | None, known: dict[int, str] = _LABELS
) -> Tensor | None:
    """int64 [B, N] labels on the CPU, one per point [B, N, 2]; all 1 if there are none, None without points.

    Args:
        known: labels that may be used, and what they mean.
    Raises:
        ValueError: if they do not fit the points, or are others.
    """
    if points is None:
        if labels is not None:
            raise ValueError("labels were given without points_xy")
        return None
    if labels is None:
        return torch.ones(points.shape[:2], dtype=torch.int64)
    try:
        given = torch.as_tensor(np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels, np.float64))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"labels must be one number per point, got {labels!r}") from error
    if given.ndim == 1:
        given = given[None]
    if given.shape != points.shape[:2]:
        raise ValueError(f"labels must be one per point, {list(points.shape[:2])}, got shape {list(given.shape)}")
    if not bool(torch.isin(given, torch.tensor(list(known))).all()):
        *others, last = (f"{label} ({meaning})" for label, meaning in known.items())
        raise ValueError(f"labels must be {', '.join(others)} or {last}, got {given.unique().tolist()}")
    return given.long()


def _check_points(xy: Tensor, size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    outside = ((xy < 0) | (xy > torch.tensor([width, height]))).any(dim=-1)
    if bool(outside.any()):
        x, y = xy[outside][0].tolist()
        raise ValueError(f"point ({x:g}, {y:g}) lies outside the {width}x{height} picture; give (x, y) in its pixels")


def _check_boxes(xyxy: Tensor, size_hw: tuple[int, int]) -> None:
    """A box may reach over the border, but must not lie beyond it."""
    height, width = size_hw
    beyond = (xyxy[:, 2:] < 0).any(dim=1) | (xyxy[:, :2] > torch.tensor([width, height])).any(dim=1)
    if bool(beyond.any()):
        box = ", ".join(f"{v:g}" for v in xyxy[beyond][0].tolist())
        raise ValueError(f"box ({box}) lies outside the {width}x{height} picture; give (x0, y0, x1, y1) in its pixels")
