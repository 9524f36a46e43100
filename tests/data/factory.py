"""Small datasets in every format, made of pictures that differ and masks that are hard to carry over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sam2kit.media.mask_files import binary_image, davis_palette
from sam2kit.media.mask_files import mask_to_runs as runs  # noqa: F401 - for tests, under a short name

SIZE_HW = (60, 80)


def picture(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """uint8 [H, W, 3]: smooth, so that JPEG keeps it, and another one for every seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.array(Image.fromarray(small).resize(size_hw[::-1], Image.Resampling.BICUBIC))


def save(image: Image.Image, path: Path, **options: object) -> Path:
    """A picture file, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def write_picture(path: Path, seed: int = 0, size_hw: tuple[int, int] = SIZE_HW, *, orientation: int = 1) -> Path:
    """A picture file; `orientation` goes into its EXIF."""
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    return save(Image.fromarray(picture(seed, size_hw)), path, exif=exif)


def block(y0: int, x0: int, y1: int, x1: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """bool [H, W] with one rectangle."""
    mask = np.zeros(size_hw, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def hard_masks() -> dict[str, np.ndarray]:
    """Masks that formats lose: with a hole, in parts, of one pixel, of one line, at the border; none overlap."""
    line = np.zeros(SIZE_HW, bool)
    line[np.arange(30, 50), np.arange(2, 22)] = True
    ragged = block(30, 30, 58, 50)
    ragged[30:58, 30:50] &= np.random.default_rng(3).random((28, 20)) > 0.3
    return {
        "ring": block(4, 4, 20, 24) & ~block(8, 9, 15, 18),
        "parts": block(4, 40, 9, 47) | block(15, 55, 22, 60) | block(18, 41, 19, 42),
        "pixel": block(25, 70, 26, 71),
        "line": line,
        "ragged": ragged,
        "border": block(50, 60, 60, 80),
    }


def write_mask(path: Path, mask: np.ndarray, mode: str = "L") -> Path:
    """A black and white mask file."""
    return save(binary_image(mask).convert(mode), path)


def write_labels(path: Path, masks: Sequence[np.ndarray] | dict[int, np.ndarray], *, palette: bool = True) -> Path:
    """A label picture; objects 1, 2, ... or as numbered."""
    numbered = masks if isinstance(masks, dict) else dict(enumerate(masks, start=1))
    labels = np.zeros(next(iter(numbered.values())).shape if numbered else SIZE_HW, np.uint8)
    for number, mask in numbered.items():
        labels[mask] = number
    image = Image.fromarray(labels)
    if palette:
        image.putpalette(davis_palette().tobytes())
    return save(image, path)


def write_json(path: Path, content: object) -> Path:
    """Any JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_coco(root: Path, segmentations: Sequence[object], **image: object) -> Path:
    """a.png and a COCO JSON with one annotation per segmentation."""
    write_picture(root / "a.png")
    entry = {"id": 7, "file_name": "a.png", "width": SIZE_HW[1], "height": SIZE_HW[0], **image}
    annotations = [
        {"id": i, "image_id": 7, "category_id": 3, "iscrowd": 0, "segmentation": s}
        for i, s in enumerate(segmentations, start=1)
    ]
    content = {"images": [entry], "annotations": annotations, "categories": [{"id": 3, "name": "cat"}]}
    return write_json(root / "coco.json", content)


def write_yolo(root: Path, text: str, names: str = "[cat, dog]") -> Path:
    """images/a.png with labels/a.txt, and data.yaml."""
    write_picture(root / "images" / "a.png")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text(text)
    (root / "data.yaml").write_text(f"path: .\ntrain: images\nval: images\nnames: {names}\n")
    return root


def write_labelme(path: Path, shapes: Sequence[dict], **more: object) -> Path:
    """A LabelMe JSON about a picture of its name."""
    size = {"imageHeight": SIZE_HW[0], "imageWidth": SIZE_HW[1]}
    return write_json(
        path, {"shapes": list(shapes), "imagePath": f"{path.stem}.png", "imageData": None, **size, **more}
    )


def write_davis(root: Path, clips: dict[str, list[dict[int, np.ndarray] | None]], suffix: str = ".jpg") -> Path:
    """Frames and label pictures; None is a frame without truth."""
    for seed, (name, frames) in enumerate(clips.items()):
        for index, masks in enumerate(frames):
            write_picture(root / "JPEGImages" / name / f"{index:05d}{suffix}", 100 * seed + index)
            if masks is not None:
                write_labels(root / "Annotations" / name / f"{index:05d}.png", masks)
    return root


def write_sav(root: Path, masklet: list, name: str = "clip", frames: int = 9, **more: object) -> Path:
    """A folder of frames and a _manual.json."""
    for index in range(frames):
        write_picture(root / name / f"{index:05d}.jpg", index)
    content = {"video_id": name, "video_frame_count": frames, "masklet": masklet, **more}
    write_json(root / f"{name}_manual.json", content)
    return root
