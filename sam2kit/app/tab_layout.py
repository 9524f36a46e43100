"""The Image and the Video tab on the page: one layout first, then the wiring. What happens is in tab.py.

Both have all parts; those that only a picture or only a clip needs are invisible in the other tab, and not on its page.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from sam2kit.app.components import (
    PhotoUpload,
    VideoUpload,
    click_canvas,
    fetched,
    follow,
    hidden_file,
    objects_and_candidates,
    thumbnails,
)
from sam2kit.app.downloads import CLIP_FILES, PICTURE_FILES
from sam2kit.app.editor import GESTURES
from sam2kit.app.page import CHOOSE, Page
from sam2kit.app.tab import ClickTab
from sam2kit.app.timeline import SCRIPT
from sam2kit.app.work import Writing
from sam2kit.media.effects import BACKGROUND_EFFECTS, EFFECTS, OBJECT_EFFECTS, ORIGINAL
from sam2kit.predict.alike import AlikeOptions

UNTRAINED = "These weights only know pictures; start the app with a video model, such as sam2.1-hiera-tiny, to track."
VIDEO_TYPES = ["video", ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif", ".3gp", ".mts", ".ts"]
_DIRECTIONS = [("On to the end", "forward"), ("Back to the beginning", "backward"), ("Both", "both")]
_BELOW = 320  # pixels below the frame of a clip: hint, status, slider, rows of four objects, and where help is wanted


def build_click_tab(tab: ClickTab, key: gr.State) -> list[Any]:
    """Lay the tab out inside the current Blocks and wire it; returns what a Page updates."""
    name, clip = tab.name, tab.is_video
    everything = tab.models.base.everything

    def button(label: str, what: str, **more: Any) -> gr.Button:
        return gr.Button(label, **{"size": "sm", "elem_id": f"{name}-{what}", "min_width": 60, **more})

    with gr.Row():
        with gr.Column(scale=3, min_width=320, elem_id=f"{name}-left"):
            upload = _upload(tab)
            view = click_canvas(
                tab.ask, tab.preview, name=name, label=f"The {'video' if clip else 'photo'}; click on things",
                keys=_keys(tab), below=_BELOW if clip else 0,
            )  # fmt: skip
            status = gr.Markdown(CHOOSE[name], elem_id=f"{name}-status")
            with gr.Column(visible=False, elem_id=f"{name}-opened") as opened:
                with gr.Row(elem_id=f"{name}-frames"):
                    play = button("▶", "play", min_width=44)
                    before = button("◂", "before", min_width=44)
                    slider = gr.Slider(0, 1, value=0, step=1, label="Frame", elem_id=f"{name}-slider", buttons=[])
                    after = button("▸", "after", min_width=44)
                where = gr.Markdown(elem_id=f"{name}-where")
                timeline = gr.HTML(elem_id=f"{name}-timeline", js_on_load=SCRIPT)
        with gr.Column(scale=1, min_width=260, visible=False, elem_id=f"{name}-tools") as tools:
            objects_and_candidates(name)
            with gr.Row():
                new_object = button("New object", "new", min_width=80)
                undo = button("Undo", "undo")
            with gr.Row():
                clear_frame = button("Clear frame", "clear-frame", min_width=80, visible=clip)
                clear = button("Clear all", "clear")
            with gr.Group(visible=clip):
                track = button("Track", "track", size="lg", variant="primary")
                stop = button("Stop", "stop", size="lg", variant="stop", visible=False)
                resume = button("Go on", "resume", size="lg", visible=False)
            estimate = gr.Markdown(elem_id=f"{name}-estimate", visible=clip)
            uncertain = button("Next uncertain frame", "uncertain", visible=clip)
            with gr.Accordion("Track from this frame only", open=False, elem_id=f"{name}-from-here", visible=clip):
                direction = gr.Radio(_DIRECTIONS, value="forward", label="Which way", elem_id=f"{name}-direction")
                from_here = button("Track from here", "track-here")
            with gr.Accordion("Shorten the clip", open=False, elem_id=f"{name}-shorten", visible=clip) as shorten:
                with gr.Row():
                    first, last, every = (
                        gr.Number(
                            least, label=what.capitalize(), precision=0, minimum=least, min_width=60,
                            elem_id=f"{name}-{what}",
                        )
                        for what, least in (("first", 0), ("last", 0), ("every", 1))
                    )  # fmt: skip
                with gr.Row():
                    part, whole = button("Use this part", "part", min_width=100), button("All frames", "whole")
                draft = gr.Checkbox(
                    label="Draft: quicker and coarser; tracks anew", elem_id=f"{name}-draft",
                    visible=tab.models.base.has_draft,
                )  # fmt: skip
            with gr.Accordion("Masks", open=False, elem_id=f"{name}-masks"):
                keep_clicked = gr.Checkbox(label="Keep only the part that was clicked", elem_id=f"{name}-keep-clicked")
                holes, specks, grow, feather = (
                    gr.Slider(least, most, value=0, step=step, label=label, elem_id=f"{name}-{what}", buttons=[])
                    for what, label, least, most, step in (
                        ("holes", "Fill holes up to", 0, 400, 4),
                        ("specks", "Remove specks up to", 0, 400, 4),
                        ("grow", "Grow or shrink, px", -20, 20, 0.5),
                        ("feather", "Feather cut-outs, px", 0, 40, 0.5),
                    )
                )
                with gr.Row(visible=not clip):
                    refine = button("Refine edges", "refine")
                    stop_refine = button("Stop", "stop-refine", interactive=False)
                exclusive = gr.Checkbox(label="No pixel belongs to two objects", elem_id=f"{name}-exclusive")
                careful = gr.Checkbox(
                    label="Careful tracking: for look-alikes and long absences", elem_id=f"{name}-careful", visible=clip
                )
            with gr.Accordion(
                "Find all, or alike" if clip else "Find all, alike or everything",
                open=False,
                elem_id=f"{name}-everything",
            ):
                find_all = button("Find all", "find-all", variant="primary")
                alike, most = (
                    gr.Slider(least, top, value=value, step=step, label=label, elem_id=f"{name}-{what}", buttons=[])
                    for what, label, least, top, value, step in (
                        ("alike", "At least as alike as", 0, 1, AlikeOptions().least, 0.01),
                        ("most", "At most so many", 1, 200, AlikeOptions().most, 1),
                    )
                )
                find_alike = button("Find alike", "find-alike", variant="primary")
                with gr.Column(visible=not clip):
                    points = gr.Slider(
                        4, 64, value=everything.points_per_side, step=4, label="Points per side",
                        elem_id=f"{name}-points", buttons=[],
                    )  # fmt: skip
                    min_iou, min_stability = (
                        gr.Slider(0, 1, value=least, step=0.01, label=label, buttons=[])
                        for label, least in (
                            ("Min. predicted IoU", everything.min_predicted_iou),
                            ("Min. stability score", everything.min_stability),
                        )
                    )
                    find = button("Segment everything", "find", variant="primary")
                stop_find = button("Stop", "stop-find", interactive=False)
                progress = gr.HTML(elem_id=f"{name}-progress", apply_default_css=False)
            with gr.Accordion(
                "Effects and downloads" if clip else "Download", open=not clip, elem_id=f"{name}-downloads"
            ):
                effect = gr.Dropdown(
                    _choices(OBJECT_EFFECTS), value="overlay", label="Objects", elem_id=f"{name}-effect", visible=clip
                )
                ground = gr.Dropdown(
                    _choices(BACKGROUND_EFFECTS), value=ORIGINAL, label="Background", elem_id=f"{name}-background",
                    visible=clip,
                )  # fmt: skip
                previews = gr.Checkbox(label="Show it on the picture", elem_id=f"{name}-previews", visible=clip)
                labels = gr.Checkbox(label="Write names beside objects", elem_id=f"{name}-labels", visible=clip)
                with gr.Group():
                    kinds = CLIP_FILES if clip else PICTURE_FILES
                    makers = {kind: button(label, f"download-{kind}") for kind, label in kinds.items()}
                    save = button("Session, to go on another day", "download-session")
                writing = gr.Markdown(Writing().text, elem_id=f"{name}-writing", visible=clip)
                stop_writing = button("Stop writing", "stop-writing", visible=clip)
            another = button(f"Another {'video' if clip else 'photo'}", "another")
    with gr.Row():
        gallery = gr.Dataset(
            components=[gr.Image(render=False, type="numpy", format="jpeg")], samples=thumbnails(tab.examples) or [[]],
            type="index", layout="gallery", label="Or try one of these", elem_id=f"{name}-examples",
            visible=bool(tab.examples),
        )  # fmt: skip
        with gr.Column(scale=0, min_width=210):
            load, masks = (
                gr.UploadButton(label, size="sm", elem_id=f"{name}-{what}", file_types=types)
                for label, what, types in (
                    ("Open a saved session" + (" of this clip" if clip else ""), "load", [".safetensors"]),
                    ("Take masks from a file", "take-masks", ["image"]),  # also what is dropped on the canvas
                )
            )
    files = {kind: hidden_file(f"{name}-file-{kind}") for kind in (*kinds, "session")}

    parts = Page(
        upload, tools, opened, view, status, slider, where, timeline, track, stop, resume, play, previews, first, last,
        every, draft, estimate, shorten, writing, find, stop_find, stop_refine, progress,
        keep_clicked, holes, specks, grow, feather, exclusive, careful, effect, ground,
    )  # fmt: skip
    shown = list(parts)
    jobs, downloads = tab.jobs, tab.downloads
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "undocumented", "concurrency_limit": None}
    steps: dict[str, Any] = {**quiet, "trigger_mode": "multiple"}
    quick: dict[str, Any] = {**steps, "concurrency_id": f"{name}-clicks", "concurrency_limit": 1}  # one after the other
    opening: dict[str, Any] = {**quiet, "show_progress": "full", "show_progress_on": status}
    unqueued: dict[str, Any] = {"queue": False, "api_visibility": "undocumented"}

    upload.upload(tab.open_upload, [key, upload], shown, api_name=f"{name}_open", **opening)
    gallery.click(tab.open_example, [gallery, key], shown, api_name=f"{name}_example", **opening)
    load.upload(tab.open_session, [key, load], shown, api_name=f"{name}_load", **opening)
    masks.upload(tab.take_masks, [key, masks], shown, api_name=f"{name}_take_masks", **steps)
    another.click(tab.start_over, key, shown, **quiet)

    follow(view, name, parts.following)
    view.measure(jobs.estimate, key, shown, trigger_mode="always_last", **quiet)  # one more object meanwhile
    for what in GESTURES:
        getattr(view, what)(_gesture(tab, what), key, shown, **quick)
    for press, what in ((new_object, "new"), (undo, "undo"), (clear, "clear"), (clear_frame, "clear_frame")):
        press.click(partial(tab.edit, what=what), key, shown, api_name=f"{name}_{what}", **quick)

    slider.input(
        tab.show_frame, [key, slider], shown, api_name=f"{name}_frame", **{**quiet, "trigger_mode": "always_last"}
    )
    before.click(partial(tab.step_frame, by=-1), key, shown, **steps)
    after.click(partial(tab.step_frame, by=1), key, shown, **steps)
    play.click(jobs.play, key, shown, **steps)
    timeline.jump(tab.jump, key, shown, **steps)
    uncertain.click(tab.next_uncertain, key, shown, **steps)

    for press, job, given, called in (
        (track, jobs.track, [key], "track"), (from_here, jobs.track_from_here, [key, direction], "track_here"),
        (resume, jobs.resume, [key], "resume"),
        (find, jobs.find_everything, [key, points, min_iou, min_stability], "everything"),
        (find_all, jobs.find_all, key, "detect"),
        (find_alike, jobs.find_alike, [key, most, alike], "alike"),
        (refine, jobs.refine, key, "refine"),
    ):  # fmt: skip
        begun = press.click(jobs.begin, key, None, api_name=f"{name}_begin_{called}", **unqueued)
        begun.then(job, given, shown, api_name=f"{name}_{called}", **quiet)
    for press in (stop, stop_find, stop_refine):
        press.click(jobs.stop, key, None, **unqueued)
    for changed in (
        part.click(tab.take_part, [key, first, last, every], shown, **opening),
        whole.click(partial(tab.take_part, first=0, last=-1, every=1), key, shown, **opening),
        draft.input(tab.take_draft, [key, draft], shown, **opening),
    ):
        changed.then(jobs.estimate, key, shown, **quiet)

    gr.on(
        [effect.input, ground.input], lambda k, e, g: tab.show_effect(k, e, g, True), [key, effect, ground], shown,
        **quiet,
    )  # fmt: skip
    boxes, sliders = (keep_clicked, exclusive, careful), (holes, specks, grow, feather)
    gr.on(
        [*(part.input for part in boxes), *(part.input for part in sliders)], tab.clean,
        [key, careful, keep_clicked, holes, specks, grow, feather, exclusive], shown,
        **{**quiet, "trigger_mode": "always_last"},
    )  # fmt: skip
    previews.input(tab.show_effect, [key, effect, ground, previews], shown, **quiet)
    stop_writing.click(downloads.stop_writing, key, None, **unqueued)
    for kind, press in makers.items():
        file = files[kind]
        write: Callable[..., Any] = downloads.clip_file if clip else downloads.picture_file
        inputs: list[Any] = [key, effect, ground, labels] if clip else [key]
        updated: list[Any] = [file, writing] if clip else [file]
        fetched(press.click(partial(write, kind), inputs, updated, api_name=f"{name}_{kind}", **quiet), file)
    saved = save.click(downloads.session_file, key, [files["session"], status], api_name=f"{name}_session", **quiet)
    fetched(saved, files["session"])
    return shown


def _gesture(tab: ClickTab, what: str) -> Callable[[str, gr.EventData], Page]:
    def act(key: str, event: gr.EventData) -> Page:  # Gradio looks for these types
        return tab.gesture(key, what, event)

    return act


def _upload(tab: ClickTab) -> PhotoUpload | VideoUpload:
    if tab.is_video:
        return VideoUpload(label="Video", file_types=VIDEO_TYPES, height=240, elem_id="video-upload", buttons=[])
    return PhotoUpload(
        label="Photo", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=420,
        elem_id="image-upload", buttons=[],
    )  # fmt: skip


def _keys(tab: ClickTab) -> dict[str, tuple[str, str]]:
    name = tab.name
    keys = {"u": (f"#{name}-undo", "undo"), "n": (f"#{name}-new", "new object")}
    if not tab.is_video:
        return keys | {"d": ("#image-download-mask", "download the mask")}
    return keys | {
        "ArrowLeft": ("#video-before", "frame back"),
        "ArrowRight": ("#video-after", "frame on"),
        " ": ("#video-play", "play or pause"),
        "t": ("#video-track, #video-stop", "track or stop"),
        "d": ("#video-uncertain", "next uncertain frame"),
    }


def _choices(effects: dict[str, str]) -> list[tuple[str, str]]:
    return [(label, kind) for kind, label in {ORIGINAL: EFFECTS[ORIGINAL], **effects}.items()]
