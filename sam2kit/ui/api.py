"""What programs and agents may ask of a running app: named endpoints, for gradio_client, plain HTTP and MCP.

Each request stands for itself: no session, one answer. Long jobs take their turn with those of the visitors.

Surprises: gr.api takes the docs from the docstrings and types below, and the types as they are written, so there is no
`from __future__ import annotations` here. Nothing stands between a request and these functions: a file comes and goes
as FileData's dict, and a client may write what it likes into it.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

import gradio as gr
from gradio.components import Component
from gradio.context import get_blocks_context
from gradio.events import api
from gradio.utils import get_function_description

from sam2kit.media.clip_masks import Progress
from sam2kit.media.clips import Clip
from sam2kit.media.effects import EffectPainter
from sam2kit.media.exports import NamedMask, coco_json, write_image
from sam2kit.media.pictures import read_picture
from sam2kit.predict.image import ImageEmbedding
from sam2kit.predict.prompt_lists import PlacedPrompt, place_prompts, prompts_of
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session import FramePrompt, VideoSession
from sam2kit.ui.api_files import label_image, result_folder, served, uploaded
from sam2kit.ui.limits import Limits
from sam2kit.ui.networks import Network
from sam2kit.ui.tab_parts import ERRORS, plain_stem, plain_words
from sam2kit.ui.turns import Turns
from sam2kit.ui.video_downloads import DOWNLOADS, start_download
from sam2kit.ui.video_models import in_words
from sam2kit.ui.zero_gpu import automatic_masks

_MOST_OBJECTS = 64  # in one request
_MOST_POINTS = 64  # per side of the grid of "segment everything"
_LONGEST = 600.0  # seconds of tracking, where an app that is for everybody limits its clips
_SURE_AFTER = 30.0  # seconds of tracking after which its pace is known
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

    network: Network
    jobs: Turns
    limits: Limits

    def segment_image(self, image: File, prompts: list[ObjectPrompt]) -> tuple[File, dict[str, Any]]:
        """Find the masks of objects in a picture, each from clicks or a box (SAM 2).

        Args:
            image: The picture: JPEG, PNG, WebP, HEIC and others.
            prompts: One entry per object, in pixels of the picture: {"points": [[x, y]], "labels": [1]} with label 1 for "this" and 0 for "not this", {"box": [x0, y0, x1, y1]}, or both; "object" names it.
        Returns:
            A PNG in which each pixel is the number of its object, from 1 in the order of the prompts, 0 for none; and COCO JSON with a run-length mask per object, whose "score" is the predicted IoU.
        """  # noqa: E501 - Gradio reads one line per argument
        with _sentences():
            path, name = uploaded(image, self.limits)
            entries = _entries(prompts)
            asked = [prompt for _, _, prompt in prompts_of(entries, "prompts", None, each_alone=True)]
            picture = read_picture(path, max_pixels=self.limits.picture_pixels)
            embedding = self.network.images.encode(picture)
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
        with _sentences():
            path, name = uploaded(image, self.limits)
            wanted = {"min_predicted_iou": min_predicted_iou, "min_stability": min_stability}
            chosen: dict[str, Any] = {k: _within(k, value, 0, 1) for k, value in wanted.items() if value is not None}
            points = int(_within("points_per_side", points_per_side, 1, _MOST_POINTS))
            options = replace(self.network.everything, points_per_side=points, **chosen)
            picture = read_picture(path, max_pixels=self.limits.picture_pixels)
            with self.jobs.join() as turn:
                turn.wait()
                found = automatic_masks(self.network.images, options).generate(picture)
            objects = [NamedMask(f"object {i}", f.runs, f.predicted_iou) for i, f in enumerate(found, start=1)]
            return _answer(objects, picture.shape[:2], name)

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
        with _sentences():
            path, name = uploaded(video, self.limits)
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
                        file, steps = start_download(
                            kind, session, folder, plain_stem(name, "result"), effect, {}, labels=False
                        )
                        notes += _finish(steps)
                        files.append(served(file))
            told = [plain_words(note) for note in notes]
            return files, {"frames": len(session), "objects": list(session.object_ids), "notes": told}

    # inside

    def _segmented(self, embedding: ImageEmbedding, asked: FramePrompt, name: str) -> NamedMask:
        points, labels = (asked.points_xy, asked.labels) if len(asked.points_xy) else (None, None)
        best = self.network.images.predict(embedding, Prompt(points, labels, asked.box_xyxy)).best()
        return NamedMask.of(name, best.masks[0, 0].cpu().numpy(), best.predicted_iou[0, 0].item())

    def _tracked(self, clip: Clip, prompts: Sequence[PlacedPrompt], numbers: range) -> VideoSession:
        """Prompt, and track both ways; `numbers` are what the video calls the frames of the clip."""
        assert self.network.videos is not None, "add_api leaves tracking out where the model cannot"
        predictor = self.network.videos.predictor()
        session = predictor.open(clip)
        for index, object_id, prompt in place_prompts(prompts, numbers):
            predictor.add_prompt(session, index, object_id, prompt)
        session.plan = predictor.plan(session)
        total, began = len(session.plan), time.monotonic()
        for done, _ in enumerate(predictor.resume(session), start=1):
            self._check_pace(done, total, time.monotonic() - began)
        return session

    def _check_pace(self, done: int, total: int, seconds: float) -> None:
        """Nobody may hold up everybody else for hours."""
        needed = seconds / done * total
        if self.limits.clip_seconds is not None and seconds > _SURE_AFTER and needed > _LONGEST:
            raise ValueError(
                f"tracking {total} frames would take about {in_words(needed)} here, and one request may take "
                f"{in_words(_LONGEST)}; use fewer frames (start, stop, every)"
            )


def add_api(network: Network, jobs: Turns, limits: Limits) -> Endpoints:
    """Add the endpoints to the page that is being built: /segment_image, /segment_everything and /track_video.

    Args:
        network: answers all requests.
        jobs: long requests join it.
        limits: what is taken.
    Returns:
        their functions; track_video has no endpoint if the network only knows pictures.
    """
    endpoints = Endpoints(network, jobs, limits)
    _add(endpoints.segment_image, at_once=4)
    _add(endpoints.segment_everything)
    if network.videos is not None:
        _add(endpoints.track_video)
    return endpoints


def hide_others(page: gr.Blocks) -> None:
    """Let nothing else be an endpoint; Gradio makes one of a gr.State that is filled at load. For after the `with`."""
    ours = {Endpoints.segment_image.__name__, Endpoints.segment_everything.__name__, Endpoints.track_video.__name__}
    for function in page.fns.values():
        if function.api_visibility == "public" and function.api_name not in ours:
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


@contextmanager
def _sentences() -> Iterator[None]:
    """What went wrong, as one sentence for the client instead of a traceback in the log."""
    try:
        yield
    except ERRORS as error:
        raise gr.Error(plain_words(error), print_exception=False) from error


def _answer(objects: Sequence[NamedMask], size_hw: tuple[int, int], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with result_folder() as folder:
        path = write_image(label_image(objects, size_hw), folder / f"{plain_stem(name, 'result')}_labels.png")
    return served(path), coco_json(objects, name, size_hw)


def _entries(prompts: Any) -> list[dict[str, Any]]:
    """A list of prompts as it came.

    Raises:
        ValueError: if it is none, or has nothing or too much in it.
    """
    if not isinstance(prompts, list) or not prompts or not all(isinstance(entry, dict) for entry in prompts):
        raise ValueError('prompts must be a list such as [{"points": [[x, y]], "labels": [1]}] with one entry or more')
    if len(prompts) > _MOST_OBJECTS:
        raise ValueError(f"one request may hold {_MOST_OBJECTS} prompts, got {len(prompts)}; send several requests")
    return prompts


def _check_exports(exports: Any, effect: Any) -> None:
    known = isinstance(exports, list) and all(isinstance(kind, str) and kind in DOWNLOADS for kind in exports)
    if not known or not exports or len(set(exports)) < len(exports):
        raise ValueError(f"exports must be a list of {', '.join(DOWNLOADS)}, each once, got {exports!r:.200}")
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
