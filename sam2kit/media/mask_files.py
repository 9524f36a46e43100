"""One mask as data that other programs read: COCO run lengths, a polygon, a PNG, a cut-out with alpha.

Run lengths are COCO's compressed ones, {"size": [H, W], "counts": "..."}: lossless, small, column by column, zeros
first. pycocotools writes them; they are read here, because it trusts what it reads.

Polygons are one closed line: parts and holes are joined by bridges that go out and back over the same pixels, so that
filling the line gives the mask again.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco

from sam2kit.files import atomic_write
from sam2kit.media.drawing import colour_of, soft_mask

OVERLAPS = "objects"  # OVERLAPS/NUMBER/NAME.png: one object of NAME.png, which cannot show where objects overlap
MAX_NUMBER = 255  # of an object in a palette
_MAX_PIXELS = 200_000_000
_MAX_RINGS = 100  # parts and holes; to join more would take minutes, and the smallest are noise

RunLengths = dict[str, Any]


def mask_to_runs(mask: np.ndarray) -> RunLengths:
    """bool [H, W] -> COCO's compressed run lengths."""
    runs = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(n) for n in runs["size"]], "counts": str(runs["counts"], "ascii")}


def runs_to_mask(runs: Mapping[str, Any]) -> np.ndarray:
    """The inverse of `mask_to_runs`; also reads plain counts. Returns bool [H, W].

    Raises:
        ValueError: if the runs do not fill the picture.
    """
    counts = run_counts(runs)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(runs["size"], order="F")


def run_counts(runs: Mapping[str, Any]) -> np.ndarray:
    """Pixels of each run, int64: zeros, ones, zeros, ... column by column.

    Args:
        runs: with compressed counts or plain ones.
    Raises:
        ValueError: if they do not fill the picture.
    """
    try:
        (height, width), given = runs["size"], runs["counts"]
        given = given.encode("ascii") if isinstance(given, str) else given
        counts = _unpacked(given) if isinstance(given, bytes) else np.asarray(given)
    except KeyError as error:
        raise ValueError(f"it lacks {error}") from error
    except (TypeError, UnicodeError) as error:
        raise ValueError(f"run lengths are {{'size': [H, W], 'counts': [...]}}, got {runs!r:.80}") from error
    whole = all(isinstance(n, (int, np.integer)) for n in (height, width))
    if not whole or min(height, width) < 0 or height * width > _MAX_PIXELS or counts.ndim != 1:
        raise ValueError(f"run lengths are whole numbers, of at most {_MAX_PIXELS / 1e6:.0f} million pixels")
    if len(counts) and counts.dtype.kind not in "iu":
        raise ValueError(f"run lengths are whole numbers, got {counts[:4].tolist()!r:.80}")
    pixels = height * width
    if (len(counts) and not 0 <= counts.min() <= counts.max() <= pixels) or counts.sum() != pixels:
        raise ValueError(f"run lengths add up to {counts.sum()}, but a {width}x{height} mask has {pixels} pixels")
    return counts.astype(np.int64)


def _unpacked(text: bytes) -> np.ndarray:
    """Counts of the compressed form: groups of 5 bits, least significant first; a sixth bit says that more follow.

    From the fourth count on, it is the difference to the one two before.
    """
    groups = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((groups & 32) == 0)
    begins = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    length = ends + 1 - begins
    if ((groups < 0) | (groups >= 64)).any() or length.sum() != len(groups) or length.max(initial=0) > 9:
        raise ValueError("run lengths hold a character or a number that no mask needs; export this mask again")
    if not len(ends):
        return groups
    place = np.arange(len(groups)) - np.repeat(begins, length)
    counts = np.add.reduceat((groups & 31) << 5 * place, begins)
    counts -= np.where(groups[ends] & 16, 1, 0) << 5 * length
    counts[1::2], counts[2::2] = counts[1::2].cumsum(), counts[2::2].cumsum()
    return counts


@dataclass(frozen=True)
class NamedMask:
    """One object's finished mask, kept as run lengths: hundreds of a phone photo fit into memory."""

    name: str
    runs: RunLengths
    score: float = 1.0  # predicted IoU, 0..1

    @classmethod
    def of(cls, name: str, mask: np.ndarray, score: float = 1.0) -> NamedMask:
        """From a bool [H, W] mask."""
        return cls(name, mask_to_runs(mask), score)

    @property
    def mask(self) -> np.ndarray:
        """bool [H, W]."""
        return runs_to_mask(self.runs)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(run_counts(self.runs)[1::2].sum())


def mask_to_polygon(mask: np.ndarray) -> np.ndarray:
    """One polygon around all parts of a mask, with its holes.

    Args:
        mask: bool [H, W].
    Returns:
        int32 [N, 2] pixels (x, y) on the edge of the mask; [0, 2] if it is empty.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = sorted((contour[:, 0] for contour in contours), key=cv2.contourArea, reverse=True)[:_MAX_RINGS]
    if not rings:
        return np.zeros((0, 2), np.int32)
    line = rings.pop(0)
    while rings:
        gaps = [_nearest(line, ring) for ring in rings]
        best = min(range(len(rings)), key=lambda i: gaps[i][0])
        _, at, begin = gaps[best]
        ring = np.roll(rings.pop(best), -begin, axis=0)
        line = np.concatenate([line[: at + 1], ring, ring[:1], line[at:]])
    return line


def polygon_to_mask(polygon_xy: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The inverse, up to the bridges between parts: bool [H, W] from [N, 2] pixels."""
    mask = np.zeros(size_hw, np.uint8)
    if len(polygon_xy):
        cv2.fillPoly(mask, [np.rint(polygon_xy).astype(np.int32)], 1)
    return mask > 0


