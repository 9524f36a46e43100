"""A visitor's labelled photos: which one is shown, what each is for, and the dataset that they make.

About a quarter of the labelled photos is kept aside as the test. From the first training on a photo stays in its part,
so that no later training learns from what an earlier one was tested on. Photos without objects are not used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from sam2kit.clicking.messages import jpeg_url
from sam2kit.clicking.views import scaled
from sam2kit.datasets.mask_writing import write_labelled
from sam2kit.media.bundles import FileBundle
from sam2kit.media.drawing import draw_masks
from sam2kit.media.pictures import read_picture
from sam2kit.predict.image import ImagePredictor
from sam2kit.ui.limits import Limits
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.tab_parts import plain_stem

_MOST_PIXELS = 4_000_000  # of a photo that is kept: far more than the model sees, and many must fit into memory
_EMBEDDINGS = 3  # that are kept, of the photos shown last: each may have 16 MB
_TEST_SHARE = 4  # one of so many is kept aside
_THUMBNAIL = 112  # pixels, the longer side
_LOSSY = (".jpg", ".jpeg", ".webp", ".heic", ".heif", ".avif")
LEARN, TEST = "learn", "test"


@dataclass
class LabelledPhotos:
    """Photos, each of which is a PictureWork; see the module's text."""

    photos: list[PictureWork] = field(default_factory=list)
    current: int = 0  # the photo that is shown
    _parts: dict[int, str] = field(default_factory=dict)  # LEARN or TEST of photos that have a fixed part, by `opened`
    _shown: list[PictureWork] = field(default_factory=list)  # those shown last, the latest at the end
    _thumbnails: dict[int, tuple[object, str]] = field(default_factory=dict)  # by `opened`: objects, URL

    # photos

    def add_photos(self, paths: list[Path], limits: Limits) -> None:
        """Add photos, and show the first of them; those before one that cannot be used are added.

        Large ones are kept at 4 megapixels. They get distinct names.

        Raises:
            ValueError: if one cannot be read, is too large, or there are too many.
        """
        first = len(self.photos)
        for path in paths:
            if len(self.photos) >= limits.photos:
                raise ValueError(f"{path.name} was not added: this app takes {limits.photos} photos; remove some first")
            image = read_picture(path)
            limits.check_picture(image.shape[:2], path.name)
            photo = PictureWork()
            photo.show(_not_too_large(image), self._free_name(path))
            self.photos.append(photo)
            self.current = first

    def _free_name(self, path: Path) -> str:
        """A name whose stem no other photo has, fit for files."""
        stem = plain_stem(path.name, "photo")
        taken = {Path(photo.file_name).stem.casefold() for photo in self.photos}
        names = [stem, *(f"{stem}-{n}" for n in range(2, len(taken) + 3))]
        return next(name for name in names if name.casefold() not in taken) + path.suffix.lower()

    @property
    def photo(self) -> PictureWork:
        """The photo that is shown."""
        assert self.photos, "needs a photo"
        return self.photos[self.current]

    def show(self, number: int) -> None:
        """Show another photo.

        Raises:
            ValueError: if there is no such photo any more.
        """
        self._check(number)
        self.current = number

    def remove_photo(self, number: int) -> None:
        """Leave a photo out for good.

        Raises:
            ValueError: if there is no such photo any more.
        """
        self._check(number)
        gone = self.photos.pop(number)
        gone.close()
        self._shown = [photo for photo in self._shown if photo is not gone]
        self._parts.pop(gone.opened, None)
        self._thumbnails.pop(gone.opened, None)
        self.current = max(min(self.current - (number < self.current), len(self.photos) - 1), 0)

    def encode(self, predictor: ImagePredictor) -> None:
        """Let the model see the photo that is shown; embeddings of those shown long ago are let go."""
        photo = self.photo
        photo.encode(predictor)
        self._shown = [*(p for p in self._shown if p is not photo), photo]
        while len(self._shown) > _EMBEDDINGS:
            self._shown.pop(0).forget_embedding()

    def thumbnail(self, number: int) -> str:
        """URL of a small picture of a photo with its masks."""
        self._check(number)
        photo = self.photos[number]
        objects, url = self._thumbnails.get(photo.opened, (None, ""))
        if objects is not photo.now.objects:
            url = _thumbnail(photo)
            self._thumbnails[photo.opened] = photo.now.objects, url
        return url

    def _check(self, number: int) -> None:
        if not 0 <= number < len(self.photos):
            raise ValueError("there is no such photo any more; choose one of those that are shown")

    # which photos are for what

    def object_count(self, number: int) -> int:
        """How many objects of a photo have a mask."""
        return len(self.photos[number].with_masks)

    def test_photos(self) -> list[int]:
        """The labelled photos that are held out, ascending."""
        labelled = self._labelled()
        test = {n for n in labelled if self._part(n) == TEST}
        free = [n for n in labelled if self._part(n) is None]
        missing = max(round(len(labelled) / _TEST_SHARE), 1) - len(test)
        test |= set(_evenly(free, missing)) if len(labelled) > 1 else set()
        return sorted(test)

    def keep_aside(self, number: int, aside: bool) -> None:
        """Say that a photo is held out, or that it is not."""
        self._check(number)
        self._parts[self.photos[number].opened] = TEST if aside else LEARN

    def fix_parts(self) -> None:
        """From now on the labelled photos stay what they are, for learning or for the test."""
        test = self.test_photos()
        self._parts |= {self.photos[n].opened: TEST if n in test else LEARN for n in self._labelled()}

    def ready(self) -> str | None:
        """What is missing before training can begin; None if nothing is."""
        labelled, test = self._labelled(), self.test_photos()
        if len(labelled) < 2:
            return f"Label at least 2 photos: {len(labelled)} of {len(self.photos)} has objects so far."
        if not test:
            return "No photo is left for evaluation: label another one."
        if len(test) == len(labelled):
            return "All labelled photos are held out for evaluation: label another one to train on."
        return None

    def says(self) -> str:
        """What a training would use, or what is missing."""
        test, labelled, unused = self.test_photos(), self._labelled(), len(self.photos) - len(self._labelled())
        training = len(labelled) - len(test)
        left_out = f" {unused} without objects {'is' if unused == 1 else 'are'} not used." if unused else ""
        return self.ready() or (
            f"Ready to train: {training} {'photo' if training == 1 else 'photos'} to train on, "
            f"{len(test)} held out for evaluation.{left_out}"
        )

    def _labelled(self) -> list[int]:
        return [n for n in range(len(self.photos)) if self.object_count(n)]

    def _part(self, number: int) -> str | None:
        return self._parts.get(self.photos[number].opened)

    # data

    def write_dataset(self, path: Path) -> Path:
        """Write the labelled photos, complete or not at all: train/ and val/, for `sam2kit train` and others.

        Args:
            path: a new folder, or a file that ends in .zip.
        Raises:
            ValueError: if there is no labelled photo, or one whose masks are all empty.
        """
        labelled, test = self._labelled(), self.test_photos()
        if not labelled:
            raise ValueError("no photo has objects yet; click the things in one first")
        with FileBundle(path) as bundle:
            for number in labelled:
                photo, split = self.photos[number], "val" if number in test else "train"
                name = Path(photo.file_name)
                lossy = name.suffix in _LOSSY
                write_labelled(bundle, split, name.stem, photo.open_image, photo.finished(), lossy=lossy)
        return path


def _not_too_large(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = (_MOST_PIXELS / (height * width)) ** 0.5
    if scale >= 1:
        return image
    return cv2.resize(
        image, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=cv2.INTER_AREA
    )


def _evenly(numbers: list[int], count: int) -> list[int]:
    """So many of the numbers, spread over them."""
    count = max(min(count, len(numbers)), 0)
    return [numbers[(2 * i + 1) * len(numbers) // (2 * count)] for i in range(count)]


def _thumbnail(photo: PictureWork) -> str:
    small = scaled(photo.open_view, _THUMBNAIL)
    masks = (cv2.resize(photo.view_mask(i).astype(np.uint8), small.shape[1::-1]) > 0 for i in photo.with_masks)
    return jpeg_url(draw_masks(small, masks, [photo.colour(item) or 0 for item in photo.with_masks]))
