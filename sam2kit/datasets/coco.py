"""COCO JSON: polygons, and run lengths compressed or not; as Roboflow, CVAT, Label Studio and COCO itself write it.

One JSON, or several (`instances_train2017.json`, or `_annotations.coco.json` in train/, valid/ and test/). Pictures are
looked for beside the JSON and in the folders where these programs put them. Crowd regions outline many things at once
and are left out. Surprise: CVAT and others mark every mask that is no polygon as a crowd; such are kept.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2kit.datasets.coco_clips import CocoClip
from sam2kit.datasets.layouts import (
    json_of_kind,
    load_json,
    names_no_object,
    no_object_note,
    place_of,
    split_named,
    split_of,
)
from sam2kit.datasets.picture_files import FilePicture, PictureSize, TrueMasks, Truth
from sam2kit.datasets.samples import BadSampleError, Dataset, Note, left_out
from sam2kit.datasets.segmentations import OutlineCount, mask_of_segmentation
from sam2kit.errors import ODD
from sam2kit.media.clips import VIDEO_SUFFIXES

FORMAT = "COCO JSON"
_FOLDERS = ("", "images", "data", "JPEGImages", "photos", "{split}", "{split}2017", "{split}2014", "images/{split}",
            "images/{split}2017", "{stem}", "images/{stem}")  # fmt: skip


def stated_hw(image: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width as the entry of a picture has them; None if it has none that can be."""
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 else None


@dataclass(frozen=True)
class AnnotationsTruth(Truth):
    """The annotations of one picture, as COCO has them."""

    annotations: tuple[dict[str, Any], ...]
    stated_hw: tuple[int, int] | None
    source: str  # name of the JSON, for messages
    classes: dict[Any, str] = field(default_factory=dict)  # category id -> name

    @property
    def count(self) -> int:
        """Of masks, as far as the JSON can tell."""
        return sum(bool(a.get("segmentation")) for a in self.annotations)

    def read(self, size: PictureSize) -> TrueMasks:
        """One mask per annotation; those that cannot be read become notes."""
        truth_hw = size.truth_hw(self.stated_hw, f"{self.source} (for {size.name})")
        truth = TrueMasks()
        for annotation in self.annotations:
            name = f"{self.source}, annotation {annotation.get('id', '?')} of {size.name}"
            try:
                mask, notes = mask_of_segmentation(annotation.get("segmentation"), truth_hw, name)
            except BadSampleError as error:
                truth.notes.append(Note(error.kind, str(error)))
                continue
            truth.notes += notes
            truth.add(size.fit(mask, name), self.classes.get(annotation.get("category_id")))
        return truth


def recognises(path: Path) -> bool:
    """Whether there is a COCO JSON, or `path` is one."""
    return bool(json_of_kind(path, "coco"))


def open_coco(path: Path) -> Dataset:
    """All pictures of all COCO files at a path."""
    files = json_of_kind(path, "coco")
    # COCO's own folder also holds key points and captions of the same pictures
    files = [f for f in files if f.stem.startswith("instances")] or files
    root = path if path.is_dir() else path.parent
    pictures: list[FilePicture] = []
    clips: list[CocoClip] = []
    notes: list[Note] = []
    classes: dict[str, None] = {}
    outlines = OutlineCount()
    for file in files:
        try:
            reader = _CocoFile(file, root, outlines)
            pictures += reader.pictures()
            clips += reader.clips()
        except BadSampleError as error:
            notes.append(Note(error.kind, str(error)))
        except ODD as error:
            notes.append(Note("unreadable", f"{file} is not as COCO JSON should be ({error!r}); export it again"))
        else:
            notes += reader.notes
            classes |= dict.fromkeys(reader.classes.values())
    pictures = _unique(pictures, notes)
    notes += outlines.notes(path)
    return Dataset(path, FORMAT, pictures, clips, left_out(notes), notes, tuple(classes), tuple(files))


