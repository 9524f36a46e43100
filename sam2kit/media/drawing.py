"""Masks and prompts, drawn over a picture. Never sees the model.

Colours come from a palette that colour-blind readers can tell apart (Okabe and Ito); every object also has an
outline in its full colour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import supervision

PALETTE = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00", "#8F6BD8")
POSITIVE, NEGATIVE = "#00AA50", "#DC2828"  # clicks: "this", "not this"
LOST_COLOUR = "#C81E1E"  # of what a person should look at
_WHITE, _BLACK = (255, 255, 255), (20, 20, 20)
_MOST_PIXELS = 2000  # that are looked at to find a colour that contrasts with them
_ALIKE = 0.2  # share of the pixels: one that is more like a colour than the others is hardly seen under it
_LIGHTNESS = 0.5  # weight of L* beside a* and b*: under a half-transparent colour, light and dark shine through
_CONTRAST = 40.0  # CIE94 difference, weighted so, from which a half-transparent colour is told from its ground


def colour_of(number: int) -> tuple[int, int, int]:
    """RGB of an object's number (from 0)."""
    return rgb(PALETTE[number % len(PALETTE)])


def rgb(code: str) -> tuple[int, int, int]:
    """Red, green and blue of "#RRGGBB", 0..255."""
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def contrasting_colour(pixels: np.ndarray, first: int = 0, used: Collection[int] = ()) -> int:
    """The next colour of the palette that differs from pixels that it will be drawn over.

    Args:
        pixels: uint8 [N, 3] RGB; may be none.
        first: where in the palette to begin.
        used: what is taken only if nothing else contrasts better.
    Returns:
        its place in PALETTE.
    """
    turn = [(first + i) % len(PALETTE) for i in range(len(PALETTE))]
    free = [place for place in turn if place not in used] or turn
    if not len(pixels):
        return free[0]
    seen = pixels[:: max(1, len(pixels) // _MOST_PIXELS)]
    contrast = np.quantile(_differences(seen, [rgb(code) for code in PALETTE]), _ALIKE, axis=0)
    return next((place for place in free if contrast[place] >= _CONTRAST), max(free, key=lambda place: contrast[place]))


def _differences(pixels: ArrayLike, colours: ArrayLike) -> np.ndarray:
    """float [N, M] how different RGB colours look, lightness counting less.

    Source: CIE 116-1995, the CIE94 colour difference for graphic arts.
    """
    lab, other = (cv2.cvtColor(np.asarray(c, np.float32)[None] / 255, cv2.COLOR_RGB2LAB)[0] for c in (pixels, colours))
    chroma, its_chroma = np.hypot(lab[:, 1], lab[:, 2])[:, None], np.hypot(other[:, 1], other[:, 2])[None]
    apart = (lab[:, None] - other[None]) ** 2  # [N, M, 3]
    by_chroma = (chroma - its_chroma) ** 2
    by_hue = np.maximum(apart[..., 1] + apart[..., 2] - by_chroma, 0)
    return np.sqrt(
        _LIGHTNESS**2 * apart[..., 0] + by_chroma / (1 + 0.045 * chroma) ** 2 + by_hue / (1 + 0.015 * chroma) ** 2
    )


def supervision_palette() -> supervision.ColorPalette:
    """The same colours for supervision's annotators, whose pictures are BGR: swapped, so that they fit RGB ones."""
    import supervision as sv

    return sv.ColorPalette([sv.Color(*rgb(code)[::-1]) for code in PALETTE])


def draw_masks(
    image: np.ndarray, masks: Iterable[np.ndarray], numbers: Iterable[int], *, opacity: float = 0.5
) -> np.ndarray:
    """Lay coloured masks with outlines over a picture, one after the other.

    Args:
        image: uint8 [H, W, 3] RGB; left unchanged.
        masks: bool [H, W] each; may be a generator, so that only one is in memory.
        numbers: the object number of each mask, which decides its colour.
        opacity: of the fill, 0..1.
    Returns:
        uint8 [H, W, 3] RGB.
    """
    scene = np.ascontiguousarray(image.copy())
    thickness = min(max(1, round(max(image.shape[:2]) / 500)), 100)
    for mask, number in zip(masks, numbers, strict=True):
        colour = colour_of(number)
        filled = np.ascontiguousarray(mask, np.uint8)
        x, y, width, height = cv2.boundingRect(filled)
        region, inside = scene[y : y + height, x : x + width], mask[y : y + height, x : x + width]
        region[inside] = (region[inside] * (1 - opacity) + np.array(colour) * opacity).astype(np.uint8)
        contours, _ = cv2.findContours(filled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(scene, contours, -1, colour, thickness, cv2.LINE_AA)
    return scene


def grow_mask(mask: np.ndarray, pixels: float) -> np.ndarray:
    """bool [H, W], grown by so many pixels in all directions; a negative number shrinks it, not from the border."""
    if not pixels or not mask.any():
        return mask
    if pixels > 0:
        return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= pixels
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > -pixels


def edge_distances(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [H, W] twice, in pixels: of those in a mask to the nearest outside, and the reverse; 0 elsewhere."""
    inside, outside = (
        cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (mask, ~mask)
    )
    return inside, outside


def soft_mask(mask: np.ndarray, feather: float) -> np.ndarray:
    """uint8 [H, W] coverage: 255 in a mask bool [H, W], 0 outside, fading over so many pixels around its edge."""
    if not feather or not mask.any():
        return mask.astype(np.uint8) * 255
    inside, outside = edge_distances(mask)
    # from the middle of a pixel to the edge is half a pixel
    depth = np.where(mask, inside - 0.5, 0.5 - outside)
    return (np.clip(0.5 + depth / feather, 0, 1) * 255 + 0.5).astype(np.uint8)


def draw_prompts(
    image: np.ndarray,
    points: Sequence[tuple[float, float, int]] = (),
    box_xyxy: Iterable[float] | None = None,
    corner_xy: Sequence[float] | None = None,
) -> np.ndarray:
    """Draw clicks (x, y, label), a box, and a box's first corner; returns a new picture."""
    image = np.ascontiguousarray(image.copy())
    radius = max(4, round(max(image.shape[:2]) / 150))
    if box_xyxy is not None:
        x0, y0, x1, y1 = (round(v) for v in box_xyxy)
        cv2.rectangle(image, (x0, y0), (x1, y1), _BLACK, 3, cv2.LINE_AA)
        cv2.rectangle(image, (x0, y0), (x1, y1), _WHITE, 1, cv2.LINE_AA)
    if corner_xy is not None:
        centre = (round(corner_xy[0]), round(corner_xy[1]))
        for colour, width in ((_BLACK, 4), (_WHITE, 2)):
            cv2.drawMarker(image, centre, colour, cv2.MARKER_CROSS, 4 * radius, width, cv2.LINE_AA)
    arm = max(2, radius // 2)
    for x, y, label in ((round(x), round(y), label) for x, y, label in points):
        cv2.circle(image, (x, y), radius + 2, _WHITE, -1, cv2.LINE_AA)
        cv2.circle(image, (x, y), radius, rgb(POSITIVE if label else NEGATIVE), -1, cv2.LINE_AA)
        cv2.line(image, (x - arm, y), (x + arm, y), _WHITE, 2)
        if label:
            cv2.line(image, (x, y - arm), (x, y + arm), _WHITE, 2)
    return image
