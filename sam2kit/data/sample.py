"""Pictures and clips with true masks, before and after they are read: a picture is a clip of one frame.

A sample knows its name and where its pixels and masks are; `read` opens the files. So a dataset of any size opens in
the time that its lists take, and a sample can be sent to another process.

    Dataset ---samples---> Sample = Frames + Truth ---read(frames)---> LabelledFrames      some frames and their masks
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from sam2kit.data.stored import BadSampleError, Frames, FrameSize, Note

REMARKS = ("kept_crowd", "rectangles", "other_picture")  # kinds of notes on what is used all the same
_DAMAGED = (TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)  # what odd labels raise


@dataclass(frozen=True)
class LabelledFrames:
    """A picture, or some frames of a clip, and the true masks of its objects."""

    frames: np.ndarray  # uint8 [T, H, W, 3]
    masks: dict[int, np.ndarray]  # object -> bool [T, H, W], empty where it is absent
    labels: dict[int, str] = field(default_factory=dict)  # object -> its class, where that is known

    @classmethod
    def of_picture(cls, image: np.ndarray, masks: Iterable[np.ndarray]) -> LabelledFrames:
        """One frame, uint8 [H, W, 3]; its masks, bool [H, W] each, are the objects 1, 2, ..."""
        return cls(image[None], {number: mask[None] for number, mask in enumerate(masks, start=1)})

    @property
    def image(self) -> np.ndarray:
        """The first frame, uint8 [H, W, 3]."""
        return self.frames[0]

    @property
    def picture_masks(self) -> list[np.ndarray]:
        """The masks of the first frame, bool [H, W] each."""
        return [masks[0] for masks in self.masks.values()]

    @property
    def picture_labels(self) -> list[str | None]:
        """The class of each of these masks; None where it is not known."""
        return [self.labels.get(number) for number in self.masks]

    def seen(self) -> LabelledFrames:
        """Without the objects that are on none of these frames."""
        return replace(self, masks={number: masks for number, masks in self.masks.items() if masks.any()})


@dataclass
class TrueMasks:
    """The masks of one frame: of the upright picture, bool [H, W] each, empty ones included."""

    masks: dict[int, np.ndarray] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def add(self, mask: np.ndarray, label: str | None = None, number: int | None = None) -> None:
        """One more object; without a number it gets the next one."""
        number = len(self.masks) + 1 if number is None else number
        self.masks[number] = mask
        if label is not None:
            self.labels[number] = label

    @contextmanager
    def noting(self) -> Iterator[None]:
        """What is wrong with one mask becomes a note; the others are read."""
        try:
            yield
        except BadSampleError as error:
            self.notes.append(error.note)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Where the true masks of a sample are; can be sent to another process."""

    read: Callable[[int, FrameSize], TrueMasks]  # the masks of one frame; raises BadSampleError
    files: tuple[Path, ...] = ()  # none if a list that belongs to all samples holds the masks
    frames: Sequence[int] = (0,)  # those with truth, ascending
    count: int | None = None  # of masks, where it is known before reading
    ids: Sequence[int] | Callable[[], Sequence[int]] | None = None  # of all objects; None: all has to be read for that
    parts_may_be_objects: bool = False  # whether a mask of several parts may be several objects


@dataclass(eq=False)
class Sample:
    """A picture or a clip of a dataset, not yet read."""

    name: str  # unique in its dataset, the same on every machine: a relative path, mostly
    pixels: Frames
    truth: Truth
    split: str | None = None  # "train", "val" or "test" where the dataset says so

    @property
    def frame_count(self) -> int:
        """Of the whole clip; of a video that is not opened yet perhaps those up to the last annotated one."""
        return self.pixels.count

    @property
    def is_picture(self) -> bool:
        """Whether there is one frame only, so that nothing can be tracked."""
        return self.pixels.is_picture

    @property
    def truth_frames(self) -> Sequence[int]:
        """Frames whose true masks are known, ascending; the others say nothing."""
        return self.truth.frames

    @property
    def object_ids(self) -> Sequence[int]:
        """Numbers of all objects; to know them, some samples have to be read."""
        ids = self.truth.ids
        return tuple(self.read().masks) if ids is None else ids() if callable(ids) else ids

    @property
    def files(self) -> tuple[Path, ...]:
        """What belongs to this sample alone: frames and masks."""
        return tuple(dict.fromkeys((*self.pixels.files, *self.truth.files)))

    def frame(self, index: int) -> np.ndarray:
        """Any frame, uint8 [H, W, 3], with truth or without.

        Raises:
            BadSampleError: if it cannot be read.
        """
        return self.pixels.read(index)

    def read(self, frames: Sequence[int] | None = None) -> LabelledFrames:
        """Some frames and their masks, in the given order.

        Args:
            frames: numbers out of `truth_frames`; None means all of them.
        Returns:
            the frames, and the masks of the objects that are seen in at least one of them.
        Raises:
            BadSampleError: a ValueError with the file's name, if frames or masks cannot be used.
        """
        return self.examine(frames)[0].seen()

    def examine(self, frames: Sequence[int] | None = None) -> tuple[LabelledFrames, list[Note]]:
        """Like `read`, with empty masks, and with remarks on what was read."""
        chosen = list(self.truth_frames if frames is None else frames)
        images = [self.frame(index) for index in chosen]
        sizes = [self.pixels.size(index, image) for index, image in zip(chosen, images, strict=True)]
        if not sizes:
            raise BadSampleError("no frame was asked for; name at least one that has true masks", "no_mask")
        if other := next((size for size in sizes if size.size_hw != sizes[0].size_hw), None):
            (height, width), first = sizes[0].size_hw, Path(sizes[0].name).name
            text = f"{other.name} is {other.size_hw[1]}x{other.size_hw[0]}, {first} is {width}x{height}"
            raise BadSampleError(f"{text}; all frames of a clip need one size", "size")
        truths = [self._truth(index, size) for index, size in zip(chosen, sizes, strict=True)]
        nothing = np.zeros(images[0].shape[:2], bool)
        numbers = sorted({number for truth in truths for number in truth.masks})
        masks = {number: np.stack([t.masks.get(number, nothing) for t in truths]) for number in numbers}
        labels = {number: label for truth in truths for number, label in truth.labels.items()}
        return LabelledFrames(np.stack(images), masks, labels), [note for truth in truths for note in truth.notes]

    def _truth(self, index: int, size: FrameSize) -> TrueMasks:
        try:
            return self.truth.read(index, size)
        except _DAMAGED as error:
            files = ", ".join(map(str, self.truth.files)) or "its labels"
            text = f"the labels of {self.name} are damaged ({error!r}); export {files} again"
            raise BadSampleError(text, "broken_mask") from error


