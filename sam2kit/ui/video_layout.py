"""The Video tab on the page: layout first, then the wiring. What happens is in video_tab.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from sam2kit.media.clips import open_clip
from sam2kit.media.effects import BACKGROUND_EFFECTS, EFFECTS, OBJECT_EFFECTS, ORIGINAL
from sam2kit.ui.object_list import object_list
from sam2kit.ui.surface import click_surface
from sam2kit.ui.tab_parts import ADD, BOX, REMOVE, Untouched, fetched, hidden_file, plain_view, thumbnail
from sam2kit.ui.video_downloads import ALL_OBJECTS, DOWNLOADS
from sam2kit.ui.video_page import CHOOSE, Page
from sam2kit.ui.video_tab import VideoTab

VIDEO_TYPES = ["video", ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif", ".3gp", ".mts", ".ts"]
UNTRAINED = "These weights only know pictures; start the app with a video model, such as sam2.1-hiera-tiny, to track."
_DIRECTIONS = [("On to the end", "forward"), ("Back to the beginning", "backward"), ("Both", "both")]
_CLICK_ON_STRIP = """
element.addEventListener('click', (e) => {
  const bars = e.target.closest('.bars');
  if (!bars) return;
  const box = bars.getBoundingClientRect();
  trigger('jump', { share: (e.clientX - box.left) / box.width });
});
"""
_KEYS = {
    "u": ("#video-undo", "undo"),
    "n": ("#video-new", "new object"),
    "ArrowLeft": ("#video-before", "frame back"),
    "ArrowRight": ("#video-after", "frame on"),
    " ": ("#video-play", "play or pause"),
    "t": ("#video-track, #video-stop", "track or stop"),
    "d": ("#video-trouble", "next uncertain frame"),
}

_BELOW = 284  # pixels below the picture: its hint, the status, the slider, and the rows of four objects

VIDEO_CSS = """
#video-view img { cursor: crosshair; max-height: 66vh; }
#video-left, #video-opened { gap: 6px; }
#video-frames { align-items: center; flex-wrap: nowrap; gap: 6px; }
#video-slider { padding: 2px 8px !important; }
#video-frames > button { flex: 0 0 44px; min-width: 44px !important; }
#video-frames > .block { min-width: 0 !important; }
#video-where p, #video-status p { margin: 0; }
#video-health .row { display: flex; align-items: center; gap: 8px; margin: 3px 0; }
#video-health .name { flex: 0 0 92px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; font-size: 13px; }
#video-health .name i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
#video-health .bars { position: relative; flex: 1; height: 22px; cursor: pointer; border-radius: 3px;
  background: color-mix(in srgb, var(--body-text-color) 9%, transparent); }
#video-health .bars img { position: absolute; inset: 0; width: 100%; height: 100%; max-width: none; margin: 0;
  image-rendering: pixelated; }
#video-health .bars b { position: absolute; top: 0; transform: translateX(-50%); font-size: 11px; line-height: 22px;
  color: var(--body-text-color); text-shadow: 0 0 2px var(--body-background-fill); }
#video-health .bars u { position: absolute; top: -3px; bottom: -3px; width: 2px; margin-left: -1px;
  background: var(--body-text-color); }
