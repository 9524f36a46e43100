"""What a person asks for: clicks, a box, a rough mask. Validated once, here.

Before geometry.py, which moves it into the model's square.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.model.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, NEGATIVE, NOT_A_POINT, POSITIVE
from sam2kit.model.sam2 import PromptTensors
from sam2kit.predict.geometry import mask_to_square, points_to_square

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
        marks = checked_labels(labels, points)
        if points is None and boxes is None and masks is None:
            raise ValueError("an empty prompt: give points_xy, box_xyxy or mask_logits")
        check_same_number(points, boxes, masks)
        _set(self, points_xy=points, labels=marks, box_xyxy=boxes, mask_logits=masks)

    def __len__(self) -> int:
        return next(len(t) for t in (self.points_xy, self.box_xyxy, self.mask_logits) if t is not None)

    @property
    def is_ambiguous(self) -> bool:
        """True for a single click: it may mean a thing or a part of it."""
        return self.points_xy is not None and self.points_xy.shape[1] == 1 and self.box_xyxy is None

    def clicked(self, size_hw: tuple[int, int], grid_hw: tuple[int, int]) -> Tensor | None:
        """As `clicked_pixels`; None without clicks."""
        if self.points_xy is None or self.labels is None:
            return None
        return clicked_pixels(self.points_xy, self.labels, self.box_xyxy, size_hw, grid_hw)

    def to_square(self, size_hw: tuple[int, int], side: int, device: torch.device) -> PromptTensors:
        """Move the prompt into the model's square; a box becomes two points before the clicks.

        Raises:
            ValueError: if a point or a whole box lies outside the picture.
        """
        if self.box_xyxy is not None:
            _check_boxes(self.box_xyxy, size_hw)
        if self.points_xy is not None and self.labels is not None:
            _check_points(self.points_xy[self.labels != NOT_A_POINT], size_hw)
        clicks = points_and_labels(self.points_xy, self.labels, self.box_xyxy)
        return prompt_tensors(clicks, self.mask_logits, size_hw, side, device)


@dataclass(frozen=True, init=False, eq=False)
class FramePrompt:
    """All that a person asked for on one frame, in pixels of the clip: clicks and a box, or a mask.

    Args:
        points_xy: [N, 2] or [2] clicks (x, y).
        labels: [N] 1 "this", 0 "not this"; all 1 when left out.
        box_xyxy: [4] box (x0, y0, x1, y1).
        mask: bool [H, W]; excludes all others.
    Raises:
        ValueError: if shapes or labels cannot be used.
    """

    points_xy: np.ndarray  # float32 [N, 2]
    labels: np.ndarray  # int64 [N]
    box_xyxy: np.ndarray | None  # float32 [4]
    mask: np.ndarray | None
    known_labels: ClassVar[tuple[int, ...]] = (POSITIVE, NEGATIVE)

    def __init__(
        self,
        points_xy: ArrayLike = (),
        labels: ArrayLike | None = None,
        box_xyxy: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> None:
        points = np.atleast_2d(finite_numbers(points_xy, "points_xy"))
        points = points if points.size else np.zeros((0, 2), np.float32)
        marks = np.ones(len(points), np.int64) if labels is None else np.atleast_1d(np.asarray(labels))
        if points.ndim != 2 or points.shape[1] != 2 or marks.shape != points.shape[:1]:
            raise ValueError(
                f"clicks must be [N, 2] with one label each, got {list(points.shape)} and {list(marks.shape)}"
            )
        check_count(len(points))
        if not np.isin(marks, self.known_labels).all():
            raise ValueError(f"labels must be 1 (this) or 0 (not this), got {marks.tolist()}")
        box = None if box_xyxy is None else np.ravel(finite_numbers(box_xyxy, "box_xyxy"))
        if box is not None and box.shape != (4,):
            raise ValueError(f"a box must be four numbers (x0, y0, x1, y1), got {len(box)}")
        mask = None if mask is None else np.asarray(mask)
        if mask is not None and (mask.ndim != 2 or mask.dtype != bool):
            raise ValueError(f"a mask must be bool [H, W], got {mask.dtype} {list(mask.shape)}")
        _set(self, points_xy=points, labels=marks.astype(np.int64), box_xyxy=box, mask=mask)

    @property
    def points_and_labels(self) -> tuple[Tensor, Tensor] | None:
        """Points [1, N, 2] and labels [1, N], those of the box's corners first; None for a mask."""
        if self.mask is not None:
            return None
        return points_and_labels(*self._tensors)

    @property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Points [1, N, 2], labels [1, N] and box [1, 4]."""
        box = None if self.box_xyxy is None else torch.from_numpy(self.box_xyxy)[None]
        return torch.from_numpy(self.points_xy)[None], torch.from_numpy(self.labels)[None], box

    def mask_in_square(self, side: int) -> Tensor:
        """[side, side] float32: the mask, as the model takes it."""
        assert self.mask is not None, "only a mask prompt has one"
        return mask_to_square(torch.from_numpy(self.mask), side)

    def clicked(self, size_hw: tuple[int, int], grid_hw: tuple[int, int]) -> Tensor:
        """[1, h, w], else as `clicked_pixels`."""
        return clicked_pixels(*self._tensors, size_hw, grid_hw)[0]

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing."""
        return not len(self.points_xy) and self.box_xyxy is None and self.mask is None

    def clicks_beyond(self, before: FramePrompt | None) -> int | None:
        """How many clicks are new where this begins with all of `before` and has the same box; else None."""
        before = before or FramePrompt()
        known = len(before.points_xy)
        boxes = [None if p.box_xyxy is None else p.box_xyxy.tolist() for p in (self, before)]
        if boxes[0] != boxes[1] or self.mask is not None or len(self.points_xy) < known:
            return None
        same = np.array_equal(self.points_xy[:known], before.points_xy)
        return len(self.points_xy) - known if same and np.array_equal(self.labels[:known], before.labels) else None

    def plus(self, other: FramePrompt) -> FramePrompt:
        """Both together; the other's box or mask takes the place of an earlier one."""
        if other.mask is not None or self.mask is not None:
            return other
        return type(self)(
            np.concatenate([self.points_xy, other.points_xy]),
            np.concatenate([self.labels, other.labels]),
            self.box_xyxy if other.box_xyxy is None else other.box_xyxy,
        )


