"""The Image tab on the page: layout first, then the wiring. What happens is in image_tab.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from sam2kit.media.pictures import read_picture
from sam2kit.ui.image_page import CHOOSE, ImagePage
from sam2kit.ui.image_tab import DOWNLOADS, ImageTab
from sam2kit.ui.object_list import candidate_keys, candidate_pictures, object_list
from sam2kit.ui.surface import click_surface
from sam2kit.ui.tab_parts import ADD, BOX, REMOVE, Untouched, fetched, hidden_file, plain_view, thumbnail

_KEYS = {
    "u": ("#image-undo", "undo"),
    "n": ("#image-new", "new object"),
    **candidate_keys("image-candidates"),
    "d": ("#image-download-mask", "download the mask"),
}


class PhotoUpload(Untouched, gr.Image):
    """An image upload that hands over the untouched file."""

    def get_block_name(self) -> str:
        """Gradio finds the front end by this name."""
        return "image"


def thumbnails(photos: list[Path]) -> list[list[np.ndarray]]:
    """Small copies for the gallery."""
    return [[thumbnail(read_picture(photo))] for photo in photos]


def build_image_tab(tab: ImageTab, key: gr.State) -> list[Any]:
    """Lay the tab out inside the current Blocks and wire it; returns what an ImagePage updates."""
    everything = tab.networks.base.everything
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            upload = PhotoUpload(
                label="Photo", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=420,
                elem_id="image-upload", buttons=[],
            )  # fmt: skip
            view: gr.Image | gr.HTML
            if tab.plain:
                view = plain_view("Click on the photo", "image-view")
            else:
                view = click_surface(
                    tab.ask, tab.preview, name="image-view", label="The photo; click on things", keys=_KEYS
                )
            status = gr.Markdown(CHOOSE, elem_id="image-status")
        with gr.Column(scale=1, min_width=260, visible=False, elem_id="image-tools") as tools:
            mode = gr.Radio(
                [ADD, REMOVE, BOX], value=ADD, label="A click will", elem_id="image-mode", visible=tab.plain
            )
            candidates = candidate_pictures("image-candidates")
            objects = object_list("image-objects")
            with gr.Row():
                new_object = gr.Button("New object", size="sm", elem_id="image-new", min_width=80)
                undo = gr.Button("Undo", size="sm", elem_id="image-undo", min_width=60)
                clear = gr.Button("Clear all", size="sm", elem_id="image-clear", min_width=60)
            with gr.Accordion("Segment everything", open=False, elem_id="image-everything"):
                points = gr.Slider(
                    4, 64, value=everything.points_per_side, step=4, label="Points per side", elem_id="image-points",
                    buttons=[],
                )  # fmt: skip
                min_iou, min_stability = (
                    gr.Slider(0, 1, value=least, step=0.01, label=label, buttons=[])
                    for label, least in (
                        ("Min. predicted IoU", everything.min_predicted_iou),
                        ("Min. stability score", everything.min_stability),
                    )
                )
                with gr.Row():
                    find = gr.Button("Segment everything", variant="primary", size="sm", elem_id="image-find")
                    stop = gr.Button("Stop", size="sm", elem_id="image-stop", min_width=60, interactive=False)
                progress = gr.HTML(elem_id="image-progress", apply_default_css=False)
            with gr.Accordion("Download", open=True, elem_id="image-downloads"), gr.Group():
                kinds = {
                    kind: gr.Button(label, size="sm", elem_id=f"image-download-{kind}")
                    for kind, label in DOWNLOADS.items()
                }
            another = gr.Button("Another photo", size="sm", elem_id="image-another")
    with gr.Row():
        gallery = gr.Dataset(
            components=[gr.Image(render=False, type="numpy", format="jpeg")], samples=thumbnails(tab.examples),
            type="index", layout="gallery", label="Or try one of these", elem_id="image-examples",
        )  # fmt: skip
        load = gr.UploadButton(
            "Open a saved session", size="sm", elem_id="image-load", file_types=[".safetensors"], scale=0, min_width=190
        )
    files = {kind: hidden_file(f"image-file-{kind}") for kind in kinds}

    shown = list(ImagePage(upload, view, status, objects, candidates, tools, find, stop, progress))
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "undocumented"}
    # in the order in which they were made
    quick: dict[str, Any] = {**quiet, "trigger_mode": "multiple", "concurrency_id": "image-clicks"}
    opening: dict[str, Any] = {"show_progress_on": status, "api_visibility": "undocumented", "concurrency_limit": None}
    upload.upload(tab.open_picture, [key, upload], shown, api_name="image_open", **opening)
    gallery.click(tab.open_example, [gallery, key], shown, api_name="image_example", **opening)
    load.upload(tab.open_session, [key, load], shown, api_name="image_load", **opening)
    if isinstance(view, gr.Image):
        view.select(tab.click, [key, mode], shown, concurrency_limit=None, **quick)
        mode.change(tab.change_mode, mode, status, **quiet)
    else:
        view.answered(tab.answered, key, shown, concurrency_limit=None, **{**quick, "trigger_mode": "always_last"})
    candidates.choose(tab.choose, key, shown, **quick)
    objects.pick(tab.pick, key, shown, **quick)
    objects.rename(tab.rename, key, shown, **quick)
    objects.drop(tab.drop, key, shown, **quick)
    new_object.click(tab.new_object, key, shown, api_name="image_new", **quick)
    undo.click(tab.undo, key, shown, api_name="image_undo", **quick)
    clear.click(tab.clear, key, shown, api_name="image_clear", **quick)
    find.click(tab.begin, key, None, queue=False, api_visibility="undocumented", api_name="image_begin").then(
        tab.find_everything, [key, points, min_iou, min_stability], shown, show_progress="hidden",
        concurrency_limit=None, api_visibility="undocumented", api_name="image_everything",
    )  # fmt: skip
    stop.click(tab.stop, key, None, queue=False, api_visibility="private")
    another.click(tab.start_over, key, shown, **quiet)
    for kind, button in kinds.items():
        made = button.click(
            lambda k, kind=kind: tab.make_file(k, kind), key, files[kind], api_name=f"image_{kind}", **quiet
        )
        fetched(made, files[kind])
    return shown
