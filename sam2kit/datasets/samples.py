"""Pictures and clips with true masks, before and after they are read.

A sample knows its name and where its pixels are; `read` opens the files. So a dataset of any size opens in the time
that its lists take, and a sample can be sent to another process.

    Dataset --- PictureSample --read()--> LabelledPicture      a picture and its masks
            +-- ClipSample ----read(frames)-> LabelledClip     some frames of a clip and their masks
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

REMARKS = ("kept_crowd", "rectangles", "other_picture")  # kinds of notes on what is used all the same


@dataclass(frozen=True)
class Note:
    """Something about a sample or a file that people should know."""

    kind: str  # one of report.KINDS
    text: str  # a sentence with the file's name: what came, what was wanted, what to do


class BadSampleError(ValueError):
    """A sample cannot be used; the sentence names the file and says what to do.

    Args:
        text: the sentence.
        kind: one of report.KINDS.
    """

    def __init__(self, text: str, kind: str = "unreadable") -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and the true masks to be found in it."""

    image: np.ndarray  # uint8 [H, W, 3]
    masks: list[np.ndarray]  # bool [H, W] each
    labels: list[str | None] = field(default_factory=list)  # class of each mask, where it is known; may be empty


@dataclass(frozen=True)
class LabelledClip:
    """A clip, or some frames of one, and the true masks of its objects."""

    frames: np.ndarray  # uint8 [T, H, W, 3]
    masks: dict[int, np.ndarray]  # object -> bool [T, H, W], empty where it is absent


class PictureSample(ABC):
    """One picture of a dataset, not yet read."""

    name: str  # unique in its dataset, the same on every machine: a relative path, mostly
    split: str | None  # "train", "val" or "test" where the dataset says so
    if TYPE_CHECKING:  # read only: each format keeps them as fields, or works them out when asked

        @property
        def mask_count(self) -> int | None:
            """Where it is known before reading."""

        @property
        def files(self) -> Sequence[Path]:
            """What belongs to this sample alone."""

    else:
        mask_count = None
        files = ()

    @property
    def picture_files(self) -> Sequence[Path]:
        """Those of the files that hold pixels."""
        return self.files[:1]

    @abstractmethod
    def read(self) -> LabelledPicture:
        """Open the files.

        Raises:
            ValueError: in one sentence with the file's name, if picture or masks cannot be used.
        """


class ClipSample(ABC):
    """One clip of a dataset, not yet read."""

    name: str
    split: str | None
    if TYPE_CHECKING:  # read only, as above; every format has these three, as fields or properties

        @property
        def frame_count(self) -> int:
            """Of the whole clip."""

        @property
        def truth_frames(self) -> Sequence[int]:
            """Frames whose true masks are known, ascending; the others say nothing."""

        @property
        def object_ids(self) -> Sequence[int]:
            """Numbers of all objects."""

        @property
        def files(self) -> Sequence[Path]:
            """What belongs to this sample alone."""

    else:
        files = ()

    @property
    def picture_files(self) -> Sequence[Path]:
        """Those of the files that hold pixels: the frames in order, or the video."""
        return self.files[:1]

    @abstractmethod
    def read(self, frames: Sequence[int]) -> LabelledClip:
        """Some frames, in the given order.

        Args:
            frames: numbers out of `truth_frames`.
        Returns:
            the frames, and the masks of the objects that are seen in at least one of them.
        Raises:
            ValueError: in one sentence with the file's name, if frames or masks cannot be used.
        """

    @abstractmethod
    def frame(self, index: int) -> np.ndarray:
        """Any frame of the clip, uint8 [H, W, 3], with truth or without."""


Sample = PictureSample | ClipSample  # whatever a dataset holds


@dataclass(frozen=True)
class Dataset:
    """What was found under a path."""

    path: Path
    format: str  # such as "COCO JSON"; shown to people
    pictures: Sequence[PictureSample] = field(default_factory=list)
    clips: Sequence[ClipSample] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # a sentence for everything that was found but cannot be used
    notes: list[Note] = field(default_factory=list)  # the same sentences with their kinds, and REMARKS
    classes: tuple[str, ...] = ()  # names, where the format has them
    sources: tuple[Path, ...] = ()  # lists and JSON that belong to all samples together

    def __len__(self) -> int:
        return len(self.pictures) + len(self.clips)

    @property
    def samples(self) -> list[Sample]:
        """The pictures, then the clips."""
        return [*self.pictures, *self.clips]

    def describe(self) -> str:
        """What was found, in a sentence for people."""
        found = []
        if self.pictures:
            counts = [count for sample in self.pictures if (count := sample.mask_count) is not None]
            masks = f" with {counted(sum(counts), 'mask')}" if len(counts) == len(self.pictures) else ""
            found.append(counted(len(self.pictures), "picture") + masks)
        if self.clips:
            truths = sum(len(clip.truth_frames) for clip in self.clips)
            found.append(f"{counted(len(self.clips), 'clip')} with {counted(truths, 'annotated frame')}")
        if self.classes:
            found.append(counted(len(self.classes), "class", "classes"))
        splits = {name: n for name in ("train", "val", "test") if (n := len(self.of_split(name)))}
        told = f" ({', '.join(f'{n} {name}' for name, n in splits.items())})" if splits else ""
        skipped = f"; {len(self.skipped)} skipped" if self.skipped else ""
        remarks = "".join(f"; {note.text}" for note in self.notes if note.kind in REMARKS)
        return f"{self.format}: {', '.join(found) or 'nothing that can be used'}{told}{skipped}{remarks}"

    def of_split(self, name: str) -> Dataset:
        """The samples of one split, as a dataset."""
        return self.subset(sample.name for sample in self.samples if sample.split == name)

    def subset(self, names: Iterable[str]) -> Dataset:
        """The samples with these names, as a dataset, in the order they have here."""
        wanted = set(names)
        pictures = [sample for sample in self.pictures if sample.name in wanted]
        return replace(self, pictures=pictures, clips=[clip for clip in self.clips if clip.name in wanted])


def left_out(notes: Iterable[Note]) -> list[str]:
    """The sentences about what was found but cannot be used."""
    return [note.text for note in notes if note.kind not in REMARKS]


def counted(number: int, one: str, many: str | None = None) -> str:
    """ "1 clip", "2 clips"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
