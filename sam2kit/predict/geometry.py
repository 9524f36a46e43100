"""Original pixels <-> the model's square, and back for masks.

The picture is squashed into a square, not padded, so each axis has its own scale.

Source: SAM 2, arXiv:2408.00714, training appendix (input resolution); ImageNet statistics as published.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in 0..1


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
    """Resize and normalise a picture for the image encoder.

    Args:
        image: [3, H, W] RGB, uint8 in 0..255 or float in 0..1.
        side: edge of the model's square, in pixels.
    Returns:
        [3, side, side] float32.
    """
    pixels = _unit_range(image)[None]
    square = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return normalise(square[0])


def frame_to_square(frame: np.ndarray, side: int) -> Tensor:
    """Resize and normalise a frame of a video for the image encoder.

    The published video predictor resizes bytes with a bicubic filter, where the image predictor resizes floats with
    a bilinear one; so a picture and the same picture as a video frame differ a little.

    Args:
        frame: uint8 [H, W, 3] RGB.
        side: edge of the model's square, in pixels.
    Returns:
        [3, side, side] float32.
    """
    square = np.array(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
    return normalise(torch.from_numpy(square).permute(2, 0, 1))


def pinned_frame(frame: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] in memory from which a GPU copies while the host goes on."""
    return torch.from_numpy(np.require(frame, requirements="W")).pin_memory()


def frame_to_square_on(device: torch.device, frame: np.ndarray | Tensor, side: int) -> Tensor:
    """As `frame_to_square`, but resized on a device, to which the bytes of the frame go.

    It does what Pillow does, rows first, with floats in place of whole numbers: few pixels differ, by a level or two
    of 255.
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