#video-health .rows { max-height: 112px; overflow-y: auto; }
#video-health .legend { font-size: 12px; opacity: 0.75; }
"""


class VideoUpload(Untouched, gr.File):
    """An upload that hands over the untouched file."""

    def get_block_name(self) -> str:
        """Gradio finds the front end by this name."""
        return "file"


def clip_thumbnails(clips: list[Path]) -> list[list[np.ndarray]]:
    """A small picture from the middle of each clip."""
    small = []
    for path in clips:
        with open_clip(path) as clip:
            small.append([thumbnail(clip.frame(len(clip) // 2))])
    return small


def build_video_tab(tab: VideoTab, key: gr.State) -> list[Any]:
    """Lay the tab out inside the current Blocks and wire it; returns what a Page updates."""
    with gr.Row():
        with gr.Column(scale=3, min_width=320, elem_id="video-left"):
            upload = VideoUpload(label="Video", file_types=VIDEO_TYPES, height=240, elem_id="video-upload", buttons=[])
            view: gr.Image | gr.HTML
            if tab.plain:
                view = plain_view("Click on the video", "video-view")
            else:
                view = click_surface(
                    tab.ask, name="video-view", label="The video; click on things", keys=_KEYS, below=_BELOW
                )
            status = gr.Markdown(CHOOSE, elem_id="video-status")
            with gr.Column(visible=False, elem_id="video-opened") as opened:
                with gr.Row(elem_id="video-frames"):
                    play = gr.Button("▶", size="sm", elem_id="video-play", min_width=44)
                    before = gr.Button("◂", size="sm", elem_id="video-before", min_width=44)
                    slider = gr.Slider(0, 1, value=0, step=1, label="Frame", elem_id="video-slider", buttons=[])
                    after = gr.Button("▸", size="sm", elem_id="video-after", min_width=44)
                where = gr.Markdown(elem_id="video-where")
                health = gr.HTML(elem_id="video-health", js_on_load=_CLICK_ON_STRIP)
        with gr.Column(scale=1, min_width=260, visible=False, elem_id="video-tools") as tools:
            mode = gr.Radio(
                [ADD, REMOVE, BOX], value=ADD, label="A click will", elem_id="video-mode", visible=tab.plain
            )
            objects = object_list("video-objects")
            with gr.Row():
                new_object = gr.Button("New object", size="sm", elem_id="video-new", min_width=80)
                undo = gr.Button("Undo", size="sm", elem_id="video-undo", min_width=60)
            with gr.Row():
                clear = gr.Button("Clear frame", size="sm", elem_id="video-clear", min_width=80)
                restart = gr.Button("Clear all", size="sm", elem_id="video-restart", min_width=60)
            with gr.Group():
                track = gr.Button("Track", variant="primary", elem_id="video-track")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="video-stop")
                resume = gr.Button("Go on", visible=False, elem_id="video-resume")
            pace = gr.Markdown(elem_id="video-pace")
            trouble = gr.Button("Next uncertain frame", size="sm", elem_id="video-trouble")
            with gr.Accordion("Track from this frame only", open=False, elem_id="video-from-here"):
                direction = gr.Radio(_DIRECTIONS, value="forward", label="Which way", elem_id="video-direction")
                from_here = gr.Button("Track from here", size="sm", elem_id="video-track-here")
            with gr.Accordion("Shorten the clip", open=False, elem_id="video-shorten") as shorten:
                with gr.Row():
                    first = gr.Number(0, label="First", precision=0, minimum=0, min_width=90, elem_id="video-first")
                    last = gr.Number(0, label="Last", precision=0, minimum=0, min_width=90, elem_id="video-last")
                    every = gr.Number(1, label="Every", precision=0, minimum=1, min_width=60, elem_id="video-every")
                with gr.Row():
                    part = gr.Button("Use this part", size="sm", elem_id="video-part", min_width=100)
                    whole = gr.Button("All frames", size="sm", elem_id="video-whole", min_width=80)
                draft = gr.Checkbox(
                    label="Draft: quicker and coarser; tracks anew", elem_id="video-draft",
                    visible=bool(tab.networks.base.videos and tab.networks.base.videos.has_draft),
                )  # fmt: skip
            with gr.Accordion("Effects and downloads", open=False, elem_id="video-downloads"):
                effect = gr.Dropdown(_choices(OBJECT_EFFECTS), value="overlay", label="Objects", elem_id="video-effect")
                ground = gr.Dropdown(
                    _choices(BACKGROUND_EFFECTS), value=ORIGINAL, label="Background", elem_id="video-background"
                )
                previews = gr.Checkbox(label="Show it on the picture", elem_id="video-previews")
                labels = gr.Checkbox(label="Write names beside objects", elem_id="video-labels")
                with gr.Group():
                    kinds = {
                        kind: gr.Button(says, size="sm", elem_id=f"video-download-{kind}")
                        for kind, says in DOWNLOADS.items()
                    }
                writing = gr.Markdown(ALL_OBJECTS, elem_id="video-writing")
                stop_writing = gr.Button("Stop writing", size="sm", elem_id="video-stop-writing")
            with gr.Accordion("Save for another day", open=False, elem_id="video-sessions"):
                save = gr.Button("Save session file", size="sm", elem_id="video-save")
                load = gr.UploadButton("Open session file of this clip", size="sm", elem_id="video-load")
            another = gr.Button("Another video", size="sm", elem_id="video-another")
    gallery = None
    if tab.examples:
        gallery = gr.Dataset(
            components=[gr.Image(render=False, type="numpy", format="jpeg")], samples=clip_thumbnails(tab.examples),
            type="index", layout="gallery", label="Or try one of these", elem_id="video-examples",
        )  # fmt: skip
    files = {kind: hidden_file(f"video-file-{kind}") for kind in (*kinds, "session")}

    shown = list(Page(
        upload, opened, tools, view, slider, where, health, status, track, stop, resume, play, previews, objects,
        first, last, every, draft, pace, shorten, writing,
    ))  # fmt: skip
    saving, tracking, playing = tab.saving, tab.tracking, tab.playing
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "undocumented", "concurrency_limit": None}
    # in the order in which they were made
    quick: dict[str, Any] = {**quiet, "trigger_mode": "multiple", "concurrency_id": "video-clicks"}
    slides: dict[str, Any] = {**quiet, "trigger_mode": "always_last"}
    steps: dict[str, Any] = {**quiet, "trigger_mode": "multiple"}
    opening: dict[str, Any] = {**quiet, "show_progress": "full", "show_progress_on": status}
    unqueued: dict[str, Any] = {"queue": False, "api_visibility": "private"}

    upload.upload(tab.open_upload, [key, upload], shown, api_name="video_open", **opening)
    if gallery is not None:
        gallery.click(tab.open_example, [gallery, key], shown, api_name="video_example", **opening)
    load.upload(tab.open_session, [key, load], shown, api_name="video_load", **opening)
    another.click(tab.start_over, key, shown, **quiet)

    slider.input(tab.show_frame, [key, slider], shown, api_name="video_frame", **slides)
    before.click(lambda k: tab.step_frame(k, -1), key, shown, **steps)
    after.click(lambda k: tab.step_frame(k, 1), key, shown, **steps)
    play.click(playing.play, key, shown, **steps)
    health.jump(tab.jump, key, shown, **steps)
    trouble.click(tab.next_trouble, key, shown, **steps)

    if isinstance(view, gr.Image):
        clicked = view.select(tab.click, [key, mode], shown, **quick)
        mode.change(tab.change_mode, mode, status, **quiet)
    else:
        clicked = view.answered(tab.answered, key, shown, **{**quick, "trigger_mode": "always_last"})
    clicked.then(tracking.estimate, key, shown, **quiet)
    undo.click(tab.undo, key, shown, **quick)
    clear.click(tab.clear_frame, key, shown, **quick)
    restart.click(tab.restart, key, shown, **quick)
    objects.pick(tab.pick, key, shown, **quick)
    objects.rename(tab.rename, key, shown, **quick)
    objects.drop(tab.drop, key, shown, **quick)
    new_object.click(tab.add_object, key, shown, **quick)

    track.click(tracking.begin, key, None, queue=False, api_visibility="undocumented", api_name="video_begin").then(
        tracking.track, key, shown, api_name="video_track", **quiet
    )
    from_here.click(tracking.begin, key, None, **unqueued).then(
        tracking.track_from_here, [key, direction], shown, **quiet
    )
    resume.click(tracking.begin, key, None, **unqueued).then(tracking.resume, key, shown, **quiet)
    stop.click(tracking.stop, key, None, **unqueued)
    stop_writing.click(saving.stop, key, None, **unqueued)
    for button, act, given in (
        (part, tab.take_part, [key, first, last, every]), (whole, tab.take_all, [key]),
    ):  # fmt: skip
        button.click(act, given, shown, **opening).then(tracking.estimate, key, shown, **quiet)
    draft.input(tab.change_model, [key, draft], shown, **opening).then(tracking.estimate, key, shown, **quiet)

    gr.on(
        [effect.input, ground.input], lambda k, e, g: tab.show_effect(k, e, g, True), [key, effect, ground], shown,
        **quiet,
    )  # fmt: skip
    previews.input(tab.show_effect, [key, effect, ground, previews], shown, **quiet)
    for kind, button in kinds.items():

        def write(k: str, e: str, g: str, named: bool, kind: str = kind) -> Iterator[tuple[Any, Any]]:
            yield from saving.make_file(k, kind, e, g, named)

        given = [key, effect, ground, labels]
        made = button.click(write, given, [files[kind], writing], api_name=f"video_{kind}", **quiet)
        fetched(made, files[kind])
    saved = save.click(saving.make_session_file, key, [files["session"], status], api_name="video_session", **quiet)
    fetched(saved, files["session"])
    return shown


def _choices(effects: dict[str, str]) -> list[tuple[str, str]]:
    return [(says, kind) for kind, says in {ORIGINAL: EFFECTS[ORIGINAL], **effects}.items()]
