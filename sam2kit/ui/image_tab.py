"""The Image tab: a photo, clicks, masks, downloads.

Handlers first (plain values in, updates out), then the layout, then the wiring. Gradio holds only the visitor's
key; the work is in the session store. Each click sends two numbers and gets one JPEG back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from sam2kit.media.exports import coco_json, cut_out, mask_image, write_image, write_json
from sam2kit.media.pictures import read_picture
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, FoundMask
from sam2kit.predict.image import ImagePredictor
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.tab_parts import ADD, BOX, REMOVE, Untouched, plain_words, thumbnail

_HINTS = {
    ADD: "Click on the thing you want.",
    REMOVE: "Click where the mask should not be.",
    BOX: "Click two opposite corners around the thing.",
}
_DOWNLOADS = {"mask": "Download mask", "cutout": "Download cut-out", "coco": "Download COCO JSON"}


class PhotoUpload(Untouched, gr.Image):
    """An image upload that hands over the untouched file."""

    def get_block_name(self) -> str:
        """Gradio finds the front end by this name."""
        return "image"


class Cancelled(Exception):
    """The visitor pressed Stop."""


@dataclass
class ImageTab:
    """What the handlers need: the model, the visitors' work, the examples."""

    predictor: ImagePredictor  # with a lock: the visitors share one network
    store: SessionStore[PictureWork]
    examples: list[Path]
    everything: AutomaticOptions = field(default_factory=AutomaticOptions)  # what the sliders start at

    def open_picture(self, key: str, source: str | Path, mode: str) -> list[Any]:
        """Show a new photo."""
        if not source:
            return self._nothing()
        self.stop(key)
        with self.store.using(key) as work:
            try:
                work.open(self.predictor, source)
            except (ValueError, FileNotFoundError) as error:
                gr.Warning(plain_words(error), title="This photo cannot be used")
                return self._nothing() if not work.is_open else self._refresh(work, _HINTS[mode])
            return self._refresh(work, _HINTS[mode])

    def open_example(self, index: int, key: str, mode: str) -> list[Any]:
        """Show one of the example photos."""
        return self.open_picture(key, self.examples[index], mode)

    def click(self, key: str, mode: str, event: gr.SelectData) -> list[Any]:
        """A click on the photo: a prompt, or a corner of a box."""
        x, y = event.index

        def act(work: PictureWork) -> str:
            if mode == BOX:
                work.corner(self.predictor, (x, y))
                return "Now click the opposite corner." if work.now.corner else _HINTS[BOX]
            work.click(self.predictor, (x, y), positive=mode != REMOVE)
            return _HINTS[mode]

        return self._step(key, act)

    def change_mode(self, mode: str) -> str:
        """Say what the next click will do."""
        return _HINTS[mode]

    def choose(self, key: str, candidate: int | None) -> list[Any]:
        """Take another candidate."""
        return self._step(key, lambda work: work.choose(candidate) if candidate is not None else None)

    def select(self, key: str, index: int | None) -> list[Any]:
        """Work on another object."""
        return self._step(key, lambda work: work.select(index) if index is not None else None)

    def new_object(self, key: str) -> list[Any]:
        """Start another object."""
        return self._step(key, lambda work: work.new_object())

    def undo(self, key: str) -> list[Any]:
        """Take back the last step."""
        return self._step(key, lambda work: work.undo())

    def clear(self, key: str) -> list[Any]:
        """Remove all objects."""
        return self._step(key, lambda work: work.clear())

    def find_everything(
        self,
        key: str,
        points_per_side: int,
        min_iou: float,
        min_stability: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - gradio recognises it by this default
    ) -> list[Any]:
        """Segment everything; Stop, or another photo, leaves the work as it was.

        The search itself holds no lock on the visitor's work, so nobody waits for it to end.
        """
        cancelled = self.store.cancelled(key)
        with self.store.using(key) as work:
            image = work.image
        options = replace(
            self.everything,
            points_per_side=int(points_per_side),
            min_predicted_iou=min_iou,
            min_stability=min_stability,
        )

        def report(done: int, total: int) -> None:
            if cancelled.is_set():
                raise Cancelled
            progress((done, total), desc="Segmenting everything", unit="batches")

        def act(work: PictureWork) -> str:
            if found is None or work.image is not image:
                return "Stopped; nothing was changed."
            if not work.add_found(found, self.predictor.model.config.low_res_side):
                return "No mask was sure enough. Lower the limits under “Segment everything” and try again."
            return f"{len(found)} masks found; pick one in the list to refine it with clicks."

        found: list[FoundMask] | None = None
        if image is not None:
            search = AutomaticMasks(self.predictor.model, options, lock=self.predictor.lock)
            with suppress(Cancelled):
                found = search.generate(image, progress=report)
        return self._step(key, act)

    def begin(self, key: str) -> None:
        """Before a job that may be stopped: forget a Stop that was meant for another."""
        self.store.cancelled(key).clear()

    def stop(self, key: str) -> None:
        """Ask the running or waiting job to stop."""
        self.store.cancelled(key).set()

    def start_over(self, key: str) -> list[Any]:
        """Show the upload again; the photo stays open until another comes."""
        self.stop(key)
        return self._nothing()

    def make_file(self, key: str, kind: str) -> str | None:
        """Write a download: "mask", "cutout" or "coco"; its path."""
        with self.store.using(key) as work:
            objects = work.finished() if work.is_open else []
            if not objects:
                raise gr.Error("There is no mask yet: click on something first.", print_exception=False)
            target = work.downloads / Path(work.file_name).stem
            try:
                if kind == "coco":
                    content = coco_json(objects, work.file_name, work.image.shape[:2])
                    return str(write_json(content, target.with_name(f"{target.name}_coco.json")))
                if kind == "cutout":
                    active = next((o for o in objects if o.name == work.active.name), objects[0])
                    picture = cut_out(work.image, active.mask)
                    return str(write_image(picture, target.with_name(f"{target.name}_cutout.png")))
                return str(write_image(mask_image(objects), target.with_name(f"{target.name}_mask.png")))
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from error

    def leave(self, key: str) -> None:
        """Forget a visitor's work."""
        self.store.drop(key)

    def _step(self, key: str, act: Callable[[PictureWork], str | None]) -> list[Any]:
        """Run one step on a visitor's work and show the result."""
        with self.store.using(key) as work:
            if not work.is_open:
                gr.Warning("Choose a photo first.")
                return self._nothing()
            try:
                hint = act(work)
            except ValueError as error:
                gr.Warning(str(error))
                hint = None
            return self._refresh(work, hint)

    def _refresh(self, work: PictureWork, hint: str | None) -> list[Any]:
        """Updates for: upload, view, status, objects, candidates, tools."""
        active = work.active
        objects = [(item.name, i) for i, item in enumerate(work.now.objects)]
        candidates = [(f"{i + 1}: sure {iou:.0%}", i) for i, iou in enumerate(active.predicted_iou)]
        several = len(candidates) > 1
        return [
            gr.update(visible="hidden"),
            gr.update(value=work.draw(), visible=True),
            hint if hint is not None else gr.update(),
            gr.update(choices=objects, value=work.now.active),
            gr.update(choices=candidates if several else [], value=active.chosen if several else None, visible=several),
            gr.update(visible=True),
        ]

    @staticmethod
    def _nothing() -> list[Any]:
        """The tab without a photo; same order as `_refresh`."""
        return [
            gr.update(value=None, visible=True),
            gr.update(value=None, visible=False),
            "Choose a photo to begin.",
            gr.update(choices=[], value=None),
            gr.update(choices=[], value=None, visible=False),
            gr.update(visible=False),
        ]


