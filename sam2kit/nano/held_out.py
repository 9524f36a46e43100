"""Pictures and clips that training never sees, always the same ones, to measure on.

Painted ones, with a seed and textures of their own; the tenth of the photographs and turntables that is held out; and
clips of the project's own photos with exact masks: cut-outs that move over other photos along known paths. One thing
grows and turns; one is passed by another; one leaves the picture and comes back.
`python -m sam2kit.nano.held_out assets/photos assets/clips` writes these as videos, for the app's examples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from sam2kit.data.coco import open_coco
from sam2kit.data.sample import LabelledFrames, Sample
from sam2kit.files import make_folder
from sam2kit.media.pictures import read_picture
from sam2kit.nano.appearance import TextureBank
from sam2kit.nano.moving_scenes import random_clip, staged_clip
from sam2kit.nano.real_pixels import RealPixels, read_photo_sets
from sam2kit.nano.scenes import draw_targets, random_scene

STAGES = (  # name, frames in which the thing is gone, and where the one is that looks the same
    ("always in sight", 0, ""),
    ("gone for 3 frames", 3, ""),
    ("gone for 20 frames", 20, ""),
    ("a look-alike crosses", 0, "crosses"),
    ("gone for 20 frames beside a look-alike", 20, "beside"),
)
PICTURES, CLIPS = 160, 40  # how many, unless asked for fewer
HELD_OUT_SEED = 20_240_729  # scenes and textures of this seed are never trained on
_MIN_COLLAGE_SHARE = 0.01  # of a photograph: smaller things have no outline in it
Path2D = Callable[[float], tuple[float, float, float, float]]  # time 0..1 -> x, y (shares of the picture), size, angle


def held_out_pictures(number: int = PICTURES, *, side: int = 256, per_picture: int = 4) -> Iterator[LabelledFrames]:
    """Procedural scenes that training never sees: always the same ones."""
    bank = TextureBank(HELD_OUT_SEED)
    for n in range(number):
        rng = np.random.default_rng([HELD_OUT_SEED, n])
        scene = random_scene(rng, bank, side)
        drawn = dict.fromkeys(draw_targets(rng, scene, per_picture))
        yield LabelledFrames.of_picture(scene.image, [scene.mask(t) for t in drawn])


def held_out_clips(number: int = CLIPS, *, side: int = 256, frames: int = 16) -> Iterator[LabelledFrames]:
    """Procedural clips that training never sees: always the same ones, about three objects in each."""
    bank = TextureBank(HELD_OUT_SEED)
    for n in range(number):
        clip = random_clip(np.random.default_rng([HELD_OUT_SEED, 1, n]), bank, side, frames=frames)
        visible = clip.visible(0)[:4]
        yield LabelledFrames(clip.frames, {i: clip.owners == i for i in visible})


def held_out_stages(number: int, *, side: int = 256, frames: int = 60) -> dict[str, Iterator[LabelledFrames]]:
    """So many clips with each thing that may confuse a tracker; object 1 is to be tracked, 2 looks the same."""
    bank = TextureBank(HELD_OUT_SEED)

    def clips(away: int, rival: str) -> Iterator[LabelledFrames]:
        for n in range(number):
            rng = np.random.default_rng([HELD_OUT_SEED, 3, n])
            clip = staged_clip(rng, bank, side, frames=frames, away=away, rival=rival)
            yield LabelledFrames(clip.frames, {i: clip.owners == i for i in (1, 2)})

    return {name: clips(away, rival) for name, away, rival in STAGES}


def held_out_photos(folder: Path, *, per_picture: int = 6) -> Iterator[tuple[str, LabelledFrames]]:
    """The photographs that are held out, with the names of their sets; at most so many masks of each."""
    for name, photos in read_photo_sets(folder, held_out=True).items():
        for number, photo in enumerate(photos):
            drawn = photo.drawn(np.random.default_rng([HELD_OUT_SEED, number]), per_picture)
            masks = [photo.mask(n) for n in sorted(drawn)]
            yield name, LabelledFrames.of_picture(read_picture(photo.path), masks)


def held_out_collages(
    folder: Path, number: int, *, across: int = 4, part: int = 384, per_picture: int = 4
) -> Iterator[LabelledFrames]:
    """Large pictures of held-out photographs beside one another, as none of them is large; a mask of each."""
    sets = [photos for photos in read_photo_sets(folder, held_out=True).values() if photos]
    for n in range(number):
        rng = np.random.default_rng([HELD_OUT_SEED, 4, n])
        image, masks = np.zeros((across * part, across * part, 3), np.uint8), list[np.ndarray]()
        for place in range(across**2):
            photos = sets[int(rng.integers(len(sets)))]
            photo = photos[int(rng.integers(len(photos)))]
            here = np.s_[part * (place // across) :, part * (place % across) :]
            _put(image[here], read_picture(photo.path)[:part, :part], part)
            mask = photo.mask(photo.drawn(rng, 1)[0])[:part, :part]
            if mask.mean() > _MIN_COLLAGE_SHARE:
                masks.append(np.zeros(image.shape[:2], bool))
                masks[-1][here][: mask.shape[0], : mask.shape[1]] = mask
        chosen = rng.permutation(len(masks))[:per_picture].tolist()
        yield LabelledFrames.of_picture(image, [masks[i] for i in chosen])


def _put(image: np.ndarray, photo: np.ndarray, side: int) -> None:
    """A photograph in the upper left corner of an image, mirrored where it does not fill its square."""
    missing = [(0, side - length) for length in photo.shape[:2]]
    image[:side, :side] = np.pad(photo, (*missing, (0, 0)), mode="symmetric")


def held_out_real_clips(
    photos: Path, turntables: Path, *, objects: int = 100, side: int = 320, frames: int = 16
) -> Iterator[LabelledFrames]:
    """Things from held-out turntables and photographs, moving over held-out photographs."""
    real, bank = RealPixels(photos, turntables, held_out=True), TextureBank(HELD_OUT_SEED)
    for number in count():
        rng = np.random.default_rng([HELD_OUT_SEED, 2, number])
        clip = random_clip(rng, bank, side, frames=frames, real=real, painted=0.0)
        visible = clip.visible(0)[: min(4, objects)]
        if visible:
            yield LabelledFrames(clip.frames, {i: clip.owners == i for i in visible})
        objects -= len(visible)
        if not objects:
            return


@dataclass(frozen=True)
class Actor:
    """A cut-out and its way; `size` is its longer side as a share of the picture's width."""

    photo: str
    name: str
    way: Path2D
    is_target: bool = True


