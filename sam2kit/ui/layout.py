"""The page around the tabs: title, banner, look; and the small script that makes paste and drop work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticOptions
from sam2kit.predict.image import ImageOptions, ImagePredictor
from sam2kit.ui.image_tab import ImageTab, build_image_tab
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.sessions import SessionStore

_CSS = """
.gradio-container { width: 100% !important; max-width: 1400px !important; margin: auto; }
#image-view img { cursor: crosshair; max-height: 72vh; }
#banner { border-left: 4px solid #E69F00; padding-left: 12px; }
"""

# Ctrl+V anywhere, and a photo dropped anywhere, go to the upload
_HEAD = """
<script>
(() => {
  const give = (files) => {
    const photo = [...(files || [])].find((f) => f.type.startsWith('image/') || /\\.(heic|heif)$/i.test(f.name));
    const input = document.querySelector('#image-upload input[type=file]');
    if (!photo || !input) return false;
    const box = new DataTransfer();
    box.items.add(photo);
    input.files = box.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
    return true;
  };
  document.addEventListener('paste', (e) => {
    const t = e.target;
    const typing = t.matches && t.matches('textarea, input:not([type=radio]):not([type=checkbox])');
    if (!typing && give(e.clipboardData && e.clipboardData.files)) e.preventDefault();
  });
  document.addEventListener('dragover', (e) => e.preventDefault());
  document.addEventListener('drop', (e) => {
    if (!e.target.closest('#image-upload')) { e.preventDefault(); give(e.dataTransfer && e.dataTransfer.files); }
  });
})();
</script>
"""


# where the sliders of "segment everything" start: half of the published grid, for a wait that people accept
_EVERYTHING = AutomaticOptions(points_per_side=16)
# nano is less sure of itself, its edges are less steady, and it leaves crumbs
_EVERYTHING_NANO = AutomaticOptions(points_per_side=16, min_predicted_iou=0.5, min_stability=0.7, min_region_area=8)
_CRUMBS_NANO = ImageOptions(max_hole_area=8, max_speck_area=8)


@dataclass(frozen=True)
class AppModel:
    """The model that the app runs, and what visitors should know about it."""

    model: SAM2
    name: str
    notice: str = ""  # why it is not the model that was asked for


def build_app(app_model: AppModel, examples: list[Path]) -> gr.Blocks:
    """The whole page; `launch_options` goes with it."""
    is_nano = app_model.name == "nano"
    tab = ImageTab(
        predictor=ImagePredictor(app_model.model, _CRUMBS_NANO if is_nano else None, lock=Lock()),
        store=SessionStore(PictureWork),
        examples=examples,
        everything=_EVERYTHING_NANO if is_nano else _EVERYTHING,
    )
    with gr.Blocks(title="sam2kit", analytics_enabled=False, delete_cache=(600, 3600)) as app:
        key = gr.State(SessionStore.new_key, delete_callback=tab.leave)
        device = app_model.model.device.type.upper()
        gr.Markdown(
            f"# sam2kit\nSegment anything in your photo: click, correct, download. "
            f"Model: **{app_model.name}** on {device}."
        )
        if app_model.notice:
            gr.Markdown(app_model.notice, elem_id="banner")
        with gr.Tabs(), gr.Tab("Image"):
            build_image_tab(tab, key)
    return app


def launch_options() -> dict[str, Any]:
    """What Gradio 6 wants at launch rather than in the page."""
    return {
        "css": _CSS,
        "head": _HEAD,
        "theme": gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        "footer_links": [],
        "run_history": False,
        "show_error": True,
        "max_file_size": "100mb",
    }
