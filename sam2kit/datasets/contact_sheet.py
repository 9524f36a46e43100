"""Many samples on one picture, masks in colour: a mistake that no number shows is seen at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sam2kit.datasets.samples import Dataset, LabelledPicture, PictureSample, Sample
from sam2kit.files import make_folder
from sam2kit.media.drawing import draw_masks
from sam2kit.media.exports import write_image

_CAPTION = 20  # pixels below each picture
_GAP = 6
_PAPER, _INK, _BAD = (250, 250, 250), (40, 40, 40), (200, 40, 40)


def contact_sheet(
    dataset: Dataset,
    path: str | PathLike[str],
    *,
    columns: int = 6,
    most: int = 48,
    tile_wh: tuple[int, int] = (240, 180),
) -> Path:
    """Write a PNG of samples with their masks; of clips, the first annotated frame.

    Args:
        path: ends in .png or .jpg; a file that is there is replaced.
        columns: samples side by side.
        most: of larger datasets, this many samples from begin to end are shown.
        tile_wh: of each sample, in pixels.
    Returns:
        the path.
    Raises:
        ValueError: if the dataset is empty, or the file's type is unknown.
    """
    path, samples = Path(path), dataset.samples
    if not samples:
        raise ValueError(f"{dataset.path} has no sample that could be shown on a contact sheet")
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"a contact sheet is a picture, such as {path.stem}.png; got {path.name}")
    chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(int)]
    columns = max(1, min(columns, len(chosen)))
    make_folder(path.parent)
    return write_image(Image.fromarray(_sheet([_tile(s, tile_wh) for s in chosen], columns)), path)


def _sheet(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), _PAPER, np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        y, x = _GAP + row * (height + _GAP), _GAP + column * (width + _GAP)
        sheet[y : y + height, x : x + width] = tile
    return sheet


def _tile(sample: Sample, tile_wh: tuple[int, int]) -> np.ndarray:
    width, height = tile_wh
    tile = np.full((height + _CAPTION, width, 3), _PAPER, np.uint8)
    try:
        labelled = _first_picture(sample)
    except (ValueError, OSError):
        tile[:height] = 225
        _write(tile, "cannot be used", (8, height // 2), _BAD)
        _write(tile, _short(sample.name, width), (2, height + 14), _BAD)
        return tile
    small = _small(labelled, tile_wh)
    y, x = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    tile[y : y + small.shape[0], x : x + small.shape[1]] = small
    _write(tile, _short(sample.name, width - 30), (2, height + 14), _INK)
    _write(tile, str(len(labelled.masks)), (width - 26, height + 14), _INK if labelled.masks else _BAD)
    return tile


def _first_picture(sample: Sample) -> LabelledPicture:
    if isinstance(sample, PictureSample):
        return sample.read()
    labelled = sample.read(sample.truth_frames[:1])
    return LabelledPicture(labelled.frames[0], [masks[0] for masks in labelled.masks.values()])


def _small(labelled: LabelledPicture, tile_wh: tuple[int, int]) -> np.ndarray:
    """The picture within a tile, its masks drawn after shrinking, so that outlines stay visible."""
    height, width = labelled.image.shape[:2]
    scale = min(tile_wh[0] / width, tile_wh[1] / height)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(labelled.image, size_wh, interpolation=cv2.INTER_AREA)
    masks = (cv2.resize(m.astype(np.uint8) * 255, size_wh, interpolation=cv2.INTER_AREA) > 64 for m in labelled.masks)
    return draw_masks(small, masks, range(len(labelled.masks)))


def _short(name: str, width: int) -> str:
    """The end of a name, as much as fits; letters that the font lacks become question marks."""
    letters = max(4, width // 7)
    plain = name.encode("ascii", "replace").decode()
    return plain if len(plain) <= letters else "..." + plain[3 - letters :]


def _write(tile: np.ndarray, text: str, xy: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(tile, text, xy, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