@dataclass(frozen=True)
class PastedScene:
    """Cut-outs over a background."""

    name: str
    ground: str  # photo, or texture beside the photos
    actors: tuple[Actor, ...]  # back to front


def _bump(u: float, at: float, width: float) -> float:
    return float(np.exp(-(((u - at) / width) ** 4)))


PASTED_SCENES = (
    PastedScene(
        "cup_grows",
        "../textures/grass.jpg",
        (
            Actor("coffee.jpg", "cup", lambda u: (0.3 + 0.35 * u, 0.6 - 0.12 * np.sin(3 * u), 0.28 + 0.2 * u, 14 * u)),
            Actor("astronaut.jpg", "mission patch", lambda u: (0.8 - 0.2 * u, 0.22 + 0.05 * u, 0.16, -25 * u)),
        ),
    ),
    PastedScene(
        "cat_is_passed",
        "../textures/brick.jpg",
        (
            Actor("chelsea.jpg", "cat", lambda u: (0.42 + 0.1 * u, 0.55, 0.5 - 0.05 * u, 5 * np.sin(4 * u))),
            Actor("coffee.jpg", "saucer", lambda u: (-0.2 + 1.5 * u, 0.45 + 0.1 * u, 0.42, 40 * u), is_target=False),
        ),
    ),
    PastedScene(
        "helmet_leaves",
        "rocket.jpg",
        (
            Actor(
                "astronaut.jpg",
                "helmet",
                lambda u: (0.35 + 0.9 * _bump(u, 0.5, 0.22), 0.5 + 0.08 * np.sin(6 * u), 0.34, -12 * u),
            ),
            Actor("camera.jpg", "video camera", lambda u: (0.2 + 0.1 * u, 0.8, 0.18, 0.0)),
        ),
    ),
)


