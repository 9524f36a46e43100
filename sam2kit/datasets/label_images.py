"""Pictures that hold masks: black and white, numbers, palettes, flat colours; what each pixel's object is.

Nothing in such a file says how it is meant, so its values decide:

    two values                              one object
    a palette, or numbers of 8 or 16 bits   a number per object, 0 is background
    flat colours                            a colour per object, black is background
    soft or JPEG edges between two values   one object, cut at the middle
    soft edges between several flat values  each edge pixel goes to the nearest of them; see soft_edges.py
    a photo, or smeared colours             refused: nobody could tell its objects

Surprise: 255 next to small numbers is the void that VOC and DAVIS draw around objects, and belongs to none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sam2kit.datasets.picture_files import PictureSize, TrueMasks, Truth
from sam2kit.datasets.samples import BadSampleError, Note
from sam2kit.datasets.soft_edges import hardened, is_one_soft_object, one_colour
from sam2kit.media.pictures import open_image

VOID = 255
MOST_OBJECTS = 2000  # of one picture; each is held as a mask of its size
MAX_COLOURS = 256  # more are a photo, or edges that were smoothed
_LOSSY = ("JPEG", "MPO", "WEBP", "HEIF", "AVIF")
_LOSSY_MARGIN = 32  # of 255; how far JPEG moves black and white
_FLAT = 0.5  # share of neighbours with the same value, below which it is no drawing of areas
_CURE = "save masks as PNG with one flat colour or number per object, without smoothing"


@dataclass(frozen=True)
class LabelImage:
    """Which object each pixel belongs to."""

    ids: np.ndarray  # int [H, W], 0 is background
    colours: dict[int, tuple[int, int, int]]  # of each id, where colours made them
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
        return LabelImage((array >= 128).astype(np.uint8), {}, (_note("alpha", path, "its transparency is the mask"),))
    if shown is not None and (soft := _soft_palette(array, shown, path)) is not None:
        return soft
    if array.ndim == 3:
        return _from_colours(array, path, lossy)
    return _from_numbers(array, path, lossy, void, ids or kind == "palette")


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
    if image.mode == "1" or image.mode == "L" or image.mode.startswith("I") or image.mode == "F":
        return np.array(image), ""
    return _grey_if_grey(np.array(image.convert("RGB"))), ""


def _grey_if_grey(colours: np.ndarray) -> np.ndarray:
    first = colours[..., 0]
    return first if (first == colours[..., 1]).all() and (first == colours[..., 2]).all() else colours


def _from_numbers(values: np.ndarray, path: Path, lossy: bool, void: int | None, ids: bool) -> LabelImage:
    if values.dtype == bool:
        return LabelImage(values.astype(np.uint8), {})
    if values.dtype.kind == "f":
        return _from_floats(values, path)
    found, counts = _values(values)
    if found[0] < 0:
        raise BadSampleError(f"{path} holds negative numbers, down to {found[0]}; object numbers begin at 1", "colours")
    grey = _as_grey(values, int(found[-1])) if len(found) > 2 and not lossy and void is None else None
    if grey is not None and is_one_soft_object(grey):
        text = f"soft edges with {len(found)} grey values; it was cut at the middle. To be exact, {_CURE}"
        inside = values > int(found[-1]) // 2
        return LabelImage(inside * (found[-1] if ids else 1), {}, (_note("soft_mask", path, text),))
    if ids and not lossy:
        return LabelImage(np.where(values == void, 0, values) if void is not None else values, {})
    objects = found[found > 0]
    if len(objects) <= 1:
        return LabelImage((values > 0).astype(np.uint8) if len(objects) else values, {})
    if lossy and _is_lossy_black_and_white(found, counts) and not _has_plateau(values, int(found[-1])):
        text = f"a lossy file with {len(found)} grey values; it was cut at the middle. To be exact, {_CURE}"
        return LabelImage((values > int(found[-1]) // 2).astype(np.uint8), {}, (_note("jpeg_mask", path, text),))
    if grey is not None and (hard := hardened(grey)) is not None:
        return _with_note(_from_numbers(hard, path, lossy, void, ids), _softened(path, len(found), "grey values"))
    if lossy or _flatness(values) < _FLAT:
        what = "a lossy file, whose numbers are smeared" if lossy else "a photo rather than a mask"
        raise BadSampleError(f"{path} has {len(found)} grey values and looks like {what}; {_CURE}", "colours")
    if void is None and objects[-1] == VOID and objects[-2] < 100:
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


def _as_grey(values: np.ndarray, top: int) -> np.ndarray | None:
    """uint8 [H, W] of numbers that may be shades of grey, of 8 bits or of 16; None where they can only be numbers."""
    if top <= 255:
        return values.astype(np.uint8)
    return (values // 257).astype(np.uint8) if 65000 <= top <= 65535 else None


def _is_lossy_black_and_white(found: np.ndarray, counts: np.ndarray) -> bool:
    """Whether nearly all pixels are black or white, and the rest only lies on edges."""
    top = int(found[-1])
    ends = counts[(found <= _LOSSY_MARGIN) | (found >= top - _LOSSY_MARGIN)].sum() / counts.sum()
    return 64 <= top <= 255 and ends >= 0.9


def _soft_palette(indices: np.ndarray, shown: np.ndarray, path: Path) -> LabelImage | None:
    """A palette that was made of a soft picture, as programs that shrink PNGs do; None if its numbers are objects."""
    if len(_values(indices)[0]) <= 2:
        return None
    if shown.ndim == 2 and is_one_soft_object(shown):
        return _from_numbers(shown, path, False, None, False)
    hard = hardened(shown)
    if hard is None:
        return None
    if hard.ndim == 2:
        hard = np.repeat(hard[..., None], 3, axis=2)
    return _with_note(_from_colours(hard, path, False), _softened(path, len(_values(indices)[0]), "colours"))


def _softened(path: Path, count: int, what: str) -> Note:
    text = f"soft edges with {count} {what}; each edge pixel was given to the nearest flat one. To be exact, {_CURE}"
    return _note("soft_mask", path, text)


def _with_note(labels: LabelImage, note: Note) -> LabelImage:
    return LabelImage(labels.ids, labels.colours, (*labels.notes, note))


def _has_plateau(values: np.ndarray, top: int) -> bool:
    """Whether an area lies between black and white, which is another object and no smeared edge."""
    between = ((values > _LOSSY_MARGIN) & (values < top - _LOSSY_MARGIN)).astype(np.uint8)
    return bool(cv2.erode(between, np.ones((5, 5), np.uint8), borderValue=0).any())


def _from_colours(colours: np.ndarray, path: Path, lossy: bool) -> LabelImage:
    packed = colours[..., 0].astype(np.int32) << 16 | colours[..., 1].astype(np.int32) << 8 | colours[..., 2]
    found, counts = np.unique(packed, return_counts=True)
    if lossy and (inside := one_colour(colours)) is not None:
        text = f"a lossy file with one colour on black; edge pixels went to the nearer of both. To be exact, {_CURE}"
        return LabelImage(inside.astype(np.uint8), {}, (_note("jpeg_mask", path, text),))
    if not lossy and len(found) > 2 and (hard := hardened(colours)) is not None:
        return _with_note(_from_colours(hard, path, lossy), _softened(path, len(found), "colours"))
    specks = (counts < max(4, packed.size / 10_000)).mean()
    smeared = lossy or len(found) > MAX_COLOURS or (len(found) > 16 and specks > 0.5) or _flatness(packed) < _FLAT
    if smeared:
        what = "a photo" if _flatness(packed) < _FLAT else "a mask with smoothed or JPEG edges"
        text = f"{path} has {len(found)} colours and looks like {what}; each colour would be an object: {_CURE}"
        raise BadSampleError(text, "colours")
    ids = np.searchsorted(found, packed) + (0 if found[0] == 0 else 1)
    first = 0 if found[0] == 0 else 1
    table = {i + first: (int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for i, c in enumerate(found)}
    notes = (_note("colour_mask", path, f"each of its {len(found) - 1 + first} colours is an object, black is none"),)
    if first:
        text = "it has no black, so that every pixel belongs to an object; make the background black"
        notes = (_note("no_background", path, text),)
    return LabelImage(ids, table, notes)


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


def _check_count(count: int, what: str) -> None:
    if count > MOST_OBJECTS:
        text = f"{count} {what} are more than the {MOST_OBJECTS} that a picture may have; do its numbers mean objects?"
        raise BadSampleError(text, "many_objects")


def parts_of(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a mask, bool [H, W] each; pixels that touch at a corner are connected."""
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    _check_count(count - 1, "parts")
    return [parts == i for i in range(1, count)]


