"""COCO JSON: polygons and run lengths, of pictures and of clips; as Roboflow, CVAT, Label Studio and COCO write it.

One JSON, or several (`instances_train2017.json`, or `_annotations.coco.json` in train/, valid/ and test/). Pictures are
looked for beside the JSON and in the folders where these programs put them. Crowd regions outline many things at once
and are left out. Surprise: CVAT and others mark every mask that is no polygon as a crowd; such are kept.

Clips, as sam2kit writes them, are pictures with `frame_index` whose masks have `track_id`; each names its `clip`, or
the JSON names the `video` beside it.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam2kit.data.layouts import (
    Findings,
    json_of_kind,
    load_json,
    name_in,
    names_no_object,
    place_of,
    split_named,
    split_of,
)
from sam2kit.data.sample import Dataset, Sample, TrueMasks, Truth
from sam2kit.data.segmentations import mask_of_segmentation, rings_of
from sam2kit.data.stored import BadSampleError, Frames, FrameSize, frame_files, frames_of_video
from sam2kit.media.clips import VIDEO_SUFFIXES
from sam2kit.media.mask_files import mask_to_runs

FORMAT = "COCO JSON"
NAMELESS = "object"  # class of a mask without one, where a format needs one
_FOLDERS = ("", "images", "data", "JPEGImages", "photos", "{split}", "{split}2017", "{split}2014", "images/{split}",
            "images/{split}2017", "{stem}", "images/{stem}")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CocoMasks:
    """The masks of a picture or a clip, as annotations have them."""

    annotations: dict[int, list[dict[str, Any]]]  # frame -> its annotations
    source: str  # name of the JSON, for messages
    image: dict[str, Any] = field(default_factory=dict)  # the entry of the picture
    classes: dict[Any, str] = field(default_factory=dict)  # category id -> name
    is_clip: bool = False  # objects are known by track_id; a mask that is passed over would make one look absent

    def read(self, frame: int, size: FrameSize) -> TrueMasks:
        """One mask per annotation; of a picture, those that cannot be read become notes."""
        height, width = self.image.get("height"), self.image.get("width")
        is_stated = isinstance(height, int) and isinstance(width, int) and min(height, width) > 0
        stated_hw: Any = (height, width) if is_stated else None
        truth_hw = size.truth_hw(stated_hw, f"{self.source} (for {size.name})")
        truth = TrueMasks()
        for annotation in self.annotations[frame]:
            name = f"{self.source}, annotation {annotation.get('id', '?')} of {size.name}"
            with nullcontext() if self.is_clip else truth.noting():
                mask = mask_of_segmentation(annotation.get("segmentation"), truth_hw, name, truth.notes)
                number = int(annotation["track_id"]) if self.is_clip else None
                truth.add(size.fit(mask, name), self.classes.get(annotation.get("category_id")), number)
        return truth


def open_coco(path: Path) -> Dataset:
    """All pictures and clips of all COCO files at a path."""
    files = json_of_kind(path, "coco")
    # COCO's own folder also holds key points and captions of the same pictures
    files = [f for f in files if f.stem.startswith("instances")] or files
    found = Findings()
    for file in files:
        with found.noting(file, FORMAT):
            _CocoFile(file, path if path.is_dir() else path.parent, found).read()
    names = Counter(sample.name for sample in found.samples)
    for name in (name for name, count in names.items() if count > 1):
        text = f"{name} is listed {names[name]} times; the first list of its masks was taken. Merge the entries"
        found.note("unpaired", text)
    found.samples = list({sample.name: sample for sample in reversed(found.samples)}.values())[::-1]
    return found.dataset(path, FORMAT, files)


def crowds_are_objects(annotations: list[Any]) -> bool:
    """Whether `iscrowd` only says that a mask is no polygon: CVAT writes so, as do programs that mark all masks."""
    outlined = [a for a in annotations if isinstance(a, dict) and a.get("segmentation")]
    from_cvat = any(isinstance(a.get("attributes"), dict) and "occluded" in a["attributes"] for a in outlined)
    return from_cvat or (bool(outlined) and all(a.get("iscrowd") for a in outlined))


class _CocoFile:
    """One JSON, read and sorted by picture."""

    def __init__(self, file: Path, root: Path, found: Findings) -> None:
        content = load_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("images"), list):
            raise BadSampleError(f'{file} has no list "images", which COCO JSON needs; export it again as COCO')
        if not isinstance(content.get("annotations"), list):
            text = f'{file} has no list "annotations", so there are no masks in it; export it with segmentations'
            raise BadSampleError(text, "no_mask")
        self.file, self.root, self.found = file, root, found
        self.images = [i for i in content["images"] if isinstance(i, dict)]
        self.video = content.get("video") if all("frame_index" in i for i in self.images) else None
        self.split = split_of(file, root) or split_named(file.stem)
        named = [c for c in content.get("categories") or [] if isinstance(c, dict) and "id" in c]
        used = {a.get("category_id") for a in content["annotations"] if isinstance(a, dict)}
        self.classes = {c["id"]: str(c.get("name", c["id"])) for c in named if c["id"] in used}
        self.annotations = self._by_image(content["annotations"])
        self.classes = {number: name for number, name in self.classes.items() if not names_no_object(name)}
        self._folders = [f.format(split=self.split or "train", stem=file.stem) for f in _FOLDERS]

    def read(self) -> None:
        """Hand over the samples, classes and notes."""
        if video := self._find_video():
            images = {int(i["frame_index"]): i for i in self.images}
            frames = frames_of_video(video, max(images, default=-1) + 1, self.file)
            self._add_clip(name_in(self.root, video), frames, images)
        else:
            by_clip: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for image in self.images:
                if "clip" in image:
                    by_clip[str(image["clip"])].append(image)
            for name, frames_of_clip in by_clip.items():
                self._add_frames(name, sorted(frames_of_clip, key=lambda image: image["frame_index"]))
            for image in (image for image in self.images if "clip" not in image):
                if not self._add_picture(image):
                    break
        self.found.classes |= dict.fromkeys(self.classes.values())

    def _by_image(self, annotations: list[Any]) -> dict[Any, list[dict[str, Any]]]:
        known = {image.get("id") for image in self.images}
        grouped: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        keeps_crowds = crowds_are_objects(annotations)
        crowds, strays, ignored = 0, [], Counter[str]()
        for annotation in annotations:
            if not isinstance(annotation, dict) or annotation.get("image_id") not in known:
                strays.append(annotation.get("image_id") if isinstance(annotation, dict) else annotation)
            elif annotation.get("iscrowd") and not keeps_crowds:
                crowds += 1
            elif names_no_object(name := self.classes.get(annotation.get("category_id"))):
                ignored[str(name)] += 1
            else:
                crowds += bool(annotation.get("iscrowd"))
                grouped[annotation["image_id"]].append(annotation)
                self.found.outlines += rings_of(annotation.get("segmentation"))
        self.found.note_ignored(ignored, self.file)
        if crowds and keeps_crowds:
            why = "are kept, because here the mark only says: no polygon"
            self.found.note("kept_crowd", f"{self.file}: {crowds} masks marked iscrowd {why}")
        elif crowds:
            why = "are left out, because each outlines many objects at once"
            self.found.note("crowd", f"{self.file}: {crowds} crowd regions {why}")
        if strays:
            text = f"{self.file}: {len(strays)} annotations belong to no picture in its list (the first says image_id "
            self.found.note("unpaired", f"{text}{strays[0]}); export pictures and annotations together")
        return grouped

    def _add_picture(self, image: dict[str, Any]) -> bool:
        """A sample for a listed picture whose file is there and that has annotations; False if others make no sense."""
        name, annotations = str(image.get("file_name", "")), self.annotations.get(image.get("id"))
        path = self._find(name)
        if path is None and isinstance(self.video, dict):
            clip = self.video.get("file_name") or "a clip"
            text = f"{self.file} is about frames of {clip}, which is not beside it; put the clip there"
            self.found.note("missing", text)
            return False
        if path is None:
            text = f"{self.file} lists {name or 'a picture without file_name'}, which is not there"
            self.found.note("missing", f"{text}; put the pictures beside it or in images/")
        elif not annotations:
            self.found.note("no_mask", f"{path} has no annotation in {self.file.name}")
        else:
            masks = CocoMasks(annotations={0: annotations}, source=self.file.name, image=image, classes=self.classes)
            truth = Truth(read=masks.read, count=sum(bool(a.get("segmentation")) for a in annotations))
            split = self.split
            if split is None and path.is_relative_to(self.root):  # train2017/ below a JSON whose own name says nothing
                split = split_of(path.with_name(path.parent.name.rstrip("0123456789")), self.root)
            self.found.samples.append(Sample(name_in(self.root, path), frame_files(path), truth, split))
        return True

    def _add_frames(self, name: str, images: list[dict[str, Any]]) -> None:
        files = [self._find(image["file_name"]) for image in images]
        there = [file for file in files if file is not None]
        if len(there) < len(files):
            lost = images[files.index(None)]["file_name"]
            self.found.note("missing", f"{self.file}: clip {name} lacks the frame {lost}; put it back")
            return
        annotated = {n: image for n, image in enumerate(images) if image.get("annotated", True)}
        self._add_clip(name, frame_files(*there), annotated)

    def _add_clip(self, name: str, frames: Frames, images: dict[int, dict[str, Any]]) -> None:
        """A sample, if a mask is in it."""
        found = {frame: self.annotations.get(image.get("id"), []) for frame, image in images.items()}
        tracks = sorted({int(a["track_id"]) for annotations in found.values() for a in annotations})
        # a clip's masks are all of one class, as long as nobody says otherwise
        classes = {number: label for number, label in self.classes.items() if label != NAMELESS}
        masks = CocoMasks(annotations=found, source=str(self.file), classes=classes, is_clip=True)
        if tracks:
            truth = Truth(read=masks.read, frames=sorted(found), ids=tracks)
            self.found.samples.append(Sample(name, frames, truth, self.split))

    def _find_video(self) -> Path | None:
        """The clip beside the JSON whose masks it holds; by the name it states, or by its own."""
        if not isinstance(self.video, dict):
            return None
        stated = Path(str(self.video.get("file_name") or "").replace("\\", "/")).name
        own = [f"{self.file.stem.removesuffix('_coco')}{suffix}" for suffix in VIDEO_SUFFIXES]
        names = [name for name in (stated, *own) if name not in ("", "..")]
        places = (folder / name for folder in (self.file.parent, self.file.parent.parent) for name in names)
        return next((place for place in places if place.exists()), None)

    def _find(self, name: str) -> Path | None:
        for wanted in dict.fromkeys((name, Path(name.replace("\\", "/")).name)) if name else ():
            for base in (self.file.parent, self.file.parent.parent):
                for folder in self._folders:
                    path = place_of(wanted, base / folder, self.root.parent if self.root != base else self.root)
                    if path is not None and os.path.isfile(path):
                        self._folders.remove(folder)  # the others are there too, most likely
                        self._folders.insert(0, folder)
                        return path
        return None


class CocoContent:
    """A JSON while it is written."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories: dict[str, int] = {}  # name -> id

    def category(self, name: str | None) -> int:
        """The id of a class."""
        return self.categories.setdefault(name or NAMELESS, len(self.categories) + 1)

    def add_image(self, file_name: str, size_hw: tuple[int, int], **more: Any) -> None:
        """The picture that the next masks belong to."""
        entry = {"id": len(self.images) + 1, "file_name": file_name, "width": size_hw[1], "height": size_hw[0]}
        self.images.append(entry | more)

    def add_mask(self, mask: np.ndarray, label: str | None, **more: Any) -> None:
        """One annotation of the latest picture; `mask` is bool [H, W]."""
        entry = {
            "id": len(self.annotations) + 1,
            "image_id": len(self.images),
            "category_id": self.category(label),
            "segmentation": mask_to_runs(mask),
            "area": int(np.count_nonzero(mask)),
            "bbox": list(cv2.boundingRect(mask.astype(np.uint8))),
            "iscrowd": 0,
        }
        self.annotations.append(entry | more)

    def as_dict(self) -> dict[str, Any]:
        """What the file holds."""
        categories = [{"id": number, "name": name} for name, number in self.categories.items()]
        return {"images": self.images, "categories": categories, "annotations": self.annotations}
