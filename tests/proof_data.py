"""Two small datasets that show what fine-tuning does: coins in a photograph, and clips pasted from photographs.

    python -m tests.proof_data coins DIR      pictures/ and masks/, 24 tiles of scikit-image's `coins`
    python -m tests.proof_data pasted DIR     JPEGImages/ and Annotations/, clips of cut-outs that move

The true masks are ours: the coins' edges found by a watershed, the cut-outs by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from sam2kit.training.pasted_clips import Actor, Path2D, Scene, paste_clip

_COINS, _TILE = 24, 96
_CLIPS, _FRAMES, _SEED = 18, 16, 7
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
        y0 = int(np.clip(y - _TILE // 2, low, high - _TILE))
        x0 = int(np.clip(x - _TILE // 2, 0, photo.shape[1] - _TILE))
        cut = np.s_[y0 : y0 + _TILE, x0 : x0 + _TILE]
        whole = [n for n in np.unique(labels[cut]) if n and (labels[cut] == n).sum() > 0.6 * (labels == n).sum()]
        for part, pixels in (("images", photo[cut]), ("masks", np.where(np.isin(labels[cut], whole), labels[cut], 0))):
            path = folder / split / part / f"coin_{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def find_coins(photo: np.ndarray) -> np.ndarray:
    """int [H, W]: 1 to 24 on the coins, 0 elsewhere."""
    from skimage import filters, segmentation

    markers = np.zeros(photo.shape, int)
    markers[photo < 30], markers[photo > 150] = 1, 2
    filled = ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(photo), markers) == 2)
    labels, count = ndimage.label(filled)
    areas = ndimage.sum_labels(np.ones(photo.shape), labels, range(1, count + 1))
    coins = np.flatnonzero(areas > 300) + 1
    assert len(coins) == _COINS, f"found {len(coins)} coins"
    return np.searchsorted(coins, labels, side="left") * np.isin(labels, coins) + np.isin(labels, coins)


def write_pasted(folder: Path) -> Path:
    """Clips of cut-outs that wander over other photos, in the DAVIS layout: 12 to learn from, 6 held out.

    The same things are in both, on other backgrounds and other ways.
    """
    photos = Path(__file__).parent.parent / "assets" / "photos"
    names = {"train": [], "val": []}
    for number in range(_CLIPS):
        rng = np.random.default_rng([_SEED, number])
        clip = paste_clip(photos, _wandering(rng, number), frames=_FRAMES, size_hw=(192, 256))
        name = f"clip_{number:02d}"
        names["val" if number % 3 == 2 else "train"].append(name)
        for t, frame in enumerate(clip.frames):
            labels = sum(
                (n * masks[t].astype(np.uint8) for n, masks in clip.masks.items()), np.zeros((192, 256), np.uint8)
            )
            for part, picture, suffix in (("JPEGImages", frame, "jpg"), ("Annotations", labels, "png")):
                path = folder / part / name / f"{t:05d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path, **({"quality": 92} if suffix == "jpg" else {}))
    (folder / "ImageSets").mkdir(exist_ok=True)
    for split, clips in names.items():
        (folder / "ImageSets" / f"{split}.txt").write_text("\n".join(clips) + "\n")
    return folder


def _wandering(rng: np.random.Generator, number: int) -> Scene:
    """Three things on smooth random ways; the one in front may hide the others, and things may leave the picture."""
    chosen = rng.permutation(len(_THINGS))[:3]
    actors = tuple(Actor(*_THINGS[i], _way(rng)) for i in chosen)
    grounds = [g for g in _GROUNDS if g not in {actor.photo for actor in actors}]
    return Scene(f"clip_{number:02d}", str(rng.choice(grounds)), actors)


def _way(rng: np.random.Generator) -> Path2D:
    x, y = rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.7)
    reach, speed, phase = rng.uniform(0.1, 0.35, 2), rng.uniform(2, 5, 2), rng.uniform(0, 6, 2)
    size, grows, turns = rng.uniform(0.2, 0.4), rng.uniform(-0.3, 0.5), rng.uniform(-40, 40)

    def way(u: float) -> tuple[float, float, float, float]:
        dx, dy = reach * np.sin(speed * u + phase)
        return x + dx, y + dy, size * (1 + grows * u), turns * u

    return way


if __name__ == "__main__":
    {"coins": write_coins, "pasted": write_pasted}[sys.argv[1]](Path(sys.argv[2]))
