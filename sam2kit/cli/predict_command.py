"""`sam2kit predict`: what a fine-tuned model finds by itself in a folder of photos, written as a dataset.

predictions.jsonl   what was found in each photo; an interrupted run goes on after it
coco/, yolo/, masks/   the same as a dataset with the photos, to be looked at, corrected and trained on
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sam2kit.cli.arguments import ResultsCommand, argument, option
from sam2kit.cli.image_commands import REFINE_HELP, with_finer_edges

if TYPE_CHECKING:
    import numpy as np

    from sam2kit.data.sample import Sample, TrueMasks
    from sam2kit.data.stored import FrameSize
    from sam2kit.predict.automatic import FoundMask
    from sam2kit.predict.detector import Detector

_FILE = "predictions.jsonl"
Entry = dict[str, Any]  # a line of the file: "photo", and its "objects" or why it was "skipped"


@dataclass(frozen=True, kw_only=True)
class PredictCommand(ResultsCommand):
    """find things in a folder of photos, without a click, by a model fine-tuned for it"""

    folder: Path = argument(help="of photos, with its sub-folders; or one photo", metavar="FOLDER")
    format: Literal["coco", "yolo", "masks"] = option("coco", "of the dataset that is written")
    least: float | None = option(None, "score that an object must reach, 0..1")
    refine: bool = option(False, REFINE_HELP)
    model: str = option(help="folder, file or Hub id of a model with classes, see sam2kit train --detect")

    def run(self) -> None:
        from tqdm import tqdm

        from sam2kit.data.convert import convert
        from sam2kit.data.sample import Dataset
        from sam2kit.data.stored import pictures_in
        from sam2kit.evaluation.runs import model_fingerprint
        from sam2kit.files import make_folder
        from sam2kit.predict.detector import Detector, DetectorOptions
        from sam2kit.predict.image import ENCODED_AT_ONCE

        photos = pictures_in(self.folder) if self.folder.is_dir() else [self.folder]
        photos = [photo for photo in photos if self.out.resolve() not in photo.resolve().parents]  # copies
        if not photos or not all(photo.is_file() for photo in photos):
            raise ValueError(f"there is no photo in {self.folder}; give a folder of photos, or one photo")
        options = DetectorOptions() if self.least is None else DetectorOptions(least=self.least)
        detector = Detector(self.load(), options)
        identity = {"model": model_fingerprint(detector.model), **asdict(options)}
        identity |= {"refine": True} if self.refine else {}
        done = _Predictions(make_folder(self.out) / _FILE, identity)
        root = self.folder if self.folder.is_dir() else self.folder.parent
        names = [photo.relative_to(root).as_posix() for photo in photos]
        missing = [(name, photo) for name, photo in zip(names, photos, strict=True) if name not in done.known]
        if not missing and (self.out / self.format).exists():
            print(f"everything was found before: see {self.out / self.format}")
            return
        if (self.out / self.format).exists():
            raise ValueError(f"{self.out / self.format} holds an earlier result; move it away, or take another --out")
        with tqdm(desc="finding objects", total=len(photos), initial=len(photos) - len(missing), unit="photo") as bar:
            size = ENCODED_AT_ONCE[detector.model.device.type]
            for start in range(0, len(missing), size):
                for name, objects in _found(self._finder(detector), missing[start : start + size]):
                    done.add(name, objects)
                    bar.update()
        known = {name: done.known[name] for name in names}
        samples = [_sample(name, photo, known[name]) for name, photo in zip(names, photos, strict=True)]
        usable = [sample for sample in samples if "objects" in known[sample.name]]
        if not usable:
            raise ValueError(f"no photo in {self.folder} can be read: {known[names[0]]['skipped']}")
        written = convert(Dataset(self.folder, "photos", usable), self.format, self.out / self.format)
        skipped = [entry["skipped"] for entry in known.values() if "skipped" in entry]
        if self.json:
            print(json.dumps({"photos": len(usable), "objects": written.masks, "skipped": skipped}))
        else:
            print("\n".join([written.text(), *(f"skipped: {sentence}" for sentence in skipped[:5])]))

    def _finder(self, detector: Detector) -> Callable[[list[np.ndarray]], list[list[FoundMask]]]:
        """Finds the objects of several photos, with finer edges if asked."""

        def find(photos: list[np.ndarray]) -> list[list[FoundMask]]:
            found = detector.find_batch(photos)
            if not self.refine:
                return found
            pairs = zip(photos, found, strict=True)
            return [with_finer_edges(detector.predictor, photo, objects) for photo, objects in pairs]

        return find


def _found(find: Any, photos: list[tuple[str, Path]]) -> Iterator[tuple[str, list[FoundMask] | str]]:
    """What is found in each photo, or why it cannot be read."""
    from sam2kit.media.pictures import read_picture

    read, unreadable = {}, {}
    for name, photo in photos:
        try:
            read[name] = read_picture(photo)
        except (ValueError, OSError) as error:
            unreadable[name] = str(error)
    answers = find(list(read.values())) if read else []
    yield from unreadable.items()
    yield from zip(read, answers, strict=True)


class _Predictions:
    """The file of what was found; a line that was only half written is not counted."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.known: dict[str, Entry] = {}
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *lines = map(json.loads, whole.splitlines()) if whole else [identity]
            self.known = {line["photo"]: line for line in lines if "skipped" not in line}
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it, and its photos are done again") from error
        if first != identity:
            raise ValueError(f"{path} is of another model, --least or --refine; take another --out, or delete it")
        path.write_bytes(whole or (json.dumps(identity) + "\n").encode())

    def add(self, photo: str, objects: list[FoundMask] | str) -> None:
        """One more photo; a sentence says why it was skipped."""
        entry: Entry = {"photo": photo}
        if isinstance(objects, str):
            entry["skipped"] = objects
        else:
            entry["objects"] = [{"name": o.name, "score": round(o.score, 4), "runs": o.runs} for o in objects]
        self.known[photo] = entry
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _sample(name: str, photo: Path, entry: Entry) -> Sample:
    from sam2kit.data.sample import Sample, Truth
    from sam2kit.data.stored import frame_files

    masks = Truth(read=partial(_masks, entry), ids=range(1, len(entry.get("objects", ())) + 1))
    return Sample(name, frame_files(photo), masks)


def _masks(entry: Entry, index: int, size: FrameSize) -> TrueMasks:
    from sam2kit.data.sample import TrueMasks
    from sam2kit.media.mask_files import runs_to_mask

    found = TrueMasks()
    for one in entry["objects"]:
        found.add(runs_to_mask(one["runs"]), one["name"])
    return found
