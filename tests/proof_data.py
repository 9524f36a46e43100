"""Small datasets that show what fine-tuning does: coins and galaxies in photographs, and clips pasted from photographs.

    python -m tests.proof_data coins DIR       images/ and masks/: 24 tiles of scikit-image's `coins`
    python -m tests.proof_data galaxies DIR    the same: 28 pieces of NASA's Hubble eXtreme Deep Field, as in assets/
    python -m tests.proof_data pasted DIR      JPEGImages/ and Annotations/: clips of cut-outs that move

The true masks are ours: the coins' edges found by a watershed, the cut-outs by hand. A galaxy has no edge: its light
gets fainter and fainter. Where it ends is a convention, here a fixed brightness of the smoothed photograph, far out
where a galaxy is hardly brighter than the sky. A model that was not told takes the bright middle.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from sam2kit.nano.held_out import Actor, PastedScene, Path2D, paste_clip

_COINS, _TILE = 24, 96
_CLIPS, _FRAMES, _SEED, _SIZE_HW = 18, 16, 7, (192, 256)
_THINGS = (
    ("coffee.jpg", "cup"),
    ("coffee.jpg", "saucer"),
    ("chelsea.jpg", "cat"),
    ("astronaut.jpg", "helmet"),
    ("astronaut.jpg", "mission patch"),
    ("astronaut.jpg", "shuttle model"),
    ("camera.jpg", "video camera"),
    ("rocket.jpg", "rocket"),
    ("retina.jpg", "retina"),
)
_GROUNDS = ("../textures/grass.jpg", "../textures/brick.jpg", "rocket.jpg", "coffee.jpg", "camera.jpg", "chelsea.jpg")

_FINER = 3  # times; the photograph's galaxies are small, and outlines are drawn on a finer grid
_LEVEL = 24.0  # of 255: brightness at which a galaxy ends; the sky has about 12
_SMOOTHING, _SMOOTHING_OF_PEAKS = 1.2, 2.2  # pixels of the photograph
_PEAK_LEVEL, _PEAK_DISTANCE = 40.0, 6  # faint and close peaks are no galaxies of their own
_LEAST_AREA = 150  # pixels of the photograph
_ARMS = 0.45  # of a galaxy's radius: what is thinner is a neighbour that touches it
_AROUND, _SIDES = 2.0, (40, 110)  # side of a piece, of the galaxy's longer side, and in pixels of the photograph
_STARS = ((254, 166), (753, 577))  # x, y of the two bright ones
_BORDER = 4  # pixels of the photograph
_SIDE, _PIECES = 160, {"train": 16, "val": 12}
Piece = tuple[str, tuple[slice, slice], int]  # split, rows and columns of the finer photograph, galaxy in its middle


def write_coins(folder: Path) -> Path:
    """24 tiles of the coins photograph, one around each coin, with the masks of all coins in it: images/ and masks/.

    Tiles of the two lower rows are in val/, those of the two upper rows in train/: no coin is in both.
    """
    from skimage import data

    photo = data.coins()
    labels = find_coins(photo)
    middle = photo.shape[0] // 2
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels)):
        y, x = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
        split, low, high = ("train", 0, middle) if y < middle else ("val", middle, photo.shape[0])
        cut = _around(y, low, high, _TILE), _around(x, 0, photo.shape[1], _TILE)
        whole = [n for n in np.unique(labels[cut]) if n and (labels[cut] == n).sum() > 0.6 * (labels == n).sum()]
        _save(photo[cut], folder / split / "images" / f"coin_{number:02d}.png")
        _save(
            np.where(np.isin(labels[cut], whole), labels[cut], 0), folder / split / "masks" / f"coin_{number:02d}.png"
        )
    return folder


def find_coins(photo: np.ndarray) -> np.ndarray:
    """int [H, W]: 1 to 24 on the coins, 0 elsewhere."""
    from skimage import filters, segmentation

    markers = np.zeros(photo.shape, int)
    markers[photo < 30], markers[photo > 150] = 1, 2
    filled = ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(photo), markers) == 2)
    labels, count = ndimage.label(filled)
    coins = 1 + np.flatnonzero(ndimage.sum_labels(np.ones(photo.shape), labels, range(1, count + 1)) > 300)
    assert len(coins) == _COINS, f"found {len(coins)} coins"
    return (np.searchsorted(coins, labels) + 1) * np.isin(labels, coins)


def write_galaxies(folder: Path) -> Path:
    """One galaxy in each piece. Pieces of the left half are in train/, those of the right half in val/."""
    from skimage import data

    photo = data.hubble_deep_field()
    fine = cv2.resize(photo, None, fx=_FINER, fy=_FINER, interpolation=cv2.INTER_CUBIC)
    owners = find_galaxies(photo)
    pieces = sorted(choose_pieces(owners), key=lambda piece: piece[0])  # train before val, else the largest first
    for number, (split, cut, galaxy) in enumerate(pieces):
        _save(_shrunk(fine[cut]), folder / split / "images" / f"{number:02d}.jpg", quality=90)
        mask = _shrunk(np.where(owners[cut] == galaxy, 255, 0).astype(np.uint8)) >= 128
        _save(mask * 255, folder / split / "masks" / f"{number:02d}.png")
    return folder


def find_galaxies(photo: np.ndarray) -> np.ndarray:
    """Which galaxy each pixel of the finer photograph belongs to: int [3H, 3W] of uint8 [H, W, 3]; 0 is sky."""
    from skimage import feature, segmentation

    smooth = ndimage.gaussian_filter(photo.astype(np.float32).mean(axis=2), _SMOOTHING)
    light = cv2.resize(smooth, None, fx=_FINER, fy=_FINER, interpolation=cv2.INTER_CUBIC)
    hills = ndimage.gaussian_filter(light, _SMOOTHING_OF_PEAKS * _FINER)
    peaks = feature.peak_local_max(hills, min_distance=_PEAK_DISTANCE * _FINER, threshold_abs=_PEAK_LEVEL)
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
    return body[1:-1, 1:-1] & (body.sum() >= _LEAST_AREA * _FINER**2)


def choose_pieces(owners: np.ndarray) -> list[Piece]:
    """A piece around each of the largest galaxies, as many as are wanted of each half; none overlap."""
    areas, places = np.bincount(owners.ravel()), ndimage.find_objects(owners)
    taken = np.zeros(owners.shape, bool)
    for x, y in _STARS:
        taken[y * _FINER, x * _FINER] = True
    chosen: list[Piece] = []
    for galaxy in (int(n) for n in np.argsort(-areas, kind="stable") if n and areas[n]):
        split, cut = _piece_around(*places[galaxy - 1], owners.shape)
        full = sum(other == split for other, _, _ in chosen) == _PIECES[split]
        if not full and (owners[cut] == galaxy).sum() == areas[galaxy] and not taken[cut].any():
            taken[cut] = True
            chosen.append((split, cut, galaxy))
    return chosen


def _piece_around(rows: slice, columns: slice, shape: tuple[int, ...]) -> tuple[str, tuple[slice, slice]]:
    (height, width), border = shape, _BORDER * _FINER
    y, x = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
    longer = max(rows.stop - rows.start, columns.stop - columns.start)
    side = int(np.clip(_AROUND * longer, *(s * _FINER for s in _SIDES)))
    split, low, high = ("train", 0, width // 2) if x < width // 2 else ("val", width // 2, width)
    return split, (_around(y, border, height - border, side), _around(x, low + border, high - border, side))


def write_pasted(folder: Path, clips: int = _CLIPS) -> Path:
    """Clips of cut-outs that wander over other photos, in the DAVIS layout: two thirds to learn from, others held out.

    The same things are in both, on other backgrounds and other ways.
    """
    photos = Path(__file__).parent.parent / "assets" / "photos"
    names = {"train": "", "val": ""}
    for number in range(clips):
        name, rng = f"clip_{number:02d}", np.random.default_rng([_SEED, number])
        names["val" if number % 3 == 2 else "train"] += f"{name}\n"
        clip = paste_clip(photos, _wandering(rng, name), frames=_FRAMES, size_hw=_SIZE_HW)
        for t, frame in enumerate(clip.frames):
            _save(frame, folder / "JPEGImages" / name / f"{t:05d}.jpg", quality=92)
            labels = np.sum([n * masks[t] for n, masks in clip.masks.items()], axis=0)
            _save(labels, folder / "Annotations" / name / f"{t:05d}.png")
    (folder / "ImageSets").mkdir()
    for split, listed in names.items():
        (folder / "ImageSets" / f"{split}.txt").write_text(listed)
    return folder


def _wandering(rng: np.random.Generator, name: str) -> PastedScene:
    """Three things on smooth random ways; the one in front may hide the others, and things may leave the picture."""
    chosen = rng.permutation(len(_THINGS))[:3]
    actors = tuple(Actor(*_THINGS[i], _way(rng)) for i in chosen)
    grounds = [g for g in _GROUNDS if g not in {actor.photo for actor in actors}]
    return PastedScene(name, str(rng.choice(grounds)), actors)


def _way(rng: np.random.Generator) -> Path2D:
    x, y = rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.7)
    reach, speed, phase = rng.uniform(0.1, 0.35, 2), rng.uniform(2, 5, 2), rng.uniform(0, 6, 2)
    size, grows, turns = rng.uniform(0.2, 0.4), rng.uniform(-0.3, 0.5), rng.uniform(-40, 40)

    def way(u: float) -> tuple[float, float, float, float]:
        dx, dy = reach * np.sin(speed * u + phase)
        return x + dx, y + dy, size * (1 + grows * u), turns * u

    return way


def _around(middle: int, low: int, high: int, side: int) -> slice:
    """So many pixels around the middle, moved to lie between `low` and `high`."""
    start = int(np.clip(middle - side // 2, low, high - side))
    return slice(start, start + side)


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _save(pixels: np.ndarray, path: Path, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, **options)


if __name__ == "__main__":
    {"coins": write_coins, "galaxies": write_galaxies, "pasted": write_pasted}[sys.argv[1]](Path(sys.argv[2]))