@dataclass(frozen=True)
class LabelImageTruth(Truth):
    """All objects of a picture in one file."""

    path: Path
    separate_parts: bool = False
    void: int | None = None
    ids: bool = False
    names: tuple[str, ...] = ()  # class of each number, if they are classes

    @property
    def files(self) -> tuple[Path, ...]:
        """The mask file."""
        return (self.path,)

    def read(self, size: PictureSize) -> TrueMasks:
        """One mask per number or colour, or per connected part."""
        labels = read_label_image(self.path, void=self.void, ids=self.ids)
        truth = TrueMasks(notes=list(labels.notes))
        fitted = size.fit(labels.ids, str(self.path))
        _check_count(len(labels.numbers()), f"objects in {self.path}")
        for number in labels.numbers():
            mask = fitted == number
            name = self.names[number] if 0 < number < len(self.names) else None
            for part in parts_of(mask) if self.separate_parts else [mask]:
                truth.add(part, name)
        if not truth.masks:
            truth.notes.append(Note("empty", f"{self.path} is empty: no pixel belongs to an object"))
        return truth


@dataclass(frozen=True)
class ObjectFilesTruth(Truth):
    """One file per object."""

    paths: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The mask files."""
        return self.paths

    @property
    def count(self) -> int:
        """Of masks."""
        return len(self.paths)

    def read(self, size: PictureSize) -> TrueMasks:
        """One mask per file: whatever is not background in it."""
        truth = TrueMasks()
        for path in self.paths:
            labels = read_label_image(path)
            truth.notes += [note for note in labels.notes if note.kind != "colour_mask"]
            truth.add(size.fit(labels.ids, str(path)) > 0)
        return truth
