"""A picture file and the place where its true masks are: what most formats come down to.

    FilePicture = picture file + Truth;  Truth.read(size) gives the masks in the upright picture

Surprise: a phone's photo is stored sideways and shown upright. Masks come in either position, and their size says
which; a mask that fits the stored picture only is turned with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam2kit.datasets.samples import BadSampleError, LabelledPicture, Note, PictureSample
from sam2kit.media.clips import PICTURE_SUFFIXES
from sam2kit.media.pictures import open_image, read_picture, shared_range
from sam2kit.media.value_range import ValueRange

_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> what puts the stored picture upright
    2: np.fliplr,
    3: lambda mask: np.rot90(mask, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: np.rot90,
}


@dataclass(frozen=True)
class PictureSize:
    """How large a picture is, upright and as stored."""

    name: str  # of the file, for messages
    size_hw: tuple[int, int]  # upright
    orientation: int = 1  # EXIF

    @property
    def stored_hw(self) -> tuple[int, int]:
        """Height and width in the file, before EXIF turns it."""
        return self.size_hw[::-1] if self.orientation >= 5 else self.size_hw

    def truth_hw(self, stated_hw: tuple[int, int] | None, name: str) -> tuple[int, int]:
        """The size in which coordinates are meant, from what a label file states.

        Args:
            stated_hw: height and width that the label file gives; None if it gives none.
            name: of the label file, for the message.
        Raises:
            BadSampleError: if the stated size is neither the upright nor the stored one.
        """
        if stated_hw is None or tuple(stated_hw) == self.size_hw:
            return self.size_hw
        if tuple(stated_hw) == self.stored_hw:
            return self.stored_hw
        raise self._other_size(stated_hw, f"{name} describes a picture of")

    def fit(self, mask: np.ndarray, name: str) -> np.ndarray:
        """A mask in the upright picture.

        Args:
            mask: [H, W] of the upright or the stored picture.
            name: where it came from, for the message.
        Raises:
            BadSampleError: if it has neither size.
        """
        if mask.shape == self.size_hw:
            return mask
        if mask.shape == self.stored_hw:
            return np.ascontiguousarray(_TURNS[self.orientation](mask))
        raise self._other_size(mask.shape, f"{name} is")

    def _other_size(self, got_hw: tuple[int, int], came: str) -> BadSampleError:
        (height, width), (mask_height, mask_width) = self.size_hw, got_hw
        cure = "export masks and pictures in one size"
        if mask_height * width == mask_width * height:
            cure = "resize one of them to the other's size (masks with nearest neighbour, never smoothly)"
        elif (mask_width, mask_height) == (height, width):
            cure = "one of them is turned by a quarter: turn it back"
        text = f"{came} {mask_width}x{mask_height}, but its picture {self.name} is {width}x{height}; {cure}"
        return BadSampleError(text, "size")


@dataclass
class TrueMasks:
    """What a truth holds: masks of the upright picture, bool [H, W] each, empty ones included."""

    masks: list[np.ndarray] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add(self, mask: np.ndarray, label: str | None = None) -> None:
        """One more object."""
        self.masks.append(mask)
        self.labels.append(label)


class Truth(ABC):
    """Where the true masks of a picture are; can be sent to another process."""

    if TYPE_CHECKING:  # read only: each format keeps them as fields, or works them out when asked

        @property
        def files(self) -> tuple[Path, ...]:
            """Where the masks are; none if a list that belongs to all samples holds them."""

        @property
        def count(self) -> int | None:
            """Of masks, where it is known before reading."""

    else:
        files = ()
        count = None

    @abstractmethod
    def read(self, size: PictureSize) -> TrueMasks:
        """The masks.

        Raises:
            BadSampleError: if they cannot be used.
        """


@dataclass(frozen=True)
class FilePicture(PictureSample):
    """A picture file with its truth."""

    name: str
    image: Path
    truth: Truth
    split: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The picture and the files of its truth."""
        return (self.image, *self.truth.files)

    @property
    def mask_count(self) -> int | None:
        """Where it is known before reading."""
        return self.truth.count

    def source(self) -> Path | bytes:
        """What `read_picture` shall read."""
        return self.image

    def examine(self) -> tuple[np.ndarray, TrueMasks]:
        """Picture and masks as they are, empty masks and remarks included.

        Raises:
            BadSampleError: if the sample cannot be used.
        """
        image = picture_of(self.source(), self.image)
        orientation = _orientation(self.image) if isinstance(self.source(), Path) else 1
        size = PictureSize(self.image.name, image.shape[:2], orientation)
        try:
            return image, self.truth.read(size)
        except (TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            files = ", ".join(map(str, self.truth.files)) or "its labels"
            text = f"the labels of {self.name} are damaged ({error!r}); export {files} again"
            raise BadSampleError(text, "broken_mask") from error

    def read(self) -> LabelledPicture:
        """Picture and masks; empty masks are left out.

        Raises:
            BadSampleError: if the sample cannot be used.
        """
        image, truth = self.examine()
        full = [(m, label) for m, label in zip(truth.masks, truth.labels, strict=True) if m.any()]
        return LabelledPicture(image, [m for m, _ in full], [label for _, label in full])


def frame_of(files: tuple[Path, ...], index: int) -> np.ndarray:
    """A frame of a clip, uint8 [H, W, 3]; of 16 bits or floats, all have one range of values.

    Raises:
        BadSampleError: if it cannot be read.
    """
    return picture_of(files[index], files[index], _range_of(files))


@lru_cache(maxsize=64)
def _range_of(files: tuple[Path, ...]) -> ValueRange | None:
    return shared_range(files)


def picture_of(source: Path | bytes, path: Path, value_range: ValueRange | None = None) -> np.ndarray:
    """uint8 [H, W, 3]; whatever is wrong becomes one sentence that names `path`."""
    try:
        return read_picture(source, value_range=value_range)
    except FileNotFoundError as error:
        raise BadSampleError(f"there is no picture {path}; put it back or remove its labels", "missing") from error
    except ValueError as error:
        raise BadSampleError(f"{error}; save it again from its source, or remove it") from error


def pictures_in(folder: Path, *, deep: bool = True) -> list[Path]:
    """The picture files of a folder, by name; hidden files and folders are passed over."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in PICTURE_SUFFIXES
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _orientation(path: Path) -> int:
    try:
        with open_image(path) as image:
            orientation = image.getexif().get(0x0112, 1)
    except Exception:  # broken EXIF fails in many ways, and then turns nothing
        return 1
    return orientation if orientation in _TURNS else 1
