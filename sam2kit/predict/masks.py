"""Working on finished masks: holes, specks, boxes, run lengths.

Connected components are 8-connected and come from OpenCV, so that no compiled extension decides whether
the clean-up happens.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

_BEYOND = 10.0  # logits that a changed pixel lies beyond the threshold


def clean_logits(
    mask_logits: Tensor, *, max_hole_area: float = 0, max_speck_area: float = 0, threshold: float = 0.0
) -> Tensor:
    """Fill small holes and remove small specks.

    Args:
        mask_logits: [..., H, W].
        max_hole_area: background components up to this many pixels are filled; 0 leaves them.
        max_speck_area: object components up to this many pixels are removed; 0 leaves them. They are looked
            for before holes are filled.
        threshold: logit above which a pixel belongs to the object.
    Returns:
        [..., H, W]; the argument itself when there is nothing to do.
    """
    if max_hole_area <= 0 and max_speck_area <= 0:
        return mask_logits
    flat = mask_logits.flatten(0, -3) if mask_logits.ndim > 2 else mask_logits[None]
    cleaned = flat.clone()
    for before, after in zip(flat, cleaned, strict=True):
        inside = (before > threshold).cpu().numpy()
        if max_hole_area > 0:
            after[_small_components(~inside, max_hole_area).to(after.device)] = threshold + _BEYOND
        if max_speck_area > 0:
            after[_small_components(inside, max_speck_area).to(after.device)] = threshold - _BEYOND
    return cleaned.view_as(mask_logits)


def _small_components(region: np.ndarray, max_area: float) -> Tensor:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    small = statistics[:, cv2.CC_STAT_AREA] <= max_area
    small[0] = False  # everything outside the region
    return torch.from_numpy(small[labels])


def mask_boxes(masks: Tensor) -> Tensor:
    """[N, H, W] bool -> [N, 4] int64 (x0, y0, x1, y1), inclusive pixel indices; zeros for an empty mask."""
    n, height, width = masks.shape
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
            overlap_wh = (torch.minimum(b[i, 2:], b[i + 1 :, 2:]) - torch.maximum(b[i, :2], b[i + 1 :, :2])).clamp(min=0)
            overlap = overlap_wh.prod(dim=1)
            alive[i + 1 :] &= ~(overlap > iou_threshold * (area[i] + area[i + 1 :] - overlap))
    return order[alive]


def mask_to_runs(mask: np.ndarray) -> dict:
    """bool [H, W] -> uncompressed COCO run lengths {"size": [H, W], "counts": [...]}, column by column.

    The first run counts zeros.
    """
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(bounds).tolist()
    return {"size": list(mask.shape), "counts": ([0, *counts] if flat.size and flat[0] else counts)}


def runs_to_mask(runs: dict) -> np.ndarray:
    """The inverse of `mask_to_runs`; also reads compressed counts. Returns bool [H, W].

    Raises:
        ValueError: if the runs do not fill the picture.
    """
    height, width = runs["size"]
    counts = runs["counts"]
    if isinstance(counts, (str, bytes)):
        counts = _unpack(counts.decode() if isinstance(counts, bytes) else counts)
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ValueError(f"run lengths add up to {sum(counts)}, but a {width}x{height} mask has {height * width} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def compress_runs(runs: dict) -> dict:
    """Uncompressed run lengths -> COCO's compressed string form, as pycocotools writes it.

    Each count (from the fourth on, its difference to the one two before) is written in groups of 5 bits,
    least significant first, as printable characters.
    """
    text = []
    counts = runs["counts"]
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            done = value == (-1 if bits & 16 else 0)
            text.append(chr(bits + (0 if done else 32) + 48))
            if done:
                break
    return {"size": runs["size"], "counts": "".join(text)}


def _unpack(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return counts


def largest_polygons(mask: np.ndarray, *, min_points: int = 3) -> list[list[float]]:
    """Outer outlines of a mask as COCO polygons [x0, y0, x1, y1, ...], largest first."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    kept = sorted((c for c in contours if len(c) >= min_points), key=cv2.contourArea, reverse=True)
    return [c.ravel().astype(float).tolist() for c in kept]
