"""What programs and agents may ask of a running app: named endpoints, for gradio_client, plain HTTP and MCP.

Each request stands for itself: no session, one answer. Long jobs take their turn with those of the visitors. Results
lie in Gradio's cache, in a folder with a name that nobody can guess; Gradio deletes them after an hour (layout.py).

Surprises: gr.api takes the docs from the docstrings and types below, and the types as they are written, so there is no
`from __future__ import annotations` here. Nothing stands between a request and these functions: a file comes and goes
as FileData's dict, and a client may write what it likes into it.
"""

import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import gradio as gr
import numpy as np
from gradio.components import Component
from gradio.context import get_blocks_context
from gradio.events import api
from gradio.utils import get_function_description, get_upload_folder
from PIL import Image

from sam2kit.app.components import as_error, in_words, plain_stem, plain_words
from sam2kit.app.downloads import CLIP_FILES, start_clip_file
from sam2kit.app.limits import Limits
from sam2kit.app.models import LoadedModel
from sam2kit.app.queue import FairQueue
from sam2kit.app.zero_gpu import automatic_masks
from sam2kit.data.mask_exports import coco_json
from sam2kit.media.clip import Clip
from sam2kit.media.drawing import colour_of
from sam2kit.media.effects import EffectPainter
from sam2kit.media.mask_files import NamedMask, write_image
from sam2kit.media.pictures import read_picture
from sam2kit.media.video_exports import Progress
from sam2kit.predict.detector import Detector, DetectorOptions
from sam2kit.predict.image import ImageEmbedding
from sam2kit.predict.prompt_lists import PlacedPrompt, place_prompts, prompts_of
from sam2kit.predict.prompts import FramePrompt, Prompt
from sam2kit.predict.session import Session

_MOST_OBJECTS = 64  # in one request
_MOST_POINTS = 64  # per side of the grid of "segment everything"
_LONGEST = 600.0  # seconds of tracking, where an app that is for everybody limits its clips
_SURE_AFTER = 30.0  # seconds of tracking after which its speed is known
_EXPORTS = ["video", "masks", "coco"]

if TYPE_CHECKING:
    File = dict[str, Any]  # what comes and goes
else:
    File = gr.FileData  # how Gradio is told of it


class ObjectPrompt(TypedDict, total=False):
    """What is asked about one object; points or a box are needed."""

    object: str | int  # its name
    points: list[list[float]]  # [x, y] in pixels
    labels: list[int]  # 1 this, 0 not this; one per point
    box: list[float]  # x0, y0, x1, y1 in pixels


class VideoPrompt(ObjectPrompt, total=False):
    """The same on a frame of a video."""

    frame: int


