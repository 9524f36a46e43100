"""The page around the tabs: title, banner, which model answers, look; and the small script for paste and drop."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from sam2kit.clicking.scripts import surface_css
from sam2kit.model.sam2 import SAM2
from sam2kit.ui.api import add_api, hide_others
from sam2kit.ui.image_layout import build_image_tab
from sam2kit.ui.image_tab import ImageTab
from sam2kit.ui.limits import Limits
from sam2kit.ui.memory import use_few_heaps
from sam2kit.ui.networks import Network, Networks
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.teach_layout import TEACH_CSS, build_teach_tab
from sam2kit.ui.teach_tab import TeachTab
from sam2kit.ui.teach_work import TeachWork
from sam2kit.ui.turns import Turns
from sam2kit.ui.video_layout import UNTRAINED, VIDEO_CSS, build_video_tab
from sam2kit.ui.video_tab import VideoTab
from sam2kit.ui.video_work import VideoWork
from sam2kit.ui.visitors import Visitors, keeper, key_of_visitor
from sam2kit.ui.zero_gpu import device_name

_CSS = """
.gradio-container { width: 100% !important; max-width: 1400px !important; margin: auto; }
#image-view img, #teach-view img { cursor: crosshair; max-height: 64vh; }
#head, #banner, #video-health, #image-progress,
.block:has(.sk-surface), .block:has(.sk-objects), .block:has(.sk-candidates) {
  --block-padding: 0; }