def crowds_are_objects(annotations: list[Any]) -> bool:
    """Whether `iscrowd` only says that a mask is no polygon: CVAT writes so, as do programs that mark all masks."""
    outlined = [a for a in annotations if isinstance(a, dict) and a.get("segmentation")]
    from_cvat = any(isinstance(a.get("attributes"), dict) and "occluded" in a["attributes"] for a in outlined)
    return from_cvat or (bool(outlined) and all(a.get("iscrowd") for a in outlined))


class _CocoFile:
    """One JSON, read and sorted by picture."""

    def __init__(self, file: Path, root: Path, outlines: OutlineCount) -> None:
        content = load_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("images"), list):
            raise BadSampleError(f'{file} has no list "images", which COCO JSON needs; export it again as COCO')
        if not isinstance(content.get("annotations"), list):
            text = f'{file} has no list "annotations", so there are no masks in it; export it with segmentations'
            raise BadSampleError(text, "no_mask")
        self.file, self.root, self.outlines = file, root, outlines
        self.notes: list[Note] = []
        self.images = [i for i in content["images"] if isinstance(i, dict)]
        self.video = content.get("video") if all("frame_index" in i for i in self.images) else None
        self.split = split_of(file, root) or split_named(file.stem)
        named = [c for c in content.get("categories") or [] if isinstance(c, dict) and "id" in c]
        used = {a.get("category_id") for a in content["annotations"] if isinstance(a, dict)}
        self.classes = {c["id"]: str(c.get("name", c["id"])) for c in named if c["id"] in used}
        self.annotations = self._by_image(content["annotations"])
        self.classes = {number: name for number, name in self.classes.items() if not names_no_object(name)}
        self._folders = [f.format(split=self.split or "train", stem=file.stem) for f in _FOLDERS]

    def _by_image(self, annotations: list[Any]) -> dict[Any, list[dict[str, Any]]]:
        known = {image.get("id") for image in self.images}
        grouped: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        keeps_crowds = crowds_are_objects(annotations)
        crowds, strays = 0, []
        ignored: Counter[str] = Counter()
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
                for ring in _rings(annotation.get("segmentation")):
                    self.outlines.add(ring)
        self.notes += no_object_note(ignored, self.file)
        if crowds and keeps_crowds:
            text = f"{self.file}: {crowds} masks marked iscrowd are kept, because here the mark only says: no polygon"
            self.notes.append(Note("kept_crowd", text))
        elif crowds:
            text = f"{self.file}: {crowds} crowd regions are left out, because each outlines many objects at once"
            self.notes.append(Note("crowd", text))
        if strays:
            text = (
                f"{self.file}: {len(strays)} annotations belong to no picture in its list (the first says image_id "
                f"{strays[0]}); export pictures and annotations together"
            )
            self.notes.append(Note("unpaired", text))
        return grouped

    def pictures(self) -> list[FilePicture]:
        """A sample for every listed picture whose file is there and that has annotations."""
        samples: list[FilePicture] = []
        if self._of_video() is not None:
            return samples
        for image in self.images:
            if "clip" in image:
                continue
            annotations = self.annotations.get(image.get("id"), [])
            name = str(image.get("file_name", ""))
            picture = self._find(name)
            if picture is None and isinstance(self.video, dict):
                clip = self.video.get("file_name") or "a clip"
                text = f"{self.file} is about frames of {clip}, which is not beside it; put the clip there"
                self.notes.append(Note("missing", text))
                return samples
            if picture is None:
                text = f"{self.file} lists {name or 'a picture without file_name'}, which is not there"
                self.notes.append(Note("missing", f"{text}; put the pictures beside it or in images/"))
            elif not annotations:
                self.notes.append(Note("no_mask", f"{picture} has no annotation in {self.file.name}"))
            else:
                samples.append(self._sample(picture, image, annotations))
        return samples

    def clips(self) -> list[CocoClip]:
        """The clips that sam2kit wrote as pictures, frame by frame, or of which it wrote the masks."""
        if (video := self._of_video()) is not None:
            truth = {int(i["frame_index"]): tuple(self.annotations.get(i.get("id"), [])) for i in self.images}
            name = video.relative_to(self.root).as_posix() if video.is_relative_to(self.root) else video.name
            clip = CocoClip(name, (), truth, self.file, self.split, video)
            return [clip] if clip.object_ids else []
        by_clip: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for image in self.images:
            if "clip" in image:
                by_clip[str(image["clip"])].append(image)
        clips = []
        for name, images in by_clip.items():
            images.sort(key=lambda image: image["frame_index"])
            found = [self._find(image["file_name"]) for image in images]
            files = tuple(file for file in found if file is not None)
            if len(files) < len(found):
                text = f"{self.file}: clip {name} lacks the frame {images[found.index(None)]['file_name']}; put it back"
                self.notes.append(Note("missing", text))
                continue
            truth = {
                index: tuple(self.annotations.get(image["id"], []))
                for index, image in enumerate(images)
                if image.get("annotated", True)
            }
            clip = CocoClip(name, files, truth, self.file, self.split)
            if clip.object_ids:  # asking also finds masks without a track_id
                clips.append(clip)
        return clips

    def _of_video(self) -> Path | None:
        """The clip beside the JSON whose masks it holds; by the name it states, or by its own."""
        if not isinstance(self.video, dict):
            return None
        stated = Path(str(self.video.get("file_name") or "").replace("\\", "/")).name
        own = [f"{self.file.stem.removesuffix('_coco')}{suffix}" for suffix in VIDEO_SUFFIXES]
        names = [name for name in (stated, *own) if name not in ("", "..")]
        places = (folder / name for folder in (self.file.parent, self.file.parent.parent) for name in names)
        return next((place for place in places if place.exists()), None)

    def _sample(self, picture: Path, image: dict[str, Any], annotations: list[dict[str, Any]]) -> FilePicture:
        truth = AnnotationsTruth(tuple(annotations), stated_hw(image), self.file.name, self.classes)
        name = picture.relative_to(self.root) if picture.is_relative_to(self.root) else Path(picture.name)
        return FilePicture(name.as_posix(), picture, truth, self.split or self._folder_split(picture))

    def _folder_split(self, picture: Path) -> str | None:
        """Of a picture in train2017/ below the JSON, whose own name says nothing."""
        if not picture.is_relative_to(self.root):
            return None
        return split_of(picture.with_name(picture.parent.name.rstrip("0123456789")), self.root)

    def _find(self, name: str) -> Path | None:
        if not name:
            return None
        for wanted in dict.fromkeys((name, Path(name.replace("\\", "/")).name)):
            for base in (self.file.parent, self.file.parent.parent):
                for folder in self._folders:
                    path = place_of(wanted, base / folder, self.root.parent if self.root != base else self.root)
                    if path is not None and os.path.isfile(path):
                        if folder != self._folders[0]:  # the others are there too, most likely
                            self._folders.remove(folder)
                            self._folders.insert(0, folder)
                        return path
        return None


def _rings(segmentation: Any) -> list[Any]:
    """The outlines of a segmentation; one that is no polygon counts as an outline that is no box."""
    if not segmentation:
        return []
    is_nested = isinstance(segmentation, list) and isinstance(segmentation[0], (list, tuple))
    return segmentation if is_nested else [segmentation]


def _unique(pictures: list[FilePicture], notes: list[Note]) -> list[FilePicture]:
    """Names must be unique; a picture that is listed twice keeps its first entry."""
    seen: dict[str, FilePicture] = {}
    for picture in pictures:
        if picture.name in seen:
            text = f"{picture.image} is listed twice; the first list of its masks was taken. Merge the entries"
            notes.append(Note("unpaired", text))
        else:
            seen[picture.name] = picture
    return list(seen.values())