def pasted_clips(folder: Path, *, frames: int = 24, size_hw: tuple[int, int] = (240, 320)) -> Iterator[LabelledFrames]:
    """The three clips.

    Args:
        folder: photos with their annotations.json, and the textures beside it.
        frames: of each clip; the ways are the same at any number.
        size_hw: of the frames, in pixels.
    Raises:
        FileNotFoundError: if a photo is missing.
    """
    for scene in PASTED_SCENES:
        yield paste_clip(folder, scene, frames=frames, size_hw=size_hw)


def paste_clip(folder: Path, scene: PastedScene, *, frames: int, size_hw: tuple[int, int]) -> LabelledFrames:
    """One clip; arguments as `pasted_clips`. Objects are numbered back to front, from 1."""
    photos = {sample.name: sample for sample in open_coco(folder).samples}
    ground = cv2.resize(read_picture(folder / scene.ground), size_hw[::-1], interpolation=cv2.INTER_AREA)
    cut_outs = [_cut_out(photos[actor.photo], actor.name) for actor in scene.actors]
    images = np.empty((frames, *size_hw, 3), np.uint8)
    owners = np.zeros((frames, *size_hw), np.uint8)
    for t in range(frames):
        image = ground.astype(np.float32)
        for number, (actor, pixels) in enumerate(zip(scene.actors, cut_outs, strict=True), start=1):
            _paste(image, owners[t], pixels, actor.way(t / max(frames - 1, 1)), number)
        images[t] = image.astype(np.uint8)
    targets = [n for n, actor in enumerate(scene.actors, start=1) if actor.is_target]
    return LabelledFrames(images, {n: owners == n for n in targets})


def _cut_out(photo: Sample, name: str) -> np.ndarray:
    """float32 [h, w, 4]: RGB and coverage."""
    labelled = photo.read()
    mask = next(labelled.masks[number][0] for number, label in labelled.labels.items() if label == name)
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    both = np.concatenate([labelled.image, 255 * mask[..., None]], axis=2).astype(np.float32)
    return np.pad(both[y : y + height, x : x + width], ((2, 2), (2, 2), (0, 0)))


def _paste(
    image: np.ndarray, owners: np.ndarray, pixels: np.ndarray, place: tuple[float, float, float, float], number: int
) -> None:
    height, width = owners.shape
    x, y, size, angle = place
    h, w = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, size * width / max(h, w))
    matrix[:, 2] += np.array([x * width - w / 2, y * height - h / 2])
    premultiplied = pixels.copy()
    premultiplied[..., :3] *= premultiplied[..., 3:] / 255
    drawn = cv2.warpAffine(premultiplied, matrix, (width, height), flags=cv2.INTER_AREA)
    coverage = drawn[..., 3:] / 255
    image *= 1 - coverage
    image += drawn[..., :3]
    owners[coverage[..., 0] > 0.5] = number


def write_examples(folder: Path, out: Path, *, frames: int = 72, fps: int = 24) -> list[Path]:
    """Write the clips as small videos."""
    from sam2kit.media.video_writer import VideoWriter

    make_folder(out)
    paths = [out / f"{scene.name}.mp4" for scene in PASTED_SCENES]
    for path, clip in zip(paths, pasted_clips(folder, frames=frames, size_hw=(360, 480)), strict=True):
        with VideoWriter(path, (360, 480)) as writer:
            for number, frame in enumerate(clip.frames):
                writer.write(frame, Fraction(number, fps))
    return paths


if __name__ == "__main__":
    for path in write_examples(Path(sys.argv[1]), Path(sys.argv[2])):
        print(path)
