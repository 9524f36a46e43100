"""Original pixels <-> the model's square; masks and their boxes: holes, specks, duplicates.

The picture is squashed into a square, not padded, so each axis has its own scale. Connected components are 8-connected
and come from OpenCV, so that no compiled extension decides whether the clean-up happens. On a GPU, small ones are found
there, with the same result.

Source: SAM 2, arXiv:2408.00714, training appendix (input resolution); ImageNet statistics as published.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in 0..1
_MOST_STEPS = 64  # pixels: larger components are looked for on the CPU
SURE_LOGIT = 10.0  # of a finished mask that is turned back into logits


def normalise(pixels: Tensor) -> Tensor:
    """[..., 3, H, W] RGB, uint8 in 0..255 or float in 0..1 -> float32 around 0."""
    mean, deviation = _statistics(pixels.device)
    return (_unit_range(pixels) - mean) / deviation


@cache  # on a GPU, each making would wait for it
@torch.inference_mode(False)
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, deviation = (torch.tensor(v, device=device)[:, None, None] for v in (_MEAN, _DEVIATION))
    return mean, deviation


def _unit_range(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 -> float32 in 0..1; floats are there already."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


def image_to_square(image: Tensor, side: int) -> Tensor:
    """Resize and normalise [3, H, W] RGB, uint8 in 0..255 or float in 0..1 -> [3, side, side] float32."""
    pixels = _unit_range(image)[None]
    square = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return normalise(square[0])


def picture_to_square_on(device: torch.device, picture: Tensor, side: int) -> Tensor:
    """As `image_to_square` for uint8 [H, W, 3] RGB, resized on the device where that can be done."""
    # Apple's GPUs do not resize with antialias
    where = device if device.type == "cuda" else torch.device("cpu")
    return image_to_square(picture.to(where).permute(2, 0, 1), side).to(device)


def frame_to_square(frame: np.ndarray, side: int) -> Tensor:
    """Resize and normalise a frame of a video for the image encoder: uint8 [H, W, 3] RGB -> [3, side, side] float32.

    The published video predictor resizes bytes with a bicubic filter, where the image predictor resizes floats with
    a bilinear one; so a picture and the same picture as a video frame differ a little.
    """
    square = np.array(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
    return normalise(torch.from_numpy(square).permute(2, 0, 1))


def pinned_frame(frame: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] in memory from which a GPU copies while the host goes on."""
    return torch.from_numpy(np.require(frame, requirements="W")).pin_memory()


def frame_to_square_on(device: torch.device, frame: np.ndarray | Tensor, side: int) -> Tensor:
    """As `frame_to_square`, but resized on a device, to which the bytes of the frame go.

    As in Pillow, rows first, but in floats: few pixels differ, by a level or two of 255.
    """
    if isinstance(frame, np.ndarray):
        frame = pinned_frame(frame) if device.type == "cuda" else torch.from_numpy(frame)
    pixels = frame.to(device, non_blocking=True).permute(2, 0, 1)[None].float()
    for size in ((frame.shape[0], side), (side, side)):
        pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True, align_corners=False)
        pixels = pixels.round().clamp(0, 255)
    return normalise(pixels[0] / 255)


def mask_to_square(mask: Tensor, side: int) -> Tensor:
    """[H, W] bool mask -> [side, side] float32, 0 or 1."""
    pixels = mask.float()[None, None]
    square = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return (square[0, 0] >= 0.5).float()


def points_to_square(points_xy: Tensor, size_hw: tuple[int, int], side: int) -> Tensor:
    """[..., 2] points (x, y) in pixels of an H x W picture -> pixels of the model's square."""
    height, width = size_hw
    return points_xy / torch.tensor([width, height], dtype=torch.float32, device=points_xy.device) * side