#head h1, #head p { display: inline; margin: 0 12px 0 0; }
#head h1 { font-size: 24px; }
#banner { border-left: 4px solid #E69F00; padding-left: 12px; }
#banner p, #banner summary { margin: 0; overflow: hidden; text-overflow: ellipsis; cursor: default; }
#banner summary { cursor: pointer; list-style: none; }
@media (min-width: 601px) { #banner p, #banner summary { white-space: nowrap; } }
#model { border: 0; }
.block:has(.sk-candidates[hidden]), .block:has(.sk-objects:empty) { display: none; }
#image-load { align-self: end; height: auto; }
.progress { display: flex; align-items: center; gap: 10px; font-size: 13px; }
.progress b { flex: 1; height: 8px; border-radius: 4px; overflow: hidden; background: var(--border-color-primary); }
.progress i { display: block; height: 100%; background: var(--color-accent); transition: width 0.3s; }
@media (max-width: 600px) { .gradio-container { padding: 8px !important; } }
"""
_GONE = (
    "Your earlier work is gone: it is kept for {minutes:g} minutes after its page was closed, as long as the app runs "
    "and has room. Session files last."
)
_VISITORS_WITH_VIDEO = 12  # each may hold a hundred megabytes of decoded frames


@dataclass(frozen=True)
class AppModel:
    """The model that the app runs, and what visitors should know about it."""

    model: SAM2
    name: str
    notice: str = ""  # one line that every page shows
    reason: str = ""  # why it is not the model that was asked for
    terminal: str = ""  # the same for whoever starts the app, with what to do


def build_app(
    app_model: AppModel, photos: list[Path], clips: list[Path], *, limits: Limits | None = None, plain: bool = False
) -> gr.Blocks:
    """The whole page; `launch_options` goes with it.

    Args:
        photos: examples of the Image tab.
        clips: examples of the Video tab.
        limits: what is taken from visitors.
        plain: pictures to click on instead of the click surface.
    """
    use_few_heaps()
    limits = limits or Limits()
    passes, jobs = Turns(), Turns()  # one pass through the network at a time; one long job at a time
    networks = Networks(Network.of(app_model.model, app_model.name, passes), passes)
    away = 60 * limits.minutes_after_leaving
    picture_store = SessionStore(
        PictureWork, capacity=limits.visitors, discard=PictureWork.close, seconds_after_leaving=away
    )
    video_store = SessionStore(
        lambda: VideoWork(networks.base.health), capacity=min(limits.visitors, _VISITORS_WITH_VIDEO),
        discard=VideoWork.close, seconds_after_leaving=away,
    )  # fmt: skip
    teach_store = SessionStore(
        TeachWork, capacity=min(limits.visitors, _VISITORS_WITH_VIDEO), discard=TeachWork.close,
        forgotten=networks.forget, seconds_after_leaving=away,
    )  # fmt: skip
    images = ImageTab(networks, picture_store, photos, limits, jobs, plain)
    videos = VideoTab(networks, video_store, clips, limits, jobs, plain)
    teaching = TeachTab(networks, teach_store, photos, passes, limits, jobs, plain)

    with gr.Blocks(title="sam2kit", analytics_enabled=False, delete_cache=(600, 3600)) as app:
        key = key_of_visitor()
        answering = gr.State(networks.base.name)
        device = device_name(app_model.model)
        gr.Markdown(
            f"# sam2kit\nClick on a thing in your photo or video, correct, download. "
            f"Model: **{app_model.name}** on {device}.",
            elem_id="head",
        )
        if app_model.notice:
            gr.HTML(_banner(app_model), elem_id="banner", apply_default_css=False)
        choice = gr.Radio([], label="Which model answers", visible=False, elem_id="model")
        with gr.Tabs():
            with gr.Tab("Image"):
                image_parts = build_image_tab(images, key)
            with gr.Tab("Video"):
                if networks.base.videos is None:
                    gr.Markdown(UNTRAINED, elem_id="video-untrained")
                    video_parts = []
                else:
                    video_parts = build_video_tab(videos, key)
            with gr.Tab("Fine-tune"):
                teach_parts = build_teach_tab(teaching, key, choice, answering)
        unseen: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        answering.change(images.change_network, key, image_parts, **unseen)
        if video_parts:
            answering.change(videos.change_network, key, video_parts, **unseen)
        stores = (picture_store, video_store, teach_store)
        visitors = Visitors(app, key, stores, jobs, networks, seconds_after_leaving=away)
        app.unload(visitors.leave)

        def claim(k: str, event: gr.EventData, request: gr.Request) -> list[Any]:
            told = visitors.claim(k, event, request)
            if told["came_back"]:
                gr.Info("Your work is back.")
            elif told["gone"]:
                gr.Warning(_GONE.format(minutes=limits.minutes_after_leaving))
            pages = (images.bring_back(k), videos.bring_back(k) if video_parts else (), teaching.bring_back(k))
            return [told, *(update for page in pages for update in page)]

        kept = keeper()
        kept.keep(visitors.keep, key, kept, queue=False, **unseen)
        kept.claim(claim, key, [kept, *image_parts, *video_parts, *teach_parts], **unseen).then(
            teaching.follow, key, teach_parts, **unseen
        )
        add_api(networks.base, jobs, limits)
    hide_others(app)
    return app


def launch_options(limits: Limits | None = None) -> dict[str, Any]:
    """What Gradio 6 wants at launch rather than in the page."""
    return {
        "css": _CSS + surface_css() + VIDEO_CSS + TEACH_CSS,
        "head": f"<script>{_page_script()}</script>",
        "theme": gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        "footer_links": ["api"],
        "run_history": False,
        "show_error": True,
        "max_file_size": f"{(limits or Limits()).upload_mb}mb",
        "max_threads": 60,  # those who wait their turn hold one each
        # those whose leaving nobody noticed; who is there is never among the oldest
        "state_session_capacity": 2 * (limits or Limits()).visitors,
    }


def _banner(app_model: AppModel) -> str:
    """One line; a click on it tells the reason, where there is one."""
    notice, reason = html.escape(app_model.notice), html.escape(app_model.reason)
    return f"<details><summary>{notice} <u>Why?</u></summary>{reason}</details>" if reason else f"<p>{notice}</p>"


@cache
def _page_script() -> str:
    return (Path(__file__).parent / "page.js").read_text()
