"""What the Video tab's handlers hand back: one update per part of the page, and how a visitor's work fills them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from sam2kit.clicking.clip_view import list_of
from sam2kit.ui.video_view import draw_view, pace_text, scene_of, status_text, strip_html, where_text
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
    play: Any = SKIP
    previews: Any = SKIP
    objects: Any = SKIP
    first: Any = SKIP
    last: Any = SKIP
    every: Any = SKIP
    draft: Any = SKIP
    pace: Any = SKIP
    shorten: Any = SKIP
    writing: Any = SKIP


@dataclass(frozen=True)
class Pages:
    """Makes pages of a visitor's work.

    Args:
        plain: the frame is a picture instead of a scene for the click surface.
    """

    plain: bool = False

    def beside(self, work: VideoWork, hint: str | None) -> Page:
        """What changes with a prompt, but for the frame, which follows by itself.

        Args:
            hint: for the status line; None says what there is to do, so that no line outlives what it speaks of.
        """
        again = work.is_tracked and work.needs_tracking
        left = bool(work.open_session.plan) and not work.busy
        return Page(
            where=where_text(work),
            health=strip_html(work),
            status=(SKIP if work.busy else status_text(work)) if hint is None else hint,
            track=gr.update(value="Track again" if again else "Track", interactive=not work.busy),
            stop=gr.update(visible=work.busy),
            resume=gr.update(visible=left),
            play="❚❚" if work.playing else "▶",
            previews=work.previews,
            objects=list_of(work),
            pace=pace_text(work),
            writing=work.writing.text,
        )

    def view(self, work: VideoWork, key: str) -> Any:
        """The frame."""
        return gr.update(value=draw_view(work) if self.plain else scene_of(work, key), visible=True)

    def of_step(self, work: VideoWork, key: str, hint: str | None) -> Page:
        """What changes with each step: the frame, too, and where it is."""
        return self.beside(work, hint)._replace(view=self.view(work, key), slider=work.frame)

    def of_playing(self, work: VideoWork, key: str) -> Page:
        """The little that changes while frames follow one another."""
        return Page(view=self.view(work, key), slider=work.frame, where=where_text(work), play="❚❚")

    def of_clip(self, work: VideoWork, key: str, hint: str | None) -> Page:
        """Everything, after a change of the clip."""
        count, whole, part = len(work.part), len(work.whole), work.part
        return self.of_step(work, key, hint)._replace(
            upload=gr.update(value=None, visible="hidden"),  # empty, so that another video may be dropped
            opened=gr.update(visible=True),
            tools=gr.update(visible=True),
            slider=gr.update(value=work.frame, maximum=max(1, count - 1), interactive=count > 1),
            first=gr.update(value=part[0], maximum=whole - 1),
            last=gr.update(value=part[-1], maximum=whole - 1),
            every=part.step,
            draft=work.draft,
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