class SampleInMemory(Sample):
    """Pixels and masks that are there already; all frames have true masks.

    Args:
        name: for the rows of results.
        labelled: frames and masks.
    """

    def __init__(self, name: str, labelled: LabelledFrames) -> None:
        count = len(labelled.frames)
        truth = Truth(read=partial(_masks_in_memory, labelled), frames=range(count), ids=tuple(labelled.masks))
        super().__init__(name, Frames(labelled.frames.__getitem__, (), count, count == 1), truth)
        self.labelled = labelled


def _masks_in_memory(labelled: LabelledFrames, index: int, size: FrameSize) -> TrueMasks:
    return TrueMasks({number: masks[index] for number, masks in labelled.masks.items()}, labelled.labels)


@dataclass(frozen=True)
class Dataset:
    """What was found under a path."""

    path: Path
    format: str  # such as "COCO JSON"; shown to people
    samples: Sequence[Sample] = ()
    notes: Sequence[Note] = ()  # on what was found but cannot be used, and REMARKS
    classes: tuple[str, ...] = ()  # names, where the format has them
    sources: tuple[Path, ...] = ()  # lists and JSON that belong to all samples together

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def pictures(self) -> list[Sample]:
        """The samples of one frame."""
        return [sample for sample in self.samples if sample.is_picture]

    @property
    def clips(self) -> list[Sample]:
        """The other ones."""
        return [sample for sample in self.samples if not sample.is_picture]

    @property
    def skipped(self) -> list[str]:
        """A sentence for everything that was found but cannot be used."""
        return [note.text for note in self.notes if note.kind not in REMARKS]

    def describe(self) -> str:
        """What was found, in a sentence for people."""
        found = []
        pictures, clips = self.pictures, self.clips
        if pictures:
            counts = [count for sample in pictures if (count := sample.truth.count) is not None]
            masks = f" with {counted(sum(counts), 'mask')}" if len(counts) == len(pictures) else ""
            found.append(counted(len(pictures), "picture") + masks)
        if clips:
            truths = sum(len(clip.truth_frames) for clip in clips)
            found.append(f"{counted(len(clips), 'clip')} with {counted(truths, 'annotated frame')}")
        if self.classes:
            found.append(counted(len(self.classes), "class", "classes"))
        splits = {name: n for name in ("train", "val", "test") if (n := len(self.of_split(name)))}
        by_split = f" ({', '.join(f'{n} {name}' for name, n in splits.items())})" if splits else ""
        skipped = f"; {len(self.skipped)} skipped" if self.skipped else ""
        remarks = "".join(f"; {note.text}" for note in self.notes if note.kind in REMARKS)
        return f"{self.format}: {', '.join(found) or 'nothing that can be used'}{by_split}{skipped}{remarks}"

    def of_split(self, name: str) -> Dataset:
        """The samples of one split, as a dataset."""
        return replace(self, samples=[sample for sample in self.samples if sample.split == name])

    def subset(self, names: Iterable[str]) -> Dataset:
        """The samples with these names, as a dataset, in the order they have here."""
        wanted = set(names)
        return replace(self, samples=[sample for sample in self.samples if sample.name in wanted])


def counted(number: int, one: str, many: str | None = None) -> str:
    """ "1 clip", "2 clips"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
