"""What the Image tab's handlers hand back: one update per part of the page, and how a visitor's work fills them."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from sam2kit.clicking.messages import scene_message
from sam2kit.clicking.object_list import list_message
from sam2kit.clicking.picture_asking import candidates_of
from sam2kit.ui.picture_work import PictureWork

CHOOSE = "Choose a photo to begin."
SKIP = gr.skip()


class ImagePage(NamedTuple):
    """One update for each part of the tab that handlers change; those left out stay as they are."""

    upload: Any = SKIP
    view: Any = SKIP
    status: Any = SKIP
    objects: Any = SKIP
    candidates: Any = SKIP
    tools: Any = SKIP
    find: Any = SKIP  # "Segment everything", its Stop, and how far it is
    stop: Any = SKIP
    progress: Any = SKIP


def scene_of(work: PictureWork, key: str) -> dict[str, Any]:
    """The picture for the click surface."""
    shown = [work.shown(item) for item in work.now.objects]
    active = work.active
    return scene_message(
        key, work.scene, work.open_view, work.open_image.shape, shown, active.number, active.points, active.box_xyxy
    )


def progress_bar(done: int, total: int) -> str:
    """HTML of how far a job is."""
    share = f"{done / total:.0%}"
    bar = f'<b role="progressbar" aria-label="Progress" aria-valuenow="{share[:-1]}"><i style="width: {share}"></i></b>'
    return f'<div class="progress">{bar}<span>{share}</span></div>'


def page_beside(work: PictureWork, hint: str | None) -> ImagePage:
    """What changes with a click, but for the picture, which follows by itself."""
    active = work.active
    return ImagePage(
        status=SKIP if hint is None else hint,
        objects=list_message(work.listed(), active.number),
        candidates=candidates_of(work),
    )


def page_of(work: PictureWork, key: str, hint: str | None, *, plain: bool) -> ImagePage:
    """Everything."""
    return page_beside(work, hint)._replace(
        upload=gr.update(visible="hidden"),
        view=gr.update(value=work.draw() if plain else scene_of(work, key), visible=True),
        tools=gr.update(visible=True),
    )


def empty_page() -> ImagePage:
    """The tab without a photo."""
    return ImagePage(
        upload=gr.update(value=None, visible=True),
        view=gr.update(value=None, visible=False),
        status=CHOOSE,
        objects=None,
        candidates=None,
        tools=gr.update(visible=False),
    )
