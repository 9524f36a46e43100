"""Scores two folders of PNG masks against each other, without any model: what benchmarks exchange.

Two layouts, told apart by what is there:

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

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from sam2kit.errors import ODD
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.evaluation.vos import OFFICIAL, Scoring, SequenceScorer, TrackScore, size_text
from sam2kit.files import check_file, read_json
from sam2kit.media.exports import overlap_files
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
        name = video.name or truth.name
        pair = _FolderPair(masks / video, truth / video, scoring, missing_is_empty)
        for object_id, score in pair.scores():
            found = True
            yield ObjectRow(name, object_id, score.as_scores())
    if not found:
        raise ValueError(f"{truth} has no masks to compare with: PNGs in VIDEO/FRAME.png or VIDEO/OBJECT/FRAME.png")


class _FolderPair:
    """One video: predictions and truth."""

    def __init__(self, masks: Path, truth: Path, scoring: Scoring, missing_is_empty: bool) -> None:
        self.masks, self.truth, self.scoring = masks, truth, scoring
        self.missing_is_empty = missing_is_empty
        self.true_number = _true_numbers(_id_table(masks), _id_table(truth))

    def scores(self) -> Iterator[tuple[str, TrackScore]]:
        """(object, scores) in either layout."""
        if _frames(self.truth):
            yield from self._of_labels()
        else:
            objects = [p for p in sorted(self.truth.iterdir()) if p.is_dir() and _frames(p)]
            if objects and _frames(self.masks):
                other = f"but {self.truth} has a folder for each object"
                raise ValueError(f"{self.masks} has one PNG for all objects of a frame, {other}")
            for folder in objects:
                yield from self._of_one(folder.name)

    def _of_labels(self) -> Iterator[tuple[str, TrackScore]]:
        names = _frames(self.truth)
        if not _frames(self.masks) and self.masks.is_dir() and any(p.is_dir() for p in self.masks.iterdir()):
            other = f"but {self.truth} has one PNG for all objects of a frame"
            raise ValueError(f"{self.masks} has a folder for each object, {other}")
        scorer = SequenceScorer(self.scoring)
        counted = self.scoring.counted(len(names))
        ids: set[int] = set()
        for t, name in enumerate(names):
            labels = read_labels(self.truth / name)
            true = self._objects(labels, self.truth, name)
            ids |= true.keys()
            mine = self._prediction(Path(name), labels)
            if t in counted:
                void = labels == self.scoring.void if self.scoring.void is not None else None
                given = self._objects(mine, self.masks, name)
                scorer.add({self.true_number.get(i, i): mask for i, mask in given.items()}, true, void)
        yield from ((str(i), score) for i, score in scorer.scores(ids).items())

    def _of_one(self, object_id: str) -> Iterator[tuple[str, TrackScore]]:
        folder = self.truth / object_id
        names = _frames(folder)
        scorer = SequenceScorer(self.scoring)
        counted = self.scoring.counted(len(names))
        in_truth = False
        for t, name in enumerate(names):
            true = _single(folder / name)
            in_truth |= bool(true.any())
            mine = self._prediction(Path(object_id, name), true, single=True)
            if t in counted:
                scorer.add({0: mine}, {0: true})
        yield from ((object_id, score) for score in scorer.scores({0} if in_truth else ()).values())

    def _prediction(self, name: Path, true: np.ndarray, *, single: bool = False) -> np.ndarray:
        path = self.masks / name
        if not path.is_file():
            if self.missing_is_empty:
                return np.zeros_like(true)
            raise ValueError(f"there is no prediction {path}, but there is truth for that frame")
        mine = (_single if single else read_labels)(path)
        if mine.shape != true.shape:
            raise ValueError(f"{path} is {size_text(mine)}, but its truth is {size_text(true)}")
        return mine

    def _objects(self, labels: np.ndarray, folder: Path, name: str) -> dict[int, np.ndarray]:
        """object -> bool [H, W]; of frames on which objects overlap, from the files of single ones."""
        found = {int(i): labels == i for i in _objects_in(labels) if i not in (0, self.scoring.void)}
        for number, path in overlap_files(folder, name).items():
            found[number] = _single(path)
            if found[number].shape != labels.shape:
                raise ValueError(f"{path} is {size_text(found[number])}, but {folder / name} is {size_text(labels)}")
        return found


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
    except ODD as error:
        raise ValueError(f"{file} is not as sam2kit wrote it ({error!r}); export the masks again") from error


def _true_numbers(mine: dict[int, Any], true: dict[int, Any]) -> dict[int, int]:
    """Number in the predictions -> number of the same object in the truth, where they differ.

    An id that is a word and that the truth does not name stays with its number.
    """
    numbers = {object_id: number for number, object_id in true.items()}
    wanted = {n: numbers.get(i, i if isinstance(i, int) and not true else n) for n, i in mine.items()}
    return {n: number for n, number in wanted.items() if number != n}


def _objects_in(labels: np.ndarray) -> np.ndarray:
    found = np.unique(labels)
    if len(found) > _MOST_OBJECTS:
        raise ValueError(f"a mask has {len(found)} values, but a frame {_MOST_OBJECTS} objects at most; is it a photo?")
    return found


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
    """bool [H, W] of a file that holds one object."""
    labels = read_labels(path)
    values = np.unique(labels)
    if len(values) > 2:
        raise ValueError(f"{path} has {len(values)} values, but a mask of one object has two at most")
    return labels > 0


def _frames(folder: Path) -> list[str]:
    """Names of the PNGs of a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() == ".png" and not p.name.startswith("."))
