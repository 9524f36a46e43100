"""One visitor's work in the Fine-tune tab: labelled photos, trainings, and what they made. No user interface in here.

    photos --- some to train on, some held out ---> data-1/ --- FinetuneRun ---> mine-1/ for load_model
                                                    data-2/ ...                  mine-2/ ...

About a quarter of the labelled photos is held out for evaluation. From the first training on a photo stays in its part,
so that no later training sees what an earlier one was evaluated on. Photos without objects are not used.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
from PIL import Image

from sam2kit.app.canvas import jpeg_url, scaled
from sam2kit.app.components import plain_stem
from sam2kit.app.editor import Editor
from sam2kit.app.finetune_run import PREDICTIONS, CarryOut, FinetunePlan, FinetuneRun, train
from sam2kit.app.limits import Limits
from sam2kit.app.models import Example, LoadedModel, Search
from sam2kit.app.store import VisitorFolder
from sam2kit.data.coco import CocoContent
from sam2kit.data.convert import may_be_copied
from sam2kit.data.sample import counted
from sam2kit.files import FileBundle
from sam2kit.finetuned import is_finetuned, read_finetuned
from sam2kit.hub import FINETUNED_JSON, FINETUNED_WEIGHTS
from sam2kit.media.drawing import draw_masks
from sam2kit.media.mask_files import jpeg_bytes, png_bytes
from sam2kit.media.pictures import read_picture
from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.objects import class_of
from sam2kit.predict.video import VideoPredictor

_MOST_PIXELS = 4_000_000  # of a photo that is kept: far more than the model sees, and many must fit into memory
_SEEN = 3  # photos shown last, whose features are kept: 16 MB each, perhaps
_HELD_OUT_SHARE = 4  # one of so many is held out
_THUMBNAIL = 112  # pixels, the longer side
_LOSSY = (".jpg", ".jpeg", ".webp", ".heic", ".heif", ".avif")
_KEPT = (FINETUNED_WEIGHTS, "curves.png", "history.json", "result.md", PREDICTIONS)  # and FINETUNED_JSON: a download
_PATIENCE = 5.0  # seconds, for a training to end when the visitor is gone


@dataclass(eq=False)
class Photo:
    """A photo, its objects, and what it is for."""

    editor: Editor
    held_out: bool | None = None  # None: not said yet
    file: Path | None = None  # that was added, if it is an upright picture with exactly these pixels
    scores: dict[str, float] = field(default_factory=dict)  # name of a model -> mean score of what it found, 0..1
    _thumbnail: tuple[list[FrameResult], str] | None = None  # answers of the model, URL

    @property
    def file_name(self) -> str:
        """Unique among the visitor's photos."""
        return self.editor.session.file_name

    @property
    def image(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return self.editor.session.clip.frame(0)

    def as_file(self) -> tuple[str, bytes]:
        """Name and content of a picture file: the one that was added, so that it is recognised later, or a new one."""
        stem, suffix = Path(self.file_name).stem, Path(self.file_name).suffix
        if self.file is not None and self.file.is_file():
            return self.file_name, self.file.read_bytes()
        if suffix in _LOSSY:  # it loses little by being a JPEG again
            return f"{stem}.jpg", jpeg_bytes(self.image)
        return f"{stem}.png", png_bytes(Image.fromarray(self.image))

    def labels(self) -> list[FrameResult]:
        """The answers of the model that have a mask, one per object."""
        found = (item.result(0) for item in self.editor.session.objects.values())
        return [result for result in found if result is not None]

    def thumbnail(self) -> str:
        """URL of a small picture with the masks."""
        labels = self.labels()
        if self._thumbnail is None or list(map(id, self._thumbnail[0])) != list(map(id, labels)):
            small, colours = scaled(self.editor.view(), _THUMBNAIL), self.editor.colours
            masks = self.editor.masks()
            drawn = (cv2.resize(mask.astype(np.uint8), small.shape[1::-1]) > 0 for mask in masks.values())
            self._thumbnail = labels, jpeg_url(draw_masks(small, drawn, [colours.of(number) for number in masks]))
        return self._thumbnail[1]


@dataclass
class FinetuneWork:
    """Photos and trainings; see the module's text."""

    photos: list[Photo] = field(default_factory=list)
    current: int = 0  # the photo that is shown
    runs: list[FinetuneRun] = field(default_factory=list)
    chosen: LoadedModel | None = None  # that answers in all tabs instead of the app's
    _shown: list[Photo] = field(default_factory=list)  # those shown last, the latest at the end
    _folder: VisitorFolder = field(default_factory=VisitorFolder)

    @property
    def folder(self) -> Path:
        """A folder for this visitor's files; it goes when the work goes."""
        return self._folder.path

    # photos

    def add_photo(self, path: Path, limits: Limits, predictor: VideoPredictor) -> None:
        """Add a photo, at 4 megapixels at most, under a name that no other has; ValueError if it cannot be taken."""
        if len(self.photos) >= limits.photos:
            raise ValueError(f"{path.name} was not added: this app takes {limits.photos} photos; remove some first")
        image = read_picture(path)
        limits.check_picture(image.shape[:2], path.name)
        kept = _not_too_large(image)
        session = predictor.open(kept)
        session.file_name = self._free_name(path)
        own = path if kept is image and may_be_copied(path) else None
        self.photos.append(Photo(Editor(session, predictor), file=own))

    def _free_name(self, path: Path) -> str:
        """A name whose stem no other photo has, fit for files."""
        stem = plain_stem(path.name, "photo")
        taken = {Path(photo.file_name).stem.casefold() for photo in self.photos}
        names = [stem, *(f"{stem}-{n}" for n in range(2, len(taken) + 3))]
        return next(name for name in names if name.casefold() not in taken) + path.suffix.lower()

    @property
    def photo(self) -> Photo:
        """The photo that is shown; ValueError if there is none."""
        if not self.photos:
            raise ValueError("add photos first")
        return self.photos[self.current]

    def show(self, number: int) -> None:
        """Show another photo; ValueError if it is gone."""
        self._check(number)
        self.current = number

    def remove_photo(self, number: int) -> None:
        """Leave a photo out for good; ValueError if it is gone."""
        self._check(number)
        gone = self.photos.pop(number)
        self._shown = [photo for photo in self._shown if photo is not gone]
        self.current = max(min(self.current - (number < self.current), len(self.photos) - 1), 0)

    def encode(self, predictor: VideoPredictor) -> None:
        """Let the model see the photo that is shown; features of those shown long ago are let go."""
        photo = self.photo
        if photo.editor.predictor is not predictor:
            photo.editor.change_model(predictor)
        photo.editor.encode()
        self._shown = [*(p for p in self._shown if p is not photo), photo]
        while len(self._shown) > _SEEN:
            self._shown.pop(0).editor.session.features.clear()

    def _check(self, number: int) -> None:
        if not 0 <= number < len(self.photos):
            raise ValueError("there is no such photo any more; choose one of those that are shown")

    def search(self, model: LoadedModel) -> Search:
        """Finds what the model was fine-tuned to find or, with another model, what is like a labelled object: the
        chosen one of the photo that is shown, or one of another photo.

        Raises:
            ValueError: if nothing tells what to find, or a training is going on.
        """
        sessions = [photo.editor.session for photo in (self.photo, *self.photos)]
        if self.run is not None:
            raise ValueError("Training is running: press Stop first.")
        if model.finds:
            return Search(model)
        labelled = (Example.of(s, i, 0) for s in sessions for i in sorted(s.objects, key=lambda i: i != s.active))
        example = next(filter(None, labelled), None)
        if example is None:
            raise ValueError("Click on one of the things first: the others are found by it.")
        return Search(model, example)

    # which photos are for what

    def labelled(self) -> list[Photo]:
        """Those that have objects."""
        return [photo for photo in self.photos if photo.labels()]

    def to_look_at(self, model: LoadedModel) -> list[Photo]:
        """Those without objects of which it is not known yet how sure the model is; ValueError if all have objects."""
        left = [photo for photo in self.photos if not photo.labels()]
        if not left:
            raise ValueError("All photos have objects: add others.")
        return [photo for photo in left if not (model.finds and model.name in photo.scores)]  # examples change

    def least_sure(self, model: str) -> list[tuple[int, float]]:
        """Number and score of the photos without objects that a model of this name has looked at, the worst first."""
        looked_at = ((number, photo) for number, photo in enumerate(self.photos) if model in photo.scores)
        found = [(number, photo.scores[model]) for number, photo in looked_at if not photo.labels()]
        return sorted(found, key=lambda one: one[1])

    def held_out(self) -> list[Photo]:
        """The labelled photos that are held out: those of which it was said, and some more if they are too few."""
        labelled = self.labelled()
        free = [photo for photo in labelled if photo.held_out is None]
        said = [photo for photo in labelled if photo.held_out]
        missing = max(round(len(labelled) / _HELD_OUT_SHARE), 1) - len(said) if len(labelled) > 1 else 0
        return said + _spread(free, missing)

    def ready(self) -> str | None:
        """What is missing before training can begin; None if nothing is."""
        labelled, held_out = len(self.labelled()), len(self.held_out())
        missing = {
            "Training is running: press Stop first.": self.run is not None,
            "Add photos first.": not self.photos,
            f"Label at least 2 photos: {labelled} of {len(self.photos)} has objects so far.": labelled < 2,
            "No photo is left for evaluation: label another one.": not held_out,
            "All labelled photos are held out for evaluation: label another one to train on.": held_out == labelled,
        }
        return next((sentence for sentence, is_missing in missing.items() if is_missing), None)

    def status(self) -> str:
        """What a training would use, or what is missing."""
        labelled, held_out = len(self.labelled()), len(self.held_out())
        unused, photos = len(self.photos) - labelled, counted(labelled - held_out, "photo")
        left_out = f" {unused} without objects {'is' if unused == 1 else 'are'} not used." if unused else ""
        return self.ready() or f"Ready to train: {photos} to train on, {held_out} held out for evaluation.{left_out}"

    def write_dataset(self, path: Path) -> Path:
        """Write the labelled photos to a new folder or a .zip, complete or not at all: COCO in train/ and val/, for
        `sam2kit train` and others; ValueError if there is none, or one whose masks are all empty."""
        labelled, held_out = self.labelled(), self.held_out()
        if not labelled:
            raise ValueError("no photo has objects yet; click the things in one first")
        contents = {"train": CocoContent(), "val": CocoContent()}
        with FileBundle(path) as bundle:
            for photo in labelled:
                split, objects = "val" if photo in held_out else "train", photo.editor.finished()
                full = [item for item in objects if item.area]
                if not full:
                    raise ValueError(
                        f"{photo.file_name} has no object that covers anything; click one, or leave the photo out"
                    )
                name, content = photo.as_file()
                bundle.write(f"{split}/{name}", content)
                contents[split].add_image(name, photo.image.shape[:2])
                for item in full:
                    contents[split].add_mask(item.mask, class_of(item.name))
            for split, written in contents.items():
                bundle.write(f"{split}/_annotations.coco.json", json.dumps(written.as_dict()))
        return path

    # training

    @property
    def run(self) -> FinetuneRun | None:
        """The training that is going on."""
        return next((run for run in self.runs if not run.finished.is_set()), None)

    def start(self, model: LoadedModel, recipe: str, minutes: float, carry_out: CarryOut = train) -> FinetuneRun:
        """Begin a training, in a thread and a folder of its own; ValueError if something is missing.

        Args:
            model: what to begin with: the app's, named as for `load_model`, or a fine-tuned one.
            recipe: "decoder" or "lora".
            carry_out: trains, here or elsewhere.
        """
        missing = self.ready()
        if missing is not None:
            raise ValueError(missing)
        number, sam2 = len(self.runs) + 1, model.images.model
        data, held_out = self.write_dataset(self.folder / f"data-{number}"), self.held_out()
        for photo in self.labelled():  # they stay in their part
            photo.held_out = photo in held_out
        name, base = f"mine-{number}", str(self.finetuned.get(model.name, model.name))
        plan = FinetunePlan(base, data, self.folder / name, recipe, minutes, str(sam2.device), sam2.config.side)
        self.runs.append(FinetuneRun(name, plan, carry_out))
        return self.runs[-1].start()

    @property
    def finetuned(self) -> dict[str, Path]:
        """The folders of the fine-tuned models, by name."""
        return {run.name: run.folder for run in self.runs if run.folder is not None}

    def result_zip(self) -> Path:
        """The latest fine-tuned model as a download; ValueError if there is none yet."""
        if not self.finetuned:
            raise ValueError("there is no fine-tuned model yet; train first")
        name, folder = list(self.finetuned.items())[-1]
        return zip_finetuned(folder, self.folder / f"{name}.zip")

    def close(self) -> None:
        """Stop what is going on and delete the visitor's files."""
        run, folder = self.run, self._folder
        self._folder = VisitorFolder()
        if run is not None:
            run.stop()
            if not run.finished.wait(_PATIENCE):  # a step may take long; nobody should wait for it here
                Thread(target=_delete_after, args=(run, folder), daemon=True).start()
                return
        folder.delete()


def _delete_after(run: FinetuneRun, folder: VisitorFolder) -> None:
    run.finished.wait()
    folder.delete()


PHOTO_GESTURES = {"pick": FinetuneWork.show, "drop": FinetuneWork.remove_photo}  # on the strip of photos


def zip_finetuned(folder: Path, path: Path) -> Path:
    """A fine-tuned model as a zip, complete or not at all: a folder for `load_model`, with its curves and numbers.

    A base that lies beside it, because it was fine-tuned before, comes along.
    """
    with FileBundle(path) as bundle:
        _add_finetuned(bundle, folder)
    return path


def _add_finetuned(bundle: FileBundle, folder: Path) -> None:
    about = read_finetuned(folder)
    base = Path(about.base)
    if base.is_absolute() and base.parent == folder.parent and is_finetuned(base):
        _add_finetuned(bundle, base)
        about = replace(about, base=f"../{base.name}")
    bundle.write(f"{folder.name}/{FINETUNED_JSON}", json.dumps(asdict(about)))
    for name in _KEPT:
        if (folder / name).exists():
            bundle.write(f"{folder.name}/{name}", (folder / name).read_bytes())


def _not_too_large(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = (_MOST_PIXELS / (height * width)) ** 0.5
    if scale >= 1:
        return image
    size_wh = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)


def _spread(photos: list[Photo], count: int) -> list[Photo]:
    """So many of them, spread over all."""
    count = max(min(count, len(photos)), 0)
    return [photos[(2 * i + 1) * len(photos) // (2 * count)] for i in range(count)]
