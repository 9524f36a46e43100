"""What the Video tab's handlers hand back: one update per part of the page, and how a visitor's work fills them."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from sam2kit.ui.video_view import draw_view, strip_html, where_text
from sam2kit.ui.video_work import VideoWork

CHOOSE = "Choose a video to begin."
RUNNING = "Tracking is running: press Stop first."
SKIP = gr.skip()


class Page(NamedTuple):
    """One update for each part of the tab that handlers change; those left out stay as they are."""

    upload: Any = SKIP
    opened: Any = SKIP  # all that is only there with a clip, below the picture
    tools: Any = SKIP
    view: Any = SKIP
    slider: Any = SKIP
    where: Any = SKIP
    health: Any = SKIP
    status: Any = SKIP
    track: Any = SKIP
    stop: Any = SKIP
    resume: Any = SKIP
    previews: Any = SKIP
    objects: Any = SKIP
    name: Any = SKIP
    first: Any = SKIP
    last: Any = SKIP
    every: Any = SKIP
    draft: Any = SKIP
    pace: Any = SKIP
    shorten: Any = SKIP


def page_of_step(work: VideoWork, hint: str | None) -> Page:
    """What changes with each step: the picture, where it is, the strip and the buttons of tracking."""
    left = bool(work.session.plan) and not work.busy
    return Page(
        view=gr.update(value=draw_view(work), visible=True),
        slider=work.frame,
        where=where_text(work),
        health=strip_html(work),
        status=SKIP if hint is None else hint,
        track=gr.update(interactive=not work.busy),
        stop=gr.update(visible=work.busy),
        resume=gr.update(visible=left),
        previews=work.previews,
    )


def page_of_objects(work: VideoWork, hint: str | None) -> Page:
    """What changes with the objects, too."""
    return page_of_step(work, hint)._replace(
        objects=gr.update(choices=[(name, i) for i, name in work.objects.names.items()], value=work.objects.active),
        name=work.objects.names[work.objects.active],
    )


def page_of_clip(work: VideoWork, hint: str | None) -> Page:
    """Everything, after a change of the clip."""
    count, whole, part = len(work.part), len(work.whole), work.part
    return page_of_objects(work, hint)._replace(
        upload=gr.update(value=None, visible="hidden"),  # empty, so that another video may be dropped
        opened=gr.update(visible=True),
        tools=gr.update(visible=True),
        slider=gr.update(value=work.frame, maximum=max(1, count - 1), interactive=count > 1),
        first=gr.update(value=part[0], maximum=whole - 1),
        last=gr.update(value=part[-1], maximum=whole - 1),
        every=part.step,
        draft=work.draft,
        pace=SKIP if work.session.tracks else "",
    )


def empty_page() -> Page:
    """The tab without a clip."""
    return Page(
        upload=gr.update(value=None, visible=True),
        opened=gr.update(visible=False),
        tools=gr.update(visible=False),
        view=gr.update(value=None, visible=False),
        status=CHOOSE,
        pace="",
    )
