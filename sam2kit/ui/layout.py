"""The page around the tabs: title, banner, look; and the small script that makes paste and drop work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr

from sam2kit.config import NANO
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticOptions
from sam2kit.predict.image import ImageOptions, ImagePredictor
from sam2kit.ui.health import HealthLimits
from sam2kit.ui.image_tab import ImageTab, build_image_tab
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.video_layout import UNTRAINED, VIDEO_CSS, build_video_tab
from sam2kit.ui.video_models import VideoModels
from sam2kit.ui.video_tab import VideoTab
from sam2kit.ui.video_work import VideoWork

_CSS = """
.gradio-container { width: 100% !important; max-width: 1400px !important; margin: auto; }
#image-view img { cursor: crosshair; max-height: 72vh; }
#banner { border-left: 4px solid #E69F00; padding-left: 12px; }
"""

# Ctrl+V anywhere, and a file dropped anywhere: a photo goes to the Image tab, a video to the Video tab
_HEAD = """
<script>
(() => {
  const photo = /\\.(jpe?g|png|webp|bmp|tiff?|heic|heif|gif)$/i;
  const video = /\\.(mp4|mov|m4v|mkv|webm|avi|3gp|mts|m2ts)$/i;
  const show = (title) => {
    const tab = [...document.querySelectorAll('button[role=tab]')].find((b) => b.textContent.trim() === title);
    if (tab) tab.click();
  };
  const hand = (file, place, tries) => {  // a tab's parts come to the page when it is shown for the first time
    const input = document.querySelector('#' + place + '-upload input[type=file]');
    if (!input) {
      if (tries) setTimeout(() => hand(file, place, tries - 1), 100);
      return;
    }
    const box = new DataTransfer();
    box.items.add(file);
    input.files = box.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  };
  const give = (files) => {
    const isOf = (f, kind, name) => f.type.startsWith(kind + '/') || name.test(f.name);
    const found = [...(files || [])].find((f) => isOf(f, 'image', photo) || isOf(f, 'video', video));
    if (!found) return false;
    const isVideo = isOf(found, 'video', video);
    show(isVideo ? 'Video' : 'Image');
    hand(found, isVideo ? 'video' : 'image', 50);
    return true;
  };
  document.addEventListener('paste', (e) => {
    const t = e.target;
    const typing = t.matches && t.matches('textarea, input:not([type=radio]):not([type=checkbox])');
    if (!typing && give(e.clipboardData && e.clipboardData.files)) e.preventDefault();
  });
  document.addEventListener('dragover', (e) => e.preventDefault());
  document.addEventListener('drop', (e) => {
    if (e.target.closest('#image-upload, #video-upload')) return;
    e.preventDefault();
    give(e.dataTransfer && e.dataTransfer.files);
  });
})();
</script>
"""


# where the sliders of "segment everything" start: half of the published grid, for a wait that people accept
_EVERYTHING = AutomaticOptions(points_per_side=16)
# nano is less sure of itself, its edges are less steady, and it leaves crumbs
_EVERYTHING_NANO = AutomaticOptions(points_per_side=16, min_predicted_iou=0.5, min_stability=0.7, min_region_area=8)
_HEALTH_NANO = HealthLimits(min_iou=0.4)
_CRUMBS_NANO = ImageOptions(max_hole_area=8, max_speck_area=8)

_VISITORS_WITH_VIDEO = 12  # each may hold a hundred megabytes of decoded frames


@dataclass(frozen=True)
class AppModel:
    """The model that the app runs, and what visitors should know about it."""

    model: SAM2
    name: str
    notice: str = ""  # why it is not the model that was asked for


def build_app(app_model: AppModel, photos: list[Path], clips: list[Path]) -> gr.Blocks:
    """The whole page; `launch_options` goes with it.

    Args:
        photos: examples of the Image tab.
        clips: examples of the Video tab.
    """
    is_nano = replace(app_model.model.config, side=NANO.side) == NANO  # also where nano was fine-tuned
    network = Lock()  # both tabs use the same one
    images = ImageTab(
        predictor=ImagePredictor(app_model.model, _CRUMBS_NANO if is_nano else None, lock=network),
        store=SessionStore(PictureWork),
        examples=photos,
        everything=_EVERYTHING_NANO if is_nano else _EVERYTHING,
    )
    videos = None
    if app_model.model.memory_is_trained:
        limits = _HEALTH_NANO if is_nano else HealthLimits()
        store = SessionStore(lambda: VideoWork(limits), capacity=_VISITORS_WITH_VIDEO, discard=VideoWork.close)
        videos = VideoTab(VideoModels(app_model.model, lock=network), store, clips)

    def leave(key: str) -> None:
        images.leave(key)
        if videos is not None:
            videos.leave(key)

    with gr.Blocks(title="sam2kit", analytics_enabled=False, delete_cache=(600, 3600)) as app:
        key = gr.State(SessionStore.new_key, delete_callback=leave)
        device = app_model.model.device.type.upper()
        gr.Markdown(
            f"# sam2kit\nSegment anything in your photo or video: click, correct, download. "
            f"Model: **{app_model.name}** on {device}."
        )
        if app_model.notice:
            gr.Markdown(app_model.notice, elem_id="banner")
        with gr.Tabs():
            with gr.Tab("Image"):
                build_image_tab(images, key)
            with gr.Tab("Video"):
                if videos is None:
                    gr.Markdown(UNTRAINED, elem_id="video-untrained")
                else:
                    build_video_tab(videos, key)
    return app


def launch_options() -> dict[str, Any]:
    """What Gradio 6 wants at launch rather than in the page."""
    return {
        "css": _CSS + VIDEO_CSS,
        "head": _HEAD,
        "theme": gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        "footer_links": [],
        "run_history": False,
        "show_error": True,
        "max_file_size": "1gb",
    }
