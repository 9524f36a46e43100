"""Scores two folders of PNG masks against each other, without any model: what benchmarks exchange.

Two layouts, recognised by what is there:

    DAVIS, MOSE, LVOS, YouTube-VOS    VIDEO/FRAME.png           the value of a pixel is its object, 0 is none
    SA-V                              VIDEO/OBJECT/FRAME.png    the object is where a pixel is above 0

Beside label pictures, VIDEO/objects/NUMBER/FRAME.png holds whole objects of frames on which they overlap, as our own
exports have it.

Only frames with truth count, so predictions may be denser. A folder with pictures of one video works too. Where
sam2kit could not keep an id as pixel value, `objects.json` beside the PNGs says which number stands for it.

Surprise: in the SA-V layout the ends that are skipped are those of each object's own files.

Source: evaluator of the SA-V data set, arXiv:2408.00714.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from sam2kit.evaluation.metrics import OFFICIAL, Scoring, SequenceScorer, TrackScore
from sam2kit.evaluation.reports import ObjectRow
from sam2kit.files import MALFORMED, check_file, read_json
from sam2kit.media.mask_files import overlap_files
from sam2kit.media.pictures import open_image

_LABEL_MODES = ("P", "L", "1", "I", "I;16")  # of PNGs whose values are numbers of objects
_MOST_OBJECTS = 1000


def score_folders(
    masks: Path, truth: Path, scoring: Scoring = OFFICIAL, *, missing_is_empty: bool = False
) -> Iterator[ObjectRow]:
    """J and F of every object of every video of the truth.

    Args:
        masks: folder of predictions, in the layout of the truth; videos without truth are passed over.
        truth: folder of true masks.
        scoring: which frames count.
        missing_is_empty: take a missing prediction as one without objects, instead of refusing it.
    Yields:
        rows with "J&F", "J", "F" (0..1) and "frames", the number of frames that count.
    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: if there is no truth, a prediction is missing or has another size, or a file is no mask.
    """
    for folder in (masks, truth):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder at {folder}")
    videos = [Path()] if _frames(truth) else [Path(p.name) for p in sorted(truth.iterdir()) if p.is_dir()]
    found = False
    for video in videos:
        for object_id, score in _FolderPair(masks / video, truth / video, scoring, missing_is_empty).scores():
            found = True
            yield ObjectRow(video.name or truth.name, object_id, score.as_scores())
    if not found:
        raise ValueError(f"{truth} has no masks to compare with: PNGs in VIDEO/FRAME.png or VIDEO/OBJECT/FRAME.png")


@dataclass(frozen=True)
class _FolderPair:
    """One video: predictions and truth."""

    masks: Path
    truth: Path
    scoring: Scoring
    missing_is_empty: bool

    def scores(self) -> Iterator[tuple[str, TrackScore]]:
        """(object, scores) in either layout."""
        one, each = "one PNG for all objects of a frame", "a folder for each object"
        if _frames(self.truth):
            if not _frames(self.masks) and self.masks.is_dir() and any(p.is_dir() for p in self.masks.iterdir()):
                raise ValueError(f"{self.masks} has {each}, but {self.truth} has {one}")
            yield from ((str(i), score) for i, score in self._scored(Path(), read_labels).items())
            return
        for folder in filter(_frames, sorted(self.truth.iterdir())):
            if _frames(self.masks):
                raise ValueError(f"{self.masks} has {one}, but {self.truth} has {each}")
            yield from ((folder.name, score) for score in self._scored(Path(folder.name), _single).values())

    def _scored(self, place: Path, read: Callable[[Path], np.ndarray]) -> dict[int, TrackScore]:
        """The objects in the frames of a folder; a single one has the number 1."""
        names = _frames(self.truth / place)
        scorer, counted = SequenceScorer(self.scoring), self.scoring.counted(len(names))
        tables = (_id_table(folder) if read is read_labels else {} for folder in (self.masks, self.truth))
        true_number = _true_numbers(*tables)
        ids: set[int] = set()
        for t, name in enumerate(names):
            labels = read(self.truth / place / name)
            true = self._objects(labels, self.truth / place, name)
            ids |= true.keys()
            mine = self._prediction(self.masks / place / name, labels, read)
            if t in counted:
                void = labels == self.scoring.void if self.scoring.void is not None else None
                given = self._objects(mine, self.masks / place, name)
                scorer.add({true_number.get(i, i): mask for i, mask in given.items()}, true, void)
        return scorer.scores(ids)

    def _prediction(self, path: Path, true: np.ndarray, read: Callable[[Path], np.ndarray]) -> np.ndarray:
        if path.is_file():
            return _of_size(path, read(path), "its truth", true)
        if self.missing_is_empty:
            return np.zeros_like(true)
        raise ValueError(f"there is no prediction {path}, but there is truth for that frame")

    def _objects(self, labels: np.ndarray, folder: Path, name: str) -> dict[int, np.ndarray]:
        """object -> bool [H, W]; of frames on which objects overlap, from the files of single ones."""
        values = np.unique(labels)
        if len(values) > _MOST_OBJECTS:
            most = f"but a frame {_MOST_OBJECTS} objects at most; is it a photo?"
            raise ValueError(f"a mask has {len(values)} values, {most}")
        found = {int(i): labels == i for i in values if i not in (0, self.scoring.void)}
        for number, path in overlap_files(folder, name).items():
            found[number] = _of_size(path, _single(path), str(folder / name), labels) > 0
        return found


def _of_size(path: Path, mask: np.ndarray, other: str, wanted: np.ndarray) -> np.ndarray:
    if mask.shape != wanted.shape:
        sizes = [f"{width}x{height}" for height, width in (mask.shape, wanted.shape)]
        raise ValueError(f"{path} is {sizes[0]}, but {other} is {sizes[1]}")
    return mask


def _id_table(folder: Path) -> dict[int, Any]:
    """Number -> object id, as `objects.json` says; empty without one.

    Raises:
        ValueError: if it is not as sam2kit wrote it.
    """
    file = folder / "objects.json"
    if not file.is_file():
        return {}
    try:
        return {int(row["number"]): row["object_id"] for row in read_json(file)}
    except MALFORMED as error:
        raise ValueError(f"{file} is not as sam2kit wrote it ({error!r}); export the masks again") from error


def _true_numbers(mine: dict[int, Any], true: dict[int, Any]) -> dict[int, int]:
    """Number in the predictions -> number of the same object in the truth.

    Where the truth has a table, an id that it lacks gets a number below 0, which no object of the truth has; where it
    has none, a word stays with its number.
    """
    numbers = {object_id: number for number, object_id in true.items()}
    return {n: numbers.get(i, -n if true else i if isinstance(i, int) else n) for n, i in mine.items()}


def read_labels(path: Path) -> np.ndarray:
    """The numbers in a PNG with a palette or of grey values: [H, W], 0 is no object.

    Raises:
        ValueError: if it cannot be read or is a picture in colour.
    """
    check_file(path, "mask")
    try:
        with open_image(path) as image:
            if image.mode not in _LABEL_MODES:
                raise ValueError(f"{path} is a picture in colour ({image.mode}); a mask has a palette or grey values")
            return np.array(image).astype(np.int32)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read as a PNG mask") from error


def _single(path: Path) -> np.ndarray:
    """[H, W] of a file that holds one object: 1 where it is."""
    labels = read_labels(path)
    values = np.unique(labels)
    if len(values) > 2:
        raise ValueError(f"{path} has {len(values)} values, but a mask of one object has two at most")
    return (labels > 0).astype(np.int32)


def _frames(folder: Path) -> list[str]:
    """Names of the PNGs of a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() == ".png" and not p.name.startswith("."))