def _nearest(line: np.ndarray, ring: np.ndarray) -> tuple[float, int, int]:
    """Squared distance, and the numbers of the two points that are nearest to each other."""
    gaps = ((line[:, None].astype(np.int64) - ring[None]) ** 2).sum(axis=2)
    at, begin = np.unravel_index(gaps.argmin(), gaps.shape)
    return float(gaps[at, begin]), int(at), int(begin)


def mask_image(objects: Sequence[NamedMask], feather: float = 0.0) -> Image.Image:
    """One object in white on black, fading at its edge; several as `label_image`, numbers from 1, in their colours."""
    if len(objects) == 1:
        return Image.fromarray(soft_mask(objects[0].mask, feather))
    colours = np.array([(0, 0, 0), *map(colour_of, range(len(objects)))], np.uint8)
    masks = {number: item.mask for number, item in enumerate(objects, start=1)}
    return label_image(masks, objects[0].runs["size"], colours)


def binary_image(mask: np.ndarray) -> Image.Image:
    """bool [H, W] in black and white."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def label_image(masks: Mapping[int, np.ndarray], size_hw: Sequence[int], palette: np.ndarray) -> Image.Image:
    """A palette picture whose pixel value is an object's number, 0 for nothing; smaller objects lie on top.

    Args:
        masks: number, 1..255 -> bool [H, W].
        size_hw: height and width, in pixels.
        palette: uint8 [N, 3] RGB of the numbers from 0.
    """
    if max(len(masks), max(masks, default=0)) > MAX_NUMBER:
        raise ValueError(f"a palette picture holds at most {MAX_NUMBER} objects, got {len(masks)}; use COCO or SA-V")
    labels = np.zeros(size_hw, np.uint8)
    for number in sorted(masks, key=lambda n: (-np.count_nonzero(masks[n]), -n)):
        labels[masks[number]] = number
    image = Image.fromarray(labels)
    image.putpalette(palette.tobytes())
    return image


def davis_palette() -> np.ndarray:
    """uint8 [256, 3] RGB: the colours of DAVIS and PASCAL VOC, made from the bits of the number."""
    numbers = np.arange(256)[:, None]
    palette = np.zeros((256, 3), np.int64)
    for shift in range(8):
        palette |= (numbers >> (3 * shift + np.arange(3)) & 1) << (7 - shift)
    return palette.astype(np.uint8)


def overlap(masks: Iterable[np.ndarray]) -> bool:
    """Whether any two of the masks, bool [H, W], share a pixel: a palette picture cannot show that."""
    covered: np.ndarray | None = None
    for mask in masks:
        if covered is not None and (covered & mask).any():
            return True
        covered = mask if covered is None else covered | mask
    return False


def overlap_name(number: int, name: str) -> str:
    """Where one object's black and white picture lies, beside the palette picture `name` of overlapping objects."""
    return f"{OVERLAPS}/{number}/{name}"


def overlap_files(folder: Path, name: str) -> dict[int, Path]:
    """The pictures of single objects that lie beside a palette picture `folder / name`; by number."""
    apart = folder / OVERLAPS
    numbered = (f for f in apart.iterdir() if f.name.isdecimal()) if apart.is_dir() else ()
    return {int(f.name): f / name for f in sorted(numbered, key=lambda f: int(f.name)) if (f / name).is_file()}


def cut_out(picture: np.ndarray, mask: np.ndarray, feather: float = 0.0) -> Image.Image:
    """The object alone on a transparent ground, cropped to its box.

    Args:
        feather: pixels over which its edge fades; 0 makes a soft edge of about one pixel.
    Raises:
        ValueError: if the mask is empty.
    """
    if not mask.any():
        raise ValueError("the mask is empty: there is nothing to cut out")
    if feather:
        alpha = soft_mask(mask, feather)
    else:
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7) * 255
        alpha = np.where(mask, np.maximum(soft, 128), np.minimum(soft, 127)).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    around = 2 + math.ceil(feather / 2)
    x0, y0 = max(x - around, 0), max(y - around, 0)
    return Image.fromarray(np.dstack([picture, alpha])[y0 : y + height + around, x0 : x + width + around])


def png_bytes(image: Image.Image) -> bytes:
    """A picture as PNG."""
    return _encoded(image, "PNG", compress_level=3)


def jpeg_bytes(picture: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as JPEG that is good enough to learn from."""
    return _encoded(Image.fromarray(picture), "JPEG", quality=95, subsampling=0)


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_image(image: Image.Image, path: Path) -> Path:
    """Save a picture; a file that is there is replaced only when the new one is complete."""
    with atomic_write(path) as unfinished:
        image.save(unfinished, format=Image.registered_extensions()[path.suffix.lower()])
    return path
