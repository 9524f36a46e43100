"""Pictures that hold masks: black and white, numbers, palettes, flat colours; what each pixel's object is.

Nothing in such a file says how it is meant, so its values decide:

    two values                              one object
    a palette, or numbers of 8 or 16 bits   a number per object, 0 is background
    flat colours                            a colour per object, black is background
    soft or JPEG edges between two values   one object, cut at the middle
    soft edges between several flat values  each edge pixel goes to the nearest of them: 0 64 191 255 -> 0 0 255 255
    a photo, or smeared colours             refused: nobody could tell its objects

Surprises: 255 next to small numbers is the void that VOC and DAVIS draw around objects, and belongs to none. Numbers
must stay numbers: a value that fills an area anywhere is an object, and only what lies in between, and is never wider
than an edge, is taken for soft.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sam2kit.data.stored import BadSampleError, Note
from sam2kit.media.pictures import open_image

Colour = tuple[int, int, int]
VOID = 255
MOST_OBJECTS = 2000  # of one picture; each is held as a mask of its size
MAX_COLOURS = 256  # more are a photo, or edges that were smoothed
_LOSSY = ("JPEG", "MPO", "WEBP", "HEIF", "AVIF")
_MARGIN = 32  # of 255; how far JPEG and sharp resizing move black and white
_FLAT = 0.5  # share of neighbours with the same value, below which it is no drawing of areas
_EDGE = np.ones((9, 9), np.uint8)  # how far an edge pixel may be from the flat areas that it lies between
_CONTRAST = 32  # of 255; softening between values that are nearer makes other numbers, and nobody could tell
_MOST_LEVELS = 64  # flat values of one softened mask
_FEW = 16  # grey values; resizing by a small factor makes no more
_NUMBERS = 100  # up to here, 255 beside numbers is void, and no white
_CURE = "save masks as PNG with one flat colour or number per object, without smoothing"


@dataclass(frozen=True)
class LabelImage:
    """Which object each pixel belongs to."""

    ids: np.ndarray  # int [H, W], 0 is background
    colours: dict[int, Colour]  # of each id, where colours made them
    notes: tuple[Note, ...] = ()

    def numbers(self) -> list[int]:
        """The ids that occur, without the background."""
        return [int(i) for i in _values(self.ids)[0] if i]


def read_label_image(path: Path, *, void: int | None = None, ids: bool = False) -> LabelImage:
    """Read a picture of masks.

    Args:
        path: PNG, TIFF, BMP, ... or JPEG if it is black and white.
        void: the number that always means "belongs to nothing"; None finds out.
        ids: the numbers are known to be object ids, so that nothing is guessed.
    Raises:
        BadSampleError: if it cannot be read, or holds no flat areas; says what it looks like.
    """
    try:
        with open_image(path) as image:
            lossy = image.format in _LOSSY
            array, kind = _array(image)
            shown = _grey_if_grey(np.array(image.convert("RGB"))) if kind == "palette" and not ids else None
    except FileNotFoundError as error:
        raise BadSampleError(f"there is no mask {path}; put it back", "missing") from error
    except Exception as error:  # broken files fail in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = f"the mask {path} cannot be read ({reason.replace(str(path), 'it')}); export it again as PNG"
        raise BadSampleError(text) from error
    if kind == "alpha":
        return _one_object(array >= 128, "alpha", path, "its transparency is the mask")
    if shown is not None and (soft := _soft_palette(array, shown, path)) is not None:
        return soft
    if array.ndim == 3:
        return _from_colours(array, path, lossy)
    return _from_numbers(array, path, lossy, void, ids or kind == "palette")


def parts_of(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a mask, bool [H, W] each; pixels that touch at a corner are connected."""
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    check_count(count - 1, "parts")
    return [parts == i for i in range(1, count)]


def check_count(count: int, what: str) -> None:
    """Raise BadSampleError if a picture would have more objects than anybody can have meant."""
    if count > MOST_OBJECTS:
        text = f"{count} {what} are more than the {MOST_OBJECTS} that a picture may have; do its numbers mean objects?"
        raise BadSampleError(text, "many_objects")