@dataclass
class Endpoints:
    """The functions behind the endpoints. Their docstrings are what users and agents read."""

    model: LoadedModel
    jobs: FairQueue
    limits: Limits

    def segment_image(self, image: File, prompts: list[ObjectPrompt]) -> tuple[File, dict[str, Any]]:
        """Find the masks of objects in a picture, each from clicks or a box (SAM 2).

        Args:
            image: The picture: JPEG, PNG, WebP, HEIC and others.
            prompts: One entry per object, in pixels of the picture: {"points": [[x, y]], "labels": [1]} with label 1 for "this" and 0 for "not this", {"box": [x0, y0, x1, y1]}, or both; "object" names it.
        Returns:
            A PNG in which each pixel is the number of its object, from 1 in the order of the prompts, 0 for none; and COCO JSON with a run-length mask per object, whose "score" is the predicted IoU.
        """  # noqa: E501 - Gradio reads one line per argument
        with as_error():
            path, name = _uploaded(image, self.limits)
            entries = _entries(prompts)
            asked = [prompt for _, _, prompt in prompts_of(entries, "prompts", None, each_alone=True)]
            picture = read_picture(path, max_pixels=self.limits.picture_pixels)
            embedding = self.model.images.encode(picture)
            names = [str(entry.get("object", f"object {i}")) for i, entry in enumerate(entries, start=1)]
            objects = [self._segmented(embedding, one, title) for one, title in zip(asked, names, strict=True)]
            return _answer(objects, picture.shape[:2], name)

    def segment_everything(
        self,
        image: File,
        points_per_side: int = 16,
        min_predicted_iou: float | None = None,
        min_stability: float | None = None,
    ) -> tuple[File, dict[str, Any]]:
        """Find masks for everything in a picture, without prompts (SAM 2).

        Args:
            image: The picture: JPEG, PNG, WebP, HEIC and others.
            points_per_side: Of the grid of points, 1 to 64; more finds smaller things and takes longer.
            min_predicted_iou: Minimum predicted IoU of a mask (the model's own estimate), 0 to 1; left out, a value that suits the model.
            min_stability: Minimum stability score of a mask (how little it changes with its threshold), 0 to 1; left out, a value that suits the model.
        Returns:
            A PNG in which each pixel is the number of its object, from 1, 0 for none; and COCO JSON with a run-length mask per object, best first, whose "score" is the predicted IoU.
        """  # noqa: E501
        with as_error():
            path, name = _uploaded(image, self.limits)
            wanted = {"min_predicted_iou": min_predicted_iou, "min_stability": min_stability}
            chosen: dict[str, Any] = {k: _within(k, value, 0, 1) for k, value in wanted.items() if value is not None}
            points = int(_within("points_per_side", points_per_side, 1, _MOST_POINTS))
            options = replace(self.model.everything, points_per_side=points, **chosen)
            picture = read_picture(path, max_pixels=self.limits.picture_pixels)
            with self.jobs.join() as turn:
                turn.wait()
                found = automatic_masks(self.model.images, options).generate(picture)
            objects = [NamedMask(f"object {i}", f.runs, f.predicted_iou) for i, f in enumerate(found, start=1)]
            return _answer(objects, picture.shape[:2], name)

    def detect(self, image: File, least: float | None = None) -> tuple[File, dict[str, Any]]:
        """Find objects in a picture without prompts, with a model that was fine-tuned to do so (SAM 2).

        Args:
            image: The picture: JPEG, PNG, WebP, HEIC and others.
            least: Score that an object must reach, 0 to 1; left out, a value that suits most.
        Returns:
            A PNG in which each pixel is the number of its object, from 1, 0 for none; and COCO JSON with a run-length mask per object, best first, with its class and its score.
        """  # noqa: E501
        with as_error():
            path, name = _uploaded(image, self.limits)
            options = DetectorOptions() if least is None else DetectorOptions(_within("least", least, 0, 1))
            detector = Detector(self.model.images.model, options, predictor=self.model.images)
            picture = read_picture(path, max_pixels=self.limits.picture_pixels)
            with self.jobs.join() as turn:
                turn.wait()
                found = detector.find(picture)
            return _answer([NamedMask(f.name, f.runs, f.score) for f in found], picture.shape[:2], name)

    def track_video(
        self,
        video: File,
        prompts: list[VideoPrompt],
        effect: str = "overlay",
        exports: list[str] = _EXPORTS,
        start: int = 0,
        stop: int | None = None,
        every: int = 1,
    ) -> tuple[list[File], dict[str, Any]]:
        """Follow objects through a video, from clicks or boxes on any of its frames (SAM 2).

        Args:
            video: The video: MP4, MOV, WebM, GIF and others.
            prompts: One entry per prompt: {"frame": 0, "object": "cup", "points": [[x, y]], "labels": [1]} and/or "box": [x0, y0, x1, y1], in pixels of the video. Entries with the same object add up; frames count from 0.
            effect: How videos show the objects: overlay, outline, cut_out, blur_background, spotlight and others.
            exports: Which files to make: video, side (side by side), gif, alpha (transparent WebM), masks (PNGs in a zip), coco (JSON).
            start: First frame to use.
            stop: The frame to stop before; left out, the end.
            every: Use every n-th frame only, which is quicker.
        Returns:
            The files, in the order of exports; and what was done: frames, objects, and notes about what could not be read or kept.
        """  # noqa: E501
        with as_error():
            path, name = _uploaded(video, self.limits)
            placed = prompts_of(_entries(prompts), "prompts", None)
            _check_exports(exports, effect)
            _check_cut(start, stop, every)
            self.limits.check_file(path)
            with self.jobs.join() as turn, self.limits.open_clip(path, name) as whole:
                last = len(whole) if stop is None else int(stop)
                cut, numbers = whole.cut(int(start), last, int(every)), range(int(start), last, int(every))
                turn.wait()
                session = self._tracked(cut, placed, numbers)
                with result_folder() as folder:
                    files, notes = [], [*whole.notes]
                    for kind in exports:
                        file, steps = start_clip_file(
                            kind, session, folder, plain_stem(name, "result"), effect, labels=False
                        )
                        notes += _finish(steps)
                        files.append(_served(file))
            notes = [plain_words(note) for note in notes]
            return files, {"frames": len(session), "objects": list(session.object_ids), "notes": notes}

    # inside

    def _segmented(self, embedding: ImageEmbedding, asked: FramePrompt, name: str) -> NamedMask:
        points, labels = (asked.points_xy, asked.labels) if len(asked.points_xy) else (None, None)
        best = self.model.images.predict(embedding, Prompt(points, labels, asked.box_xyxy)).best()
        return NamedMask.of(name, best.masks[0, 0].cpu().numpy(), best.predicted_iou[0, 0].item())

    def _tracked(self, clip: Clip, prompts: Sequence[PlacedPrompt], numbers: range) -> Session:
        """Prompt, and track both ways; `numbers` are what the video calls the frames of the clip."""
        predictor = self.model.predictor
        session = predictor.open(clip)
        for index, object_id, prompt in place_prompts(prompts, numbers):
            predictor.add_prompt(session, index, object_id, prompt)
        session.plan = predictor.plan(session)
        total, began = len(session.plan), time.monotonic()
        for done, _ in enumerate(predictor.resume(session), start=1):
            self._check_speed(done, total, time.monotonic() - began)
        return session

    def _check_speed(self, done: int, total: int, seconds: float) -> None:
        """Nobody may hold up everybody else for hours."""
        needed = seconds / done * total
        if self.limits.clip_seconds is not None and seconds > _SURE_AFTER and needed > _LONGEST:
            raise ValueError(
                f"tracking {total} frames would take about {in_words(needed)} here, and one request may take "
                f"{in_words(_LONGEST)}; use fewer frames (start, stop, every)"
            )


