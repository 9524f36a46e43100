"""Working on masks and their boxes: holes, specks, duplicates.

Connected components are 8-connected and come from OpenCV, so that no compiled extension decides whether
the clean-up happens. On a GPU, small ones are found there, with the same result.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

_MOST_STEPS = 64  # pixels: larger components are looked for on the CPU
SURE_LOGIT = 10.0  # of a finished mask that is turned back into logits


def mask_to_logits(mask: np.ndarray, side: int) -> Tensor:
    """A mask from elsewhere as low-res mask logits, for a Prompt.

    Args:
        mask: bool [H, W] at the size of the picture.
        side: of the low-res logits, `model.config.low_res_side`.
    Returns:
        [1, side, side] float32 in -10..10; where a pixel of it is half covered, 0.
    Raises:
        ValueError: if the mask has another shape than [H, W].
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask is [H, W], got {list(mask.shape)}")
    share = cv2.resize(np.asarray(mask, np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return torch.from_numpy((2 * share - 1) * SURE_LOGIT)[None]


def binary_mask(mask: ArrayLike) -> np.ndarray:
    """A mask that somebody gave, as bool.

    Args:
        mask: bool; whole numbers 0 and 1, or 0 and 255; or probabilities in 0..1, of which .5 and more is the object.
    Raises:
        ValueError: if it is something else, such as logits or several numbered objects.
    """
    given = np.asarray(mask)
    if given.dtype == bool:
        return given
    if given.dtype.kind in "iu":
        values = np.unique(given)
        if np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all():
            return given > 0
        raise ValueError(
            f"a mask of whole numbers has 0 and 1 (or 0 and 255), got {len(values)} values from {values[0]} to "
            f"{values[-1]}; choose one object, such as mask == {values[-1]}"
        )
    if given.dtype.kind != "f" or not np.isfinite(given).all():
        raise ValueError(f"a mask is bool, or probabilities in 0..1, got {given.dtype} or numbers that are not finite")
    if given.size and (given.min() < 0 or given.max() > 1):
        raise ValueError(
            f"a mask is bool, or probabilities in 0..1, got values from {given.min():g} to {given.max():g}; of mask "
            "logits give logits > 0"
        )
    return given >= 0.5


def clean_logits(
    mask_logits: Tensor,
    *,
    max_hole_area: float = 0,
    max_speck_area: float = 0,
    threshold: float = 0.0,
    beyond: float = 10.0,
) -> Tensor:
    """Fill small holes and remove small specks.

    Args:
        mask_logits: [..., H, W].
        max_hole_area: background components up to this many pixels are filled; 0 leaves them.
        max_speck_area: object components up to this many pixels are removed; 0 leaves them. They are looked
            for before holes are filled.
        threshold: logit above which a pixel belongs to the object.
        beyond: how many logits a changed pixel comes to lie beyond the threshold.
    Returns:
        [..., H, W]; the argument itself when there is nothing to do.
    """
    if max_hole_area <= 0 and max_speck_area <= 0:
        return mask_logits
    inside = mask_logits.reshape(-1, *mask_logits.shape[-2:]) > threshold
    cleaned = mask_logits
    if max_hole_area > 0:
        cleaned = cleaned.masked_fill(small_components(~inside, max_hole_area).view_as(cleaned), threshold + beyond)
    if max_speck_area > 0:
        cleaned = cleaned.masked_fill(small_components(inside, max_speck_area).view_as(cleaned), threshold - beyond)
    return cleaned


def small_components(regions: Tensor, max_area: float) -> Tensor:
    """The 8-connected components of up to so many pixels in each of some regions.

    Args:
        regions: bool [N, H, W].
        max_area: in pixels.
    Returns:
        bool [N, H, W] on the same device.
    """
    if regions.device.type == "cpu" or max_area > _MOST_STEPS:
        found = [_small_components(region, max_area) for region in regions.cpu().numpy()]
        return torch.stack(found).to(regions.device) if found else regions
    return _small_components_on_device(regions, int(max_area))


def _small_components(region: np.ndarray, max_area: float) -> Tensor:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    small = statistics[:, cv2.CC_STAT_AREA] <= max_area
    small[0] = False  # everything outside the region
    return torch.from_numpy(small[labels])


def _small_components_on_device(regions: Tensor, max_area: int) -> Tensor:
    """The same without waiting for a GPU: each pixel takes the highest number within so many steps.

    Then a component has one number, if it is small enough; a larger one has that many pixels, or neighbours of
    different numbers.
    """
    number = (
        torch.arange(1, 1 + regions.shape[1] * regions.shape[2], device=regions.device).float().view(regions.shape[1:])
    )
    labels = regions * number
    for _ in range(max_area):
        labels = _highest_around(labels) * regions
    uneven = regions & ((_highest_around(labels) != labels) | (-_highest_around(-labels + ~regions * -1e9) != labels))
    own = labels.flatten(1).long()
    none = own.new_zeros(len(own), 1 + own.shape[1])
    pixels = none.scatter_add(1, own, regions.flatten(1).long())
    torn = none.scatter_add(1, own, uneven.flatten(1).long())
    small = (pixels <= max_area) & (torn == 0)
    return small.gather(1, own).view_as(regions) & regions


def _highest_around(maps: Tensor) -> Tensor:
    """Maximum over 3x3 pixels of [N, H, W]."""
    return F.max_pool2d(maps[:, None], 3, stride=1, padding=1)[:, 0]


def mask_boxes(masks: Tensor) -> Tensor:
    """[N, H, W] bool -> [N, 4] int64 (x0, y0, x1, y1), inclusive pixel indices; zeros for an empty mask."""
    height, width = masks.shape[1:]
    columns, rows = masks.any(dim=1), masks.any(dim=2)
    x = torch.arange(width, device=masks.device)
    y = torch.arange(height, device=masks.device)
    boxes = torch.stack(
        [
            torch.where(columns, x, width).amin(1),
            torch.where(rows, y, height).amin(1),
            torch.where(columns, x, -1).amax(1),
            torch.where(rows, y, -1).amax(1),
        ],
        dim=1,
    )
    return boxes * columns.any(dim=1, keepdim=True)


def suppress_overlapping(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: [N, 4] (x0, y0, x1, y1); area is (x1 - x0) * (y1 - y0).
        scores: [N]; of equal scores the earlier box wins.
        iou_threshold: a box goes when its IoU with a better one is above this.
    Returns:
        [K] int64 indices of the kept boxes, best score first.
    """
    order = scores.argsort(descending=True, stable=True)
    b = boxes[order].float()
    area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    alive = torch.ones(len(b), dtype=torch.bool, device=b.device)
    for i in range(len(b)):
        if alive[i]:
            overlap_wh = (torch.minimum(b[i, 2:], b[i + 1 :, 2:]) - torch.maximum(b[i, :2], b[i + 1 :, :2])).clamp(
                min=0
            )
            overlap = overlap_wh.prod(dim=1)
            alive[i + 1 :] &= ~(overlap > iou_threshold * (area[i] + area[i + 1 :] - overlap))
    return order[alive]