def _set(prompt: Prompt | FramePrompt, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(prompt, name, value)


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


def clicked_pixels(
    points_xy: Tensor, labels: Tensor, box_xyxy: Tensor | None, size_hw: tuple[int, int], grid_hw: tuple[int, int]
) -> Tensor:
    """Where the parts of a mask have to be that B prompts with positive clicks ask for; nowhere if they have none.

    Args:
        points_xy, labels, box_xyxy: [B, N, 2], [B, N] and [B, 4], as of `Prompt`.
        size_hw: of the picture, in pixels.
        grid_hw: height and width of the logits.
    Returns:
        [B, 1, h, w] bool pixels of the logits: those around positive clicks, give or take one, and the box.
    """
    grid_wh = grid_hw[::-1]
    scale = torch.tensor(grid_wh) / torch.tensor(size_hw[::-1])
    low, high, positive = (points_xy * scale).floor() - 1, (points_xy * scale).floor() + 1, labels == POSITIVE
    if box_xyxy is not None:
        corners = (box_xyxy.unflatten(1, (2, 2)) * scale).floor()
        low = torch.cat([low, corners.amin(1, keepdim=True)], dim=1)
        high = torch.cat([high, corners.amax(1, keepdim=True)], dim=1)
        positive = torch.cat([positive, positive.any(1, keepdim=True)], dim=1)
    columns, rows = (  # [B, N or N + 1, w], [B, N or N + 1, h]
        ((first[..., None] <= pixel) & (pixel <= last[..., None]) & positive[..., None]).float()
        for first, last, pixel in zip(low.unbind(2), high.unbind(2), map(torch.arange, grid_wh), strict=True)
    )
    return (rows.mT @ columns > 0)[:, None]


def prompt_tensors(
    clicks: tuple[Tensor, Tensor] | None,
    mask_logits: Tensor | None,
    size_hw: tuple[int, int],
    side: int,
    device: torch.device,
) -> PromptTensors:
    """What `points_and_labels` gave and a mask prompt, moved into the model's square; points may lie anywhere."""
    mask = None if mask_logits is None else mask_logits.to(device)
    if clicks is None:
        return PromptTensors(mask_logits=mask)
    points, labels = clicks
    return PromptTensors(points_to_square(points, size_hw, side).to(device), labels.to(device), mask)


def finite_numbers(values: ArrayLike | Tensor, name: str) -> np.ndarray:
    """float32 of the same shape; a ValueError if something else than finite numbers is among them."""
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = values.float() if values.is_floating_point() else values  # NumPy has no bfloat16
        given = np.asarray(values)
        real = given.dtype.kind in "biuf" or all(isinstance(v, numbers.Real) for v in given.flat)  # no dates, no texts
        with np.errstate(over="ignore"):
            floats = given.astype(np.float32) if real else None
    except (TypeError, ValueError, OverflowError, RuntimeError):
        floats = None
    if floats is None or not np.isfinite(floats).all():
        raise ValueError(f"{name} must be finite numbers in rows of one length, got {values!r:.80}")
    return floats


def check_count(points: int) -> None:
    """Raises ValueError if one prompt has more clicks than it can have."""
    if points > MOST_POINTS:
        raise ValueError(f"a prompt has {points} points, and {MOST_POINTS} are the most; give a mask instead")


def check_same_number(*parts: Tensor | None) -> None:
    """Raises ValueError if parts are for different numbers of prompts, which come first in their shapes."""
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
    """float32 tensor of `ndim` dimensions on the CPU; a missing batch axis is added. A ValueError if that cannot be.

    Args:
        name, wanted: what it is and what shape it should have, for messages.
        last: how long the last axis must be.
    """
    if values is None:
        return None
    tensor = torch.from_numpy(finite_numbers(values, name))
    if tensor.ndim == ndim - 1:
        tensor = tensor[None]
    if tensor.ndim != ndim or (last is not None and tensor.shape[-1] != last) or not (tensor.numel() or may_be_empty):
        raise ValueError(f"{name} must be {wanted}, got shape {list(tensor.shape)}")
    return tensor


def batched_masks(values: ArrayLike | Tensor | None, name: str) -> Tensor | None:
    """float32 [B, 1, h, w] low-res mask logits on the CPU; a ValueError if they are something else, or not finite."""
    wanted = "[1, h, w] or [B, 1, h, w]"
    masks = batched(values, 4, name, wanted)
    if masks is not None and masks.shape[1] != 1:
        raise ValueError(f"{name} must be {wanted}, got {list(masks.shape)}")
    return masks


def checked_labels(
    labels: ArrayLike | Tensor | None, points: Tensor | None, known: dict[int, str] = _LABELS
) -> Tensor | None:
    """int64 [B, N] labels on the CPU, one per point [B, N, 2]; all 1 if there are none, None without points.

    Raises:
        ValueError: if they do not fit the points, are not among the known ones, or there are too many points.
    """
    if points is None:
        if labels is not None:
            raise ValueError("labels were given without points_xy")
        return None
    check_count(points.shape[1])
    if labels is None:
        return torch.ones(points.shape[:2], dtype=torch.int64)
    given = torch.from_numpy(finite_numbers(labels, "labels"))
    given = given[None] if given.ndim == 1 else given
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
