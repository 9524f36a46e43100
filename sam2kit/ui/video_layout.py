"""The Video tab on the page: layout first, then the wiring. What happens is in video_tab.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from sam2kit.media.clips import open_clip
from sam2kit.media.drawing import PALETTE
from sam2kit.media.effects import EFFECTS
from sam2kit.ui.tab_parts import ADD, BOX, REMOVE, Untouched, thumbnail
from sam2kit.ui.video_downloads import DOWNLOADS
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
_FETCH = "(file) => { if (file) document.querySelector('#video-file').click(); }"
_MAX_SWATCHES = 64

VIDEO_CSS = """
#video-view img { cursor: crosshair; max-height: 66vh; }
#video-frames { align-items: end; flex-wrap: nowrap; }
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
#video-health .legend { font-size: 12px; opacity: 0.75; }
#video-objects input { position: absolute; opacity: 0; }
#video-objects label:has(input)::before { content: ''; width: 12px; height: 12px; border-radius: 3px; }
""" + "\n".join(
    f'#video-objects label:has(input[value="{i}"])::before {{ background: {PALETTE[i % len(PALETTE)]}; }}'
    for i in range(_MAX_SWATCHES)
)


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


def build_video_tab(tab: VideoTab, key: gr.State) -> None:
    """Lay the tab out inside the current Blocks and wire it."""
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            upload = VideoUpload(label="Video", file_types=VIDEO_TYPES, height=240, elem_id="video-upload", buttons=[])
            view = gr.Image(
                label="Click on the video", format="jpeg", interactive=False, visible=False, buttons=[],
                elem_id="video-view", show_label=False,
            )  # fmt: skip
            status = gr.Markdown(CHOOSE, elem_id="video-status")
            with gr.Column(visible=False) as opened:
                with gr.Row(elem_id="video-frames"):
                    before = gr.Button("◀", size="sm", elem_id="video-before", min_width=44)
                    slider = gr.Slider(0, 1, value=0, step=1, label="Frame", elem_id="video-slider", buttons=[])
                    after = gr.Button("▶", size="sm", elem_id="video-after", min_width=44)
                where = gr.Markdown(elem_id="video-where")
                health = gr.HTML(elem_id="video-health", js_on_load=_CLICK_ON_STRIP)
        with gr.Column(scale=1, min_width=260, visible=False) as tools:
            mode = gr.Radio([ADD, REMOVE, BOX], value=ADD, label="A click will", elem_id="video-mode")
            with gr.Row():
                undo = gr.Button("Undo", size="sm", elem_id="video-undo", min_width=80)
                clear = gr.Button("Clear frame", size="sm", elem_id="video-clear", min_width=80)
            objects = gr.Radio([], label="Object", elem_id="video-objects")
            name = gr.Textbox(label="Its name", max_lines=1, elem_id="video-name")
            with gr.Row():
                new_object = gr.Button("New object", size="sm", elem_id="video-new", min_width=80)
                remove = gr.Button("Remove it", size="sm", elem_id="video-remove", min_width=80)
            with gr.Group():
                track = gr.Button("Track", variant="primary", elem_id="video-track")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="video-stop")
                resume = gr.Button("Go on", visible=False, elem_id="video-resume")
            pace = gr.Markdown(elem_id="video-pace")
            trouble = gr.Button("Next doubtful frame", size="sm", elem_id="video-trouble")
            with gr.Accordion("Track from this frame only", open=False, elem_id="video-from-here"):
                direction = gr.Radio(_DIRECTIONS, value="forward", show_label=False, container=False)
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
                    label="Draft: quicker and coarser; tracks anew", visible=tab.models.has_draft, elem_id="video-draft"
                )
            with gr.Accordion("Effect and downloads", open=False, elem_id="video-downloads"):
                effect = gr.Dropdown(
                    [(says, kind) for kind, says in EFFECTS.items()], value="overlay", label="Effect",
                    elem_id="video-effect",
                )  # fmt: skip
                previews = gr.Checkbox(label="Show it on the picture", elem_id="video-previews")
                labels = gr.Checkbox(label="Write names beside objects", elem_id="video-labels")
                with gr.Group():
                    kinds = {
                        kind: gr.Button(says, size="sm", elem_id=f"video-download-{kind}")
                        for kind, says in DOWNLOADS.items()
                    }
                stop_writing = gr.Button("Stop writing", size="sm", elem_id="video-stop-writing")
            with gr.Accordion("Save for another day", open=False, elem_id="video-sessions"):
                save = gr.Button("Save session file", size="sm", elem_id="video-save")
                load = gr.UploadButton("Open session file of this clip", size="sm", elem_id="video-load")
            another = gr.Button("Another video", size="sm", elem_id="video-another")
    if tab.examples:
        gallery = gr.Dataset(
            components=[gr.Image(render=False, type="numpy", format="jpeg")], samples=clip_thumbnails(tab.examples),
            type="index", layout="gallery", label="Or try one of these", elem_id="video-examples",
        )  # fmt: skip
    file = gr.DownloadButton(visible="hidden", elem_id="video-file")

    shown = list(Page(
        upload, opened, tools, view, slider, where, health, status, track, stop, resume, previews, objects, name,
        first, last, every, draft, pace, shorten,
    ))  # fmt: skip
    saving, tracking = tab.saving, tab.tracking
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    # in the order in which they were made
    quick: dict[str, Any] = {**quiet, "trigger_mode": "multiple", "concurrency_id": "video-clicks"}
    slides: dict[str, Any] = {**quiet, "trigger_mode": "always_last", "concurrency_limit": 4}
    steps: dict[str, Any] = {**quiet, "trigger_mode": "multiple", "concurrency_limit": 4}
    long: dict[str, Any] = {**quiet, "concurrency_limit": 4}

    upload.upload(tab.open_upload, [key, upload], shown, show_progress_on=status, concurrency_limit=4)
    if tab.examples:
        gallery.click(tab.open_example, [gallery, key], shown, show_progress_on=status, concurrency_limit=4)
    load.upload(tab.open_session, [key, load], shown, show_progress_on=status)
    another.click(tab.start_over, key, shown, **quiet)

    slider.input(tab.show_frame, [key, slider], shown, **slides)
    before.click(lambda k: tab.step_frame(k, -1), key, shown, **steps)
    after.click(lambda k: tab.step_frame(k, 1), key, shown, **steps)
    health.jump(tab.jump, key, shown, **steps)
    trouble.click(tab.next_trouble, key, shown, **steps)

    clicked = view.select(tab.click, [key, mode], shown, concurrency_limit=1, **quick)
    clicked.then(tracking.estimate, key, shown, **quiet)
    mode.change(tab.change_mode, mode, status, **quiet)
    undo.click(tab.undo, key, shown, **quick)
    clear.click(tab.clear_frame, key, shown, **quick)
    objects.input(tab.select, [key, objects], shown, **quick)
    gr.on([name.submit, name.blur], tab.rename, [key, objects, name], shown, **quick)
    new_object.click(tab.add_object, key, shown, **quick)
    remove.click(tab.remove_object, key, shown, **quick)

    track.click(tracking.begin, key, None, queue=False).then(tracking.track, key, shown, **long)
    from_here.click(tracking.begin, key, None, queue=False).then(
        tracking.track_from_here, [key, direction], shown, **long
    )
    resume.click(tracking.begin, key, None, queue=False).then(tracking.resume, key, shown, **long)
    stop.click(tracking.stop, key, None, queue=False)
    stop_writing.click(saving.stop, key, None, queue=False)
    part.click(tab.take_part, [key, first, last, every], shown, show_progress_on=status).then(
        tracking.estimate, key, shown, **quiet
    )
    whole.click(tab.take_all, key, shown, show_progress_on=status).then(tracking.estimate, key, shown, **quiet)
    draft.input(tab.change_model, [key, draft], shown, show_progress_on=status).then(
        tracking.estimate, key, shown, **quiet
    )

    effect.input(lambda k, e: tab.show_effect(k, e, True), [key, effect], shown, **quiet)
    previews.input(tab.show_effect, [key, effect, previews], shown, **quiet)
    for kind, button in kinds.items():

        def write(k: str, e: str, named: bool, kind: str = kind):  # noqa: ANN202
            yield from saving.make_file(k, kind, e, named)

        button.click(write, [key, effect, labels], [file, status], **long).success(None, file, None, js=_FETCH)
    save.click(saving.make_session_file, key, [file, status], **quiet).success(None, file, None, js=_FETCH)
