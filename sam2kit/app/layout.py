"""The page around the tabs: title, banner, which model answers, work that comes back, look."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from sam2kit.app.api import add_api, hide_others
from sam2kit.app.canvas import canvas_css
from sam2kit.app.finetune_page import FINETUNE_CSS, build_finetune_tab
from sam2kit.app.finetune_tab import FinetuneTab
from sam2kit.app.finetune_work import FinetuneWork
from sam2kit.app.limits import Limits
from sam2kit.app.models import AppModel, LoadedModel, Models
from sam2kit.app.queue import FairQueue
from sam2kit.app.store import TabStore, VisitorStore, use_few_heaps
from sam2kit.app.tab import ClickTab
from sam2kit.app.tab_layout import UNTRAINED, build_click_tab
from sam2kit.app.visitors import Visitors, key_of_visitor, page_script
from sam2kit.app.work import Workspace
from sam2kit.app.zero_gpu import is_zero_gpu

_GONE = (
    "Your earlier work is gone: it is kept for {minutes:g} minutes after its page was closed, as long as the app runs "
    "and has room. Session files last."
)
_VISITORS_WITH_CLIPS = 12  # each may hold a hundred megabytes of decoded frames, or of photos
_UNSEEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build_app(app_model: AppModel, photos: list[Path], clips: list[Path], *, limits: Limits | None = None) -> gr.Blocks:
    """The whole page, with photos and clips as examples; `launch_options` goes with it."""
    use_few_heaps()
    limits, jobs = limits or Limits(), FairQueue()  # one long job at a time
    store = VisitorStore(capacity=limits.visitors, seconds_after_leaving=60 * limits.minutes_after_leaving)
    tuning = TabStore(FinetuneWork, FinetuneWork.close, visitors=store, capacity=_VISITORS_WITH_CLIPS)
    base = LoadedModel.of(app_model.model, app_model.name, FairQueue())  # one pass through the model at a time
    models = Models(base, lambda key: work.chosen if (work := tuning.peek(key)) is not None else None)
    images = ClickTab("image", models, TabStore(Workspace, Workspace.close, visitors=store), photos, limits, jobs)
    video_store = TabStore(Workspace, Workspace.close, visitors=store, capacity=_VISITORS_WITH_CLIPS)
    videos = ClickTab("video", models, video_store, clips, limits, jobs)
    finetuning = FinetuneTab(models, tuning, photos, limits, jobs)

    with gr.Blocks(title="sam2kit", analytics_enabled=False, delete_cache=(600, 3600)) as app:
        key, answering = key_of_visitor(), gr.State(base.name)
        choices = models.choices()
        with gr.Row(elem_id="top"):
            gr.Markdown(
                "# sam2kit\nClick on a thing in your photo or video, correct, download. Runs on "
                f"{'ZeroGPU' if is_zero_gpu() else app_model.model.device.type.upper()}.",
                elem_id="head",
            )
            choice = gr.Dropdown(
                choices, value=base.name, label="Which model answers", visible=len(choices) > 1, filterable=False,
                container=False, elem_id="model",
            )  # fmt: skip
        banner = gr.HTML(_banner(app_model), visible=bool(app_model.notice), elem_id="banner", apply_default_css=False)
        tabs: list[tuple[ClickTab | FinetuneTab, list[Any]]] = []
        with gr.Tabs():
            with gr.Tab("Image"):
                tabs.append((images, build_click_tab(images, key)))
            with gr.Tab("Video"):
                if base.can_track:
                    tabs.append((videos, build_click_tab(videos, key)))
                else:
                    gr.Markdown(UNTRAINED, elem_id="video-untrained")
            with gr.Tab("Fine-tune"):
                tabs.append((finetuning, build_finetune_tab(finetuning, key, choice, answering)))
        for tab, parts in tabs:
            if isinstance(tab, ClickTab):
                answering.change(tab.change_model, key, parts, **_UNSEEN)
        if app_model.notice:  # which is about the app's model
            answering.change(lambda name: gr.update(visible=name == base.name), answering, banner, **_UNSEEN)
        if len(choices) > 1:
            app.load(finetuning.offer, key, choice, **_UNSEEN)
        _bring_work_back(app, Visitors(app, key, store, jobs), tabs, key, limits.minutes_after_leaving)
        add_api(base, jobs, limits)
    hide_others(app)
    return app


def _bring_work_back(
    app: gr.Blocks,
    visitors: Visitors,
    tabs: list[tuple[ClickTab | FinetuneTab, list[Any]]],
    key: gr.State,
    minutes: float,
) -> None:
    """What happens when a visitor leaves, and comes back."""

    def claim(k: str, event: gr.EventData, request: gr.Request) -> list[Any]:
        found = visitors.claim(k, event, request)
        if found["came_back"]:
            gr.Info("Your work is back.")
        elif found["gone"]:
            gr.Warning(_GONE.format(minutes=minutes))
        return [found, *(update for tab, _ in tabs for update in tab.bring_back(k))]

    app.unload(visitors.leave)
    token = gr.HTML(value=None, html_template="<i></i>", js_on_load=page_script(), elem_id="token", visible="hidden")
    token.keep(visitors.keep, key, token, queue=False, **_UNSEEN)
    claimed = token.claim(claim, key, [token, *(part for _, shown in tabs for part in shown)], **_UNSEEN)
    for tab, shown in tabs:
        if isinstance(tab, FinetuneTab):
            claimed.then(tab.follow, key, shown, **_UNSEEN)


def launch_options(limits: Limits | None = None) -> dict[str, Any]:
    """What Gradio 6 wants at launch rather than in the page."""
    limits = limits or Limits()
    return {
        "css": (Path(__file__).parent / "page.css").read_text() + canvas_css() + FINETUNE_CSS,
        "theme": gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        "footer_links": ["api"],
        "run_history": False,
        "show_error": True,
        "max_file_size": f"{limits.upload_mb}mb",
        "max_threads": 60,  # those who wait their turn hold one each
        # those whose leaving nobody noticed; who is there is never among the oldest
        "state_session_capacity": 2 * limits.visitors,
    }


def _banner(app_model: AppModel) -> str:
    """One line; a click on it tells the reason, where there is one."""
    notice, reason = html.escape(app_model.notice), html.escape(app_model.reason)
    return f"<details><summary>{notice} <u>Why?</u></summary>{reason}</details>" if reason else f"<p>{notice}</p>"