def masks_to_image(low_res: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """[B, M, h, w] low-res mask logits -> [B, M, H, W] logits at the picture's size (bilinear)."""
    return F.interpolate(low_res, size=size_hw, mode="bilinear", align_corners=False)


def mask_to_logits(mask: np.ndarray, side: int | tuple[int, int]) -> Tensor:
    """A bool mask [H, W] from elsewhere as mask logits: low-res ones for a Prompt, or of any size.

    Args:
        side: of the low-res logits, `model.config.low_res_side`; or height and width (h, w).
    Returns:
        [1, h, w] float32 in -10..10; where a pixel of it is half covered, 0.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask is [H, W], got {list(mask.shape)}")
    height, width = (side, side) if isinstance(side, int) else side
    share = cv2.resize(np.asarray(mask, np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy((2 * share - 1) * SURE_LOGIT)[None]


def binary_mask(mask: ArrayLike) -> np.ndarray:
    """A mask that somebody gave, as bool.

    Args:
        mask: bool; whole numbers 0 and 1, or 0 and 255; or probabilities in 0..1, of which .5 and more is the object.
            Also a tensor, of any device.
    Raises:
        ValueError: if it is something else, such as logits or several numbered objects.
    """
    if isinstance(mask, Tensor):  # NumPy has no bfloat16
        mask = (mask.float() if mask.is_floating_point() else mask).detach().cpu()
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
        cure = "of mask logits give logits > 0" if given.min() < 0 else "divide by their largest, such as 255"
        raise ValueError(
            f"a mask is bool, or probabilities in 0..1, got values from {given.min():g} to {given.max():g}; {cure}"
        )
    return given >= 0.5


def clean_logits(
    mask_logits: Tensor,
    *,
    max_hole_area: float = 0,
    max_speck_area: float = 0,
    clicked: Tensor | None = None,
    threshold: float = 0.0,
    beyond: float = 10.0,
) -> Tensor:
    """Fill small holes of masks [..., H, W] and remove small specks, which are looked for before holes are filled.

    Args:
        max_hole_area, max_speck_area: larger components stay, in pixels; 0 leaves all, and the argument itself.
        clicked: bool, expands to the masks' shape: where it is set on a mask, only components there stay, however
            small; without any there, the mask is cleaned as others.
        threshold: logit above which a pixel belongs to the object.
        beyond: how many logits a changed pixel comes to lie beyond the threshold.
    """
    if max_hole_area <= 0 and max_speck_area <= 0 and clicked is None:
        return mask_logits
    inside = specks = mask_logits.reshape(-1, *mask_logits.shape[-2:]) > threshold
    if clicked is not None:
        kept = _components_at(inside, clicked.to(inside.device).expand_as(mask_logits).reshape(inside.shape))
        has_some = kept.flatten(1).any(dim=1)[:, None, None]
        mask_logits = mask_logits.masked_fill((inside & ~kept & has_some).view_as(mask_logits), threshold - beyond)
        inside, specks = torch.where(has_some, kept, inside), inside & ~has_some
    for regions, area, filling in (
        (~inside, max_hole_area, threshold + beyond),
        (specks, max_speck_area, threshold - beyond),
    ):
        if area > 0:
            mask_logits = mask_logits.masked_fill(small_components(regions, area).view_as(mask_logits), filling)
    return mask_logits


def small_components(regions: Tensor, max_area: float) -> Tensor:
    """bool [N, H, W] regions -> their 8-connected components of up to `max_area` pixels, on the same device."""
    if regions.device.type == "cpu" or max_area > _MOST_STEPS:
        found = [_small_components(region, max_area) for region in regions.cpu().numpy()]
        return torch.stack(found).to(regions.device) if found else regions
    return _small_components_on_device(regions, int(max_area))


def _components_at(regions: Tensor, places: Tensor) -> Tensor:
    """bool [N, H, W] regions -> their 8-connected components that are somewhere in `places`, on the same device."""
    found = []
    for region, place in zip(regions.cpu().numpy(), places.cpu().numpy(), strict=True):
        labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)[1]
        found.append(torch.from_numpy(np.isin(labels, labels[region & place])))
    return torch.stack(found).to(regions.device) if found else regions


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
    height, width = regions.shape[1:]
    labels = regions * torch.arange(1, 1 + height * width, device=regions.device).float().view(height, width)
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
    x, y = (torch.arange(length, device=masks.device) for length in (width, height))
    first = torch.where(columns, x, width).amin(1), torch.where(rows, y, height).amin(1)
    last = torch.where(columns, x, -1).amax(1), torch.where(rows, y, -1).amax(1)
    return torch.stack([*first, *last], dim=1) * columns.any(dim=1, keepdim=True)


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
            overlap_wh = torch.minimum(b[i, 2:], b[i + 1 :, 2:]) - torch.maximum(b[i, :2], b[i + 1 :, :2])
            overlap = overlap_wh.clamp(min=0).prod(dim=1)
            alive[i + 1 :] &= ~(overlap > iou_threshold * (area[i] + area[i + 1 :] - overlap))
    return order[alive]