def add_api(model: LoadedModel, jobs: FairQueue, limits: Limits) -> Endpoints:
    """Add the endpoints to the page that is being built; /track_video only if the model can track."""
    endpoints = Endpoints(model, jobs, limits)
    _add(endpoints.segment_image, at_once=4)
    _add(endpoints.segment_everything)
    _add(endpoints.detect)
    if model.can_track:
        _add(endpoints.track_video)
    return endpoints


def hide_others(page: gr.Blocks) -> None:
    """Let nothing else be an endpoint; Gradio makes one of a gr.State that is filled at load. For after the `with`."""
    for function in page.fns.values():
        if function.api_visibility == "public" and not hasattr(Endpoints, str(function.api_name)):
            function.api_visibility = "private"


def _add(function: Any, *, at_once: int = 1) -> None:
    """Name an endpoint after its function; Gradio leaves what is said of each argument to MCP, so it is put in here."""
    added = api(function, api_name=function.__name__, concurrency_limit=at_once)
    _, texts, _ = get_function_description(function)
    page = get_blocks_context()
    assert page is not None, "gr.api has checked that a page is being built"
    for number, text in zip(added["inputs"], texts.values(), strict=True):
        part = page.blocks[number]
        assert isinstance(part, Component), "an endpoint's inputs are components"
        part.api_info()["additional_description"] = text


def _uploaded(file: Any, limits: Limits) -> tuple[Path, str]:
    """Where an upload lies, and what it was called; a client may send anything in place of a file.

    Raises:
        ValueError: if it is no upload, as nothing else on this machine may be named by it, or too large.
    """
    given = file if isinstance(file, dict) else {}
    path, cache = Path(str(given.get("path"))).resolve(), Path(get_upload_folder()).resolve()
    if not path.is_relative_to(cache) or not path.is_file():
        raise ValueError("a file is needed; with gradio_client, give handle_file(path or address)")
    name = Path(str(given.get("orig_name") or path.name)).name
    limits.check_upload(path, name)
    return path, name


@contextmanager
def result_folder() -> Iterator[Path]:
    """A folder for the files of one answer; if there is no answer, there is no folder."""
    folder = Path(get_upload_folder()) / secrets.token_urlsafe(24)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _served(path: Path) -> dict[str, Any]:
    return gr.FileData(path=str(path), orig_name=path.name).model_dump()


def _label_image(objects: Sequence[NamedMask], size_hw: tuple[int, int]) -> Image.Image:
    """Pixels are the numbers of the objects, from 1, the smaller one on top; 16-bit grey if there are more than 255."""
    labels = np.zeros(size_hw, np.uint8 if len(objects) < 256 else np.uint16)
    for number, item in sorted(enumerate(objects, start=1), key=lambda each: -each[1].area):
        labels[item.mask] = number
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette([0, 0, 0, *(channel for i in range(len(objects)) for channel in colour_of(i))])
    return image


def _answer(objects: Sequence[NamedMask], size_hw: tuple[int, int], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with result_folder() as folder:
        path = write_image(_label_image(objects, size_hw), folder / f"{plain_stem(name, 'result')}_labels.png")
    return _served(path), coco_json(objects, name, size_hw)


def _entries(prompts: Any) -> list[dict[str, Any]]:
    """A list of prompts as it came; ValueError if it is none, or has nothing or too much in it."""
    if not isinstance(prompts, list) or not prompts or not all(isinstance(entry, dict) for entry in prompts):
        raise ValueError('prompts must be a list such as [{"points": [[x, y]], "labels": [1]}] with one entry or more')
    if len(prompts) > _MOST_OBJECTS:
        raise ValueError(f"one request may hold {_MOST_OBJECTS} prompts, got {len(prompts)}; send several requests")
    return prompts


def _check_exports(exports: Any, effect: Any) -> None:
    known = isinstance(exports, list) and all(isinstance(kind, str) and kind in CLIP_FILES for kind in exports)
    if not known or not exports or len(set(exports)) < len(exports):
        raise ValueError(f"exports must be a list of {', '.join(CLIP_FILES)}, each once, got {exports!r:.200}")
    if EffectPainter(str(effect)).makes_alpha and "video" in exports:
        raise ValueError(f"the effect {effect} is transparent, which an MP4 cannot be; take the export alpha")


def _check_cut(start: Any, stop: Any, every: Any) -> None:
    for name, value in {"start": start, "stop": 0 if stop is None else stop, "every": every}.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name} must be a whole number of frames, got {value!r}")


def _within(name: str, value: Any, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least} to {most}, got {value!r}")
    return value


def _finish(steps: Progress) -> tuple[str, ...]:
    """Go through an export; what it says in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value or ()
