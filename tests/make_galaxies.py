"""Galaxies to learn from: pieces of NASA's Hubble eXtreme Deep Field, with outlines that a program drew.

    python -m tests.make_galaxies assets/galaxies

A galaxy has no edge: its light gets fainter and fainter. Where it ends is a convention, here a fixed brightness of the
smoothed photograph, far out where a galaxy is hardly brighter than the sky. A model that was not told takes the bright
middle, so there is something to teach.

One galaxy is outlined in each piece. Pieces of the left half are in train/, those of the right half in val/, and no two
of them overlap.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

_ENLARGED = 3  # the photograph's galaxies are small; outlines are drawn on a finer grid
_LEVEL = 24.0  # of 255: brightness at which a galaxy ends; the sky has about 12
_SMOOTHING, _SMOOTHING_OF_PEAKS = 1.2, 2.2  # pixels of the photograph
_PEAK_LEVEL, _PEAK_DISTANCE = 40.0, 6  # faint and close peaks are no galaxies of their own
_LEAST_AREA = 150  # pixels of the photograph
_ARMS = 0.45  # of a galaxy's radius: what is thinner is a neighbour that touches it
_ROOM, _SIDES = 2.0, (40, 110)  # side of a piece, of the galaxy's longer side, and in pixels of the photograph
_STARS = ((254, 166), (753, 577))  # x, y of the two bright ones
_BORDER = 4  # pixels of the photograph
_SIDE, _PIECES, _QUALITY = 160, {"train": 16, "val": 12}, 90


@dataclass(frozen=True)
class Piece:
    """A square of the enlarged photograph, and the galaxy in its middle."""

    split: str
    x: int
    y: int
    side: int
    galaxy: int

    @property
    def cut(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return np.s_[self.y : self.y + self.side, self.x : self.x + self.side]


def write_galaxies(folder: Path) -> Path:
    """Write the dataset: train/ and val/, each with images/ and masks/."""
    from skimage import data

    photo = data.hubble_deep_field()
    fine = cv2.resize(photo, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_CUBIC)
    owners = find_galaxies(photo)
    pieces = sorted(choose_pieces(owners), key=lambda piece: piece.split)  # train before val, else the largest first
    for number, piece in enumerate(pieces):
        galaxy = np.where(owners[piece.cut] == piece.galaxy, 255, 0).astype(np.uint8)
        mask = np.where(_shrunk(galaxy) >= 128, 255, 0).astype(np.uint8)
        _save(_shrunk(fine[piece.cut]), folder / piece.split / "images" / f"{number:02d}.jpg")
        _save(mask, folder / piece.split / "masks" / f"{number:02d}.png")
    return folder


def find_galaxies(photo: np.ndarray) -> np.ndarray:
    """Which galaxy each pixel of the enlarged photograph belongs to.

    Args:
        photo: uint8 [H, W, 3].
    Returns:
        int [3H, 3W]; 0 is sky.
    """
    from skimage import feature, segmentation

    smooth = ndimage.gaussian_filter(photo.astype(np.float32).mean(axis=2), _SMOOTHING)
    light = cv2.resize(smooth, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_CUBIC)
    hills = ndimage.gaussian_filter(light, _SMOOTHING_OF_PEAKS * _ENLARGED)
    peaks = feature.peak_local_max(hills, min_distance=_PEAK_DISTANCE * _ENLARGED, threshold_abs=_PEAK_LEVEL)
    markers = np.zeros(light.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    basins = segmentation.watershed(-hills, markers, mask=light > _LEVEL)
    owners = np.zeros_like(basins)
    for number, place in enumerate(ndimage.find_objects(basins), start=1):
        owners[place][_body(basins[place] == number)] = number
    return owners


def _body(region: np.ndarray) -> np.ndarray:
    """A galaxy without the specks and arms of light that touch it; empty if it is too small."""
    mask = np.pad(region, 1)
    radius = int(max(3, _ARMS * np.sqrt(mask.sum() / np.pi)))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    opened = cv2.morphologyEx(ndimage.binary_fill_holes(mask).astype(np.uint8), cv2.MORPH_OPEN, disk)
    parts, count = ndimage.label(opened)
    if not count:
        return np.zeros_like(region)
    body = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return body[1:-1, 1:-1] & (body.sum() >= _LEAST_AREA * _ENLARGED**2)


def choose_pieces(owners: np.ndarray) -> list[Piece]:
    """A piece around each of the largest galaxies, as many as are wanted of each half."""
    areas, places = np.bincount(owners.ravel()), ndimage.find_objects(owners)
    largest = [int(n) for n in np.argsort(-areas, kind="stable") if n and areas[n]]
    taken = np.zeros(owners.shape, bool)
    for x, y in _STARS:
        taken[y * _ENLARGED, x * _ENLARGED] = True
    chosen: list[Piece] = []
    for number in largest:
        piece = _piece_around(number, places[number - 1], owners.shape)
        full = sum(p.split == piece.split for p in chosen) == _PIECES[piece.split]
        whole = (owners[piece.cut] == number).sum() == areas[number]
        if whole and not full and not taken[piece.cut].any():
            taken[piece.cut] = True
            chosen.append(piece)
    return chosen


def _piece_around(number: int, place: tuple[slice, slice], shape: tuple[int, ...]) -> Piece:
    rows, columns = place
    height, width = shape
    y, x = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
    longer = max(rows.stop - rows.start, columns.stop - columns.start)
    side = int(np.clip(_ROOM * longer, *(s * _ENLARGED for s in _SIDES)))
    split, low, high = ("train", 0, width // 2) if x < width // 2 else ("val", width // 2, width)
    border = _BORDER * _ENLARGED
    y0 = int(np.clip(y - side // 2, border, height - border - side))
    x0 = int(np.clip(x - side // 2, low + border, high - border - side))
    return Piece(split, x0, y0, side, number)


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": _QUALITY} if path.suffix == ".jpg" else {}))


if __name__ == "__main__":
    print(write_galaxies(Path(sys.argv[1])))