def _array(image: Image.Image) -> tuple[np.ndarray, str]:
    """[H, W] or [H, W, 3], and "palette", "alpha", or "" for everything else."""
    if image.mode == "P":
        return np.array(image), "palette"
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        rgba = np.array(image.convert("RGBA"))
        colours, alpha = rgba[..., :3], rgba[..., 3]
        if alpha.min() == 255:
            return _grey_if_grey(colours), ""
        shown = colours[alpha > 0]
        if not len(shown) or (shown == shown[0]).all():
            return alpha, "alpha"
        return _grey_if_grey(np.where(alpha[..., None] > 0, colours, 0)), ""
    is_plain = image.mode in ("1", "L", "F") or image.mode.startswith("I")
    return np.array(image) if is_plain else _grey_if_grey(np.array(image.convert("RGB"))), ""


def _grey_if_grey(colours: np.ndarray) -> np.ndarray:
    first = colours[..., 0]
    return first if (first == colours[..., 1]).all() and (first == colours[..., 2]).all() else colours


def _one_object(inside: np.ndarray, kind: str, path: Path, text: str, number: int = 1) -> LabelImage:
    return LabelImage(inside * number if number > 1 else inside.astype(np.uint8), {}, (_note(kind, path, text),))


def _from_numbers(values: np.ndarray, path: Path, lossy: bool, void: int | None, ids: bool) -> LabelImage:
    if values.dtype == bool:
        return LabelImage(values.astype(np.uint8), {})
    if values.dtype.kind == "f":
        return _from_floats(values, path)
    found, counts = _values(values)
    top = int(found[-1])
    if found[0] < 0:
        raise BadSampleError(f"{path} holds negative numbers, down to {found[0]}; object numbers begin at 1", "colours")
    grey = None  # uint8, where the numbers may be shades of grey, of 8 bits or of 16
    if len(found) > 2 and not lossy and void is None and (top <= 255 or 65000 <= top <= 65535):
        grey = (values // (1 if top <= 255 else 257)).astype(np.uint8)
    cut = f"{len(found)} grey values; it was cut at the middle. To be exact, {_CURE}"
    if grey is not None and _is_one_soft_object(grey):
        return _one_object(values > top // 2, "soft_mask", path, f"soft edges with {cut}", top if ids else 1)
    if ids and not lossy:
        return LabelImage(np.where(values == void, 0, values) if void is not None else values, {})
    objects = found[found > 0]
    if len(objects) <= 1:
        return LabelImage((values > 0).astype(np.uint8) if len(objects) else values, {})
    if lossy and _is_lossy_black_and_white(values, found, counts):
        return _one_object(values > top // 2, "jpeg_mask", path, f"a lossy file with {cut}")
    if grey is not None and (hard := _hardened(grey)) is not None:
        return _softened(_from_numbers(hard, path, lossy, void, ids), path, len(found), "grey values")
    if lossy or _flatness(values) < _FLAT:
        what = "a lossy file, whose numbers are smeared" if lossy else "a photo rather than a mask"
        raise BadSampleError(f"{path} has {len(found)} grey values and looks like {what}; {_CURE}", "colours")
    if void is None and objects[-1] == VOID and objects[-2] < _NUMBERS:
        text = f"255 next to numbers up to {objects[-2]} is read as void, which belongs to no object"
        return LabelImage(np.where(values == VOID, 0, values), {}, (_note("void", path, text),))
    return LabelImage(values, {})


def _from_floats(values: np.ndarray, path: Path) -> LabelImage:
    found = np.unique(values[np.isfinite(values)])
    if len(found) and (found == np.rint(found)).all() and found[0] >= 0:
        return _from_numbers(np.nan_to_num(values).astype(np.int64), path, False, None, False)
    if len(found) and found[0] >= 0 and found[-1] <= 1:
        return LabelImage((np.nan_to_num(values) >= 0.5).astype(np.uint8), {})
    raise BadSampleError(f"{path} holds fractions outside 0..1, so it is no mask; {_CURE}", "colours")


def _is_lossy_black_and_white(values: np.ndarray, found: np.ndarray, counts: np.ndarray) -> bool:
    """Whether nearly all pixels are black or white, and no area lies between, which would be another object."""
    top = int(found[-1])
    ends = counts[(found <= _MARGIN) | (found >= top - _MARGIN)].sum() / counts.sum()
    between = ((values > _MARGIN) & (values < top - _MARGIN)).astype(np.uint8)
    return 64 <= top <= 255 and ends >= 0.9 and not cv2.erode(between, np.ones((5, 5), np.uint8), borderValue=0).any()


def _soft_palette(indices: np.ndarray, shown: np.ndarray, path: Path) -> LabelImage | None:
    """A palette that was made of a soft picture, as programs that shrink PNGs do; None if its numbers are objects."""
    count = len(_values(indices)[0])
    if count <= 2:
        return None
    if shown.ndim == 2 and _is_one_soft_object(shown):
        return _from_numbers(shown, path, False, None, False)
    hard = _hardened(shown)
    if hard is None:
        return None
    hard = np.repeat(hard[..., None], 3, axis=2) if hard.ndim == 2 else hard
    return _softened(_from_colours(hard, path, False), path, count, "colours")


def _softened(labels: LabelImage, path: Path, count: int, what: str) -> LabelImage:
    text = f"soft edges with {count} {what}; each edge pixel was given to the nearest flat one. To be exact, {_CURE}"
    return replace(labels, notes=(*labels.notes, _note("soft_mask", path, text)))


def _from_colours(colours: np.ndarray, path: Path, lossy: bool) -> LabelImage:
    packed = _packed(colours)
    found, counts = np.unique(packed, return_counts=True)
    if lossy and (inside := _one_colour(colours)) is not None:
        text = f"a lossy file with one colour on black; edge pixels went to the nearer of both. To be exact, {_CURE}"
        return _one_object(inside, "jpeg_mask", path, text)
    if not lossy and len(found) > 2 and (hard := _hardened(colours)) is not None:
        return _softened(_from_colours(hard, path, lossy), path, len(found), "colours")
    specks = (counts < max(4, packed.size / 10_000)).mean()
    is_photo = _flatness(packed) < _FLAT
    if lossy or len(found) > MAX_COLOURS or (len(found) > 16 and specks > 0.5) or is_photo:
        what = "a photo" if is_photo else "a mask with smoothed or JPEG edges"
        text = f"{path} has {len(found)} colours and looks like {what}; each colour would be an object: {_CURE}"
        raise BadSampleError(text, "colours")
    first = 0 if found[0] == 0 else 1
    table = {i: (int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for i, c in enumerate(found, start=first)}
    note = _note("colour_mask", path, f"each of its {len(found) - 1 + first} colours is an object, black is none")
    if first:
        text = "it has no black, so that every pixel belongs to an object; make the background black"
        note = _note("no_background", path, text)
    return LabelImage(np.searchsorted(found, packed) + first, table, (note,))


def _values(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, ascending, and how often; by counting where it is quicker than sorting."""
    if array.dtype != np.uint8:
        return np.unique(array, return_counts=True)
    counts = np.bincount(array.ravel(), minlength=256)
    found = np.flatnonzero(counts)
    return found, counts[found]


def _flatness(values: np.ndarray) -> float:
    """Share of pixels that equal their right neighbour."""
    return float((values[:, 1:] == values[:, :-1]).mean()) if values.shape[1] > 1 else 1.0


def _note(kind: str, path: Path, text: str) -> Note:
    return Note(kind, f"{path}: {text}")


def _is_one_soft_object(values: np.ndarray) -> bool:
    """Whether a grey picture, uint8 [H, W], is black and white with soft edges."""
    counts = np.bincount(values.ravel(), minlength=256)
    found = np.flatnonzero(counts)
    top = int(found[-1])
    margin = 0 if len(found) <= _FEW else _MARGIN
    between = found[(found > margin) & (found < top - margin)]
    if top < 128 or not len(between) or between[-1] < _NUMBERS:
        return False
    inner, white = counts[between].sum(), counts[max(top - margin, 0) :].sum()
    if inner > 0.5 * values.size or (margin and (len(between) < 4 or white < 0.25 * inner)):
        return False
    is_between = (values > margin) & (values < top - margin)
    areas = is_between & _flat(values, 3, 0)
    if margin:  # areas of a value that JPEG made uneven
        areas |= is_between & _flat(values, 5, 4)
    return int(areas.sum()) <= (values.size / 10_000 if margin else 0)


def _hardened(values: np.ndarray) -> np.ndarray | None:
    """A mask of several flat values, uint8 [H, W] or [H, W, 3], with soft edges between them, made hard.

    Each edge pixel is given to the nearest of the flat values around it. None if the edges are not soft.
    """
    channels = values.reshape(*values.shape[:2], -1)
    code, flat = _packed(channels), _flat(channels, 3, 0)
    levels = np.unique(code[flat])
    thin = ~np.isin(code, levels)
    edges = (code[:, 1:] != code[:, :-1]).sum() + (code[1:] != code[:-1]).sum()
    if not 2 <= len(levels) <= _MOST_LEVELS or thin.sum() < 0.05 * edges:
        return None
    low = cv2.erode(np.where(flat[..., None], channels, 255), _EDGE).reshape(channels.shape)
    high = cv2.dilate(np.where(flat[..., None], channels, 0), _EDGE).reshape(channels.shape)
    inside = ((channels >= low) & (channels <= high)).all(axis=2)
    inside &= (high.astype(int) - low).max(axis=2) >= _CONTRAST
    if not thin.any() or (inside & thin).sum() < 0.9 * thin.sum():
        return None
    solid = cv2.dilate(flat.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    ends = (channels == low).all(axis=2) | (channels == high).all(axis=2)
    unsure = thin | (~solid & inside & ~ends)
    result = channels.copy()
    result[unsure] = _nearest(channels, code, flat, levels, unsure)
    return result.reshape(values.shape)


def _nearest(
    channels: np.ndarray, code: np.ndarray, flat: np.ndarray, levels: np.ndarray, unsure: np.ndarray
) -> np.ndarray:
    """For each unsure pixel, the flat value around it that is nearest in colour: uint8 [N, C]."""
    wanted = channels[unsure].astype(int)
    costs = np.full((len(levels), len(wanted)), np.inf)
    shown = np.stack([channels[flat & (code == level)][0] for level in levels])
    for row, level in enumerate(levels):
        near = cv2.dilate((flat & (code == level)).astype(np.uint8), _EDGE)[unsure] > 0
        distance = ((wanted - shown[row].astype(int)) ** 2).sum(axis=1)
        costs[row] = np.where(near, distance, distance + 10**9)  # those around go first
    return shown[costs.argmin(axis=0)]


def _one_colour(colours: np.ndarray) -> np.ndarray | None:
    """The object of a lossy file that has one colour on black, bool [H, W]; None if it is anything else."""
    brightness = colours.max(axis=2)
    colour = np.median(colours[brightness > brightness.max() // 2], axis=0)
    if colour.max() < 64:
        return None
    to_colour = np.linalg.norm(colours - colour, axis=2)
    to_black = np.linalg.norm(colours.astype(float), axis=2)
    is_either = np.minimum(to_colour, to_black) < max(48, 0.2 * np.linalg.norm(colour))
    # chroma is smeared over some pixels along the edge, and nowhere else
    inside = np.asarray(to_colour < to_black).astype(np.uint8)
    edge = cv2.dilate(inside, np.ones((17, 17), np.uint8)) != cv2.erode(inside, np.ones((17, 17), np.uint8))
    return inside > 0 if is_either.mean() >= 0.9 and is_either[~edge].all() else None


def _flat(values: np.ndarray, width: int, tolerance: int) -> np.ndarray:
    """bool [H, W]: where all pixels around have nearly the same value."""
    window = np.ones((width, width), np.uint8)
    channels = values.reshape(*values.shape[:2], -1)
    spread = cv2.dilate(channels, window).astype(int) - cv2.erode(channels, window)
    return np.all(spread.reshape(channels.shape) <= tolerance, axis=2)


def _packed(channels: np.ndarray) -> np.ndarray:
    """int32 [H, W]: one number per colour."""
    return channels.astype(np.int32) @ (1 << 8 * np.arange(channels.shape[2], dtype=np.int32)[::-1])