def thumbnails(photos: list[Path]) -> list[list[np.ndarray]]:
    """Small copies for the gallery."""
    return [[thumbnail(read_picture(photo))] for photo in photos]


def build_image_tab(tab: ImageTab, key: gr.State) -> None:
    """Lay the tab out inside the current Blocks and wire it."""
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            upload = PhotoUpload(
                label="Photo", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=420,
                elem_id="image-upload", buttons=[],
            )  # fmt: skip
            view = gr.Image(
                label="Click on the photo", format="jpeg", interactive=False, visible=False, buttons=[],
                elem_id="image-view", show_label=False,
            )  # fmt: skip
            status = gr.Markdown("Choose a photo to begin.", elem_id="image-status")
        with gr.Column(scale=1, min_width=260, visible=False) as tools:
            mode = gr.Radio([ADD, REMOVE, BOX], value=ADD, label="A click will", elem_id="image-mode")
            candidates = gr.Radio([], label="The click is ambiguous; which did you mean?", elem_id="image-candidates")
            with gr.Row():
                undo = gr.Button("Undo", size="sm", elem_id="image-undo", min_width=80)
                clear = gr.Button("Clear", size="sm", elem_id="image-clear", min_width=80)
            objects = gr.Dropdown([], label="Object", elem_id="image-objects", interactive=True)
            new_object = gr.Button("New object", size="sm", elem_id="image-new")
            with gr.Accordion("Segment everything", open=False, elem_id="image-everything"):
                points = gr.Slider(
                    4, 64, value=tab.everything.points_per_side, step=4, label="Clicks per side", elem_id="image-points"
                )
                min_iou = gr.Slider(0, 1, value=tab.everything.min_predicted_iou, step=0.01, label="At least this sure")
                min_stability = gr.Slider(
                    0, 1, value=tab.everything.min_stability, step=0.01, label="At least this stable"
                )
                with gr.Row():
                    find = gr.Button("Segment everything", variant="primary", size="sm", elem_id="image-find")
                    stop = gr.Button("Stop", size="sm", elem_id="image-stop", min_width=60)
            with gr.Group():
                kinds = {
                    kind: gr.Button(label, size="sm", elem_id=f"image-download-{kind}")
                    for kind, label in _DOWNLOADS.items()
                }
            another = gr.Button("Another photo", size="sm", elem_id="image-another")
    gallery = gr.Dataset(
        components=[gr.Image(render=False, type="numpy", format="jpeg")],
        samples=thumbnails(tab.examples),
        type="index",
        layout="gallery",
        label="Or try one of these",
        elem_id="image-examples",
    )
    file = gr.DownloadButton(visible="hidden", elem_id="image-file")

    shown = [upload, view, status, objects, candidates, tools]
    quick: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "multiple", "concurrency_id": "image-clicks"}
    upload.upload(tab.open_picture, [key, upload, mode], shown, show_progress_on=status)
    gallery.click(tab.open_example, [gallery, key, mode], shown, show_progress_on=status)
    view.select(tab.click, [key, mode], shown, concurrency_limit=1, **quick)
    mode.change(tab.change_mode, mode, status, show_progress="hidden")
    candidates.input(tab.choose, [key, candidates], shown, **quick)
    objects.input(tab.select, [key, objects], shown, **quick)
    new_object.click(tab.new_object, key, shown, **quick)
    undo.click(tab.undo, key, shown, **quick)
    clear.click(tab.clear, key, shown, **quick)
    find.click(tab.begin, key, None, queue=False).then(
        tab.find_everything, [key, points, min_iou, min_stability], shown, show_progress_on=status, concurrency_limit=1
    )
    stop.click(tab.stop, key, None, queue=False)
    another.click(tab.start_over, key, shown, show_progress="hidden")
    for kind, button in kinds.items():
        button.click(lambda k, kind=kind: tab.make_file(k, kind), key, file, show_progress="hidden").success(
            None, None, None, js="() => document.querySelector('#image-file').click()"
        )
