"""What the handlers of the Image and the Video tab hand back: one update per part of the page, and how work fills them.

Both tabs have all parts; those that only a clip needs are invisible in the Image tab.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from sam2kit.app.components import in_words
from sam2kit.app.timeline import timeline_html
from sam2kit.app.work import Workspace
from sam2kit.predict.tracking_quality import UNCERTAIN

CHOOSE = {"image": "Choose a photo to begin.", "video": "Choose a video to begin."}
RUNNING = "Tracking is running: press Stop first."
GONE = "Your work is open in another tab, or was put away when others came; reload this page to go on here."
SKIP = gr.skip()
FOLLOWING = ("view", "timeline", "status", "track", "resume", "play", "previews", "estimate", "writing")
MASK_OPTIONS = ("keep_clicked", "max_hole_area", "max_speck_area", "grow", "feather", "exclusive")  # of VideoOptions
_LONG = 60.0  # seconds of tracking; above, the visitor is asked to shorten the clip


class Page(NamedTuple):
    """One update for each part of a tab that handlers change; those left out stay as they are."""

    upload: Any = SKIP
    tools: Any = SKIP
    opened: Any = SKIP  # all that is only there with a clip, below the picture
    view: Any = SKIP
    status: Any = SKIP
    slider: Any = SKIP
    where: Any = SKIP
    timeline: Any = SKIP
    track: Any = SKIP
    stop: Any = SKIP
    resume: Any = SKIP
    play: Any = SKIP
    previews: Any = SKIP
    first: Any = SKIP
    last: Any = SKIP
    every: Any = SKIP
    draft: Any = SKIP
    estimate: Any = SKIP
    shorten: Any = SKIP
    writing: Any = SKIP
    find: Any = SKIP  # "Segment everything", its Stop, and how far it is
    stop_find: Any = SKIP
    stop_refine: Any = SKIP
    progress: Any = SKIP
    keep_clicked: Any = SKIP  # these show the session's options
    max_hole_area: Any = SKIP
    max_speck_area: Any = SKIP
    grow: Any = SKIP
    feather: Any = SKIP
    exclusive: Any = SKIP
    careful: Any = SKIP
    effect: Any = SKIP
    ground: Any = SKIP

    @property
    def following(self) -> list[Any]:
        """What an answer brings along for the parts that FOLLOWING names."""
        return [getattr(self, name) for name in FOLLOWING]


def page_beside(work: Workspace, hint: str | None = None) -> Page:
    """What changes with a prompt, but for the canvas, which follows by itself.

    The hint is for the status line; None says what there is to do, so that no line outlives what it speaks of.
    """
    if work.session.is_picture:
        return Page(status=hint or "")
    again = work.is_tracked and work.needs_tracking
    left = bool(work.session.plan) and not work.busy
    frames = work.session.frames
    helps = frames if work.is_tracked and not work.busy else None
    return Page(
        where=_where_text(work),
        timeline=timeline_html(work.timeline(), frames.index(work.editor.frame), helps),
        status=(SKIP if work.busy else _status_text(work)) if hint is None else hint,
        track=gr.update(value="Track again" if again else "Track", interactive=not work.busy),
        stop=gr.update(visible=work.busy),
        resume=gr.update(visible=left),
        play="❚❚" if work.playing else "▶",
        previews=work.previews,
        estimate=estimate_text(work),
        writing=work.writing.text,
    )


def view_update(work: Workspace, key: str) -> Any:
    """The canvas."""
    painted = work.painted() if work.previews else None
    return gr.update(value=work.editor.scene(key, painted, editable=not work.busy), visible=True)


def page_of_step(work: Workspace, key: str, hint: str | None = None) -> Page:
    """What changes with each step: the canvas, too, and where it is."""
    slider = SKIP if work.session.is_picture else work.editor.frame
    return page_beside(work, hint)._replace(view=view_update(work, key), slider=slider)


def page_of_playing(work: Workspace, key: str) -> Page:
    """The little that changes while frames follow one another."""
    return Page(view=view_update(work, key), slider=work.editor.frame, where=_where_text(work), play="❚❚")


def page_of_file(work: Workspace, key: str, hint: str | None = None) -> Page:
    """Everything, after another file, part of it, or model."""
    options = work.session.options
    page = page_of_step(work, key, hint)._replace(
        upload=gr.update(value=None, visible="hidden"),  # empty, so that another file may be dropped
        tools=gr.update(visible=True),
        careful=options.memory_selection != "latest",
        **{name: getattr(options, name) for name in MASK_OPTIONS},
    )
    if work.session.is_picture:
        return page
    frames, most = work.session.frames, len(work.session.clip) - 1
    return page._replace(
        opened=gr.update(visible=True),
        slider=gr.update(
            value=work.editor.frame, minimum=frames[0], maximum=max(frames[-1], frames[0] + 1), step=frames.step,
            interactive=len(frames) > 1,
        ),
        first=gr.update(value=frames[0], maximum=most),
        last=gr.update(value=frames[-1], maximum=most),
        every=frames.step,
        draft=work.draft,
    )  # fmt: skip


def empty_page(tab: str) -> Page:
    """A tab without a picture or clip."""
    return Page(
        upload=gr.update(value=None, visible=True),
        tools=gr.update(visible=False),
        opened=gr.update(visible=False),
        view=gr.update(value=None, visible=False),
        status=CHOOSE[tab],
        estimate="",
    )


def uncertain_frames(work: Workspace) -> int:
    """How many frames are uncertain or lost, for any object."""
    return int((np.max(list(work.states().values()), axis=0) >= UNCERTAIN).sum())


def takes_long(work: Workspace) -> bool:
    """Whether tracking takes so long that the visitor should be asked first."""
    return _seconds(work) >= _LONG


def estimate_text(work: Workspace) -> str:
    """How long tracking will take, where that is known and there is something to track."""
    seconds, frames = _seconds(work), len(work.session.frames)
    if work.busy or not seconds or not work.prompted_objects or (work.is_tracked and not work.needs_tracking):
        return ""
    text = f"Tracking {frames} frames will take about {in_words(seconds)}."
    if not takes_long(work):
        return text
    draft = ", or the draft" if work.model.has_draft and not work.draft else ""
    return f"{text} Quicker: a part of the clip, every n-th frame{draft}, under “Shorten the clip”."


def progress_bar(done: float, total: float) -> str:
    """HTML of how far a job is."""
    share = f"{done / total:.0%}"
    bar = f'<b role="progressbar" aria-label="Progress" aria-valuenow="{share[:-1]}"><i style="width: {share}"></i></b>'
    return f'<div class="progress">{bar}<span>{share}</span></div>'


def _seconds(work: Workspace) -> float:
    """Of tracking, where it is known; else 0."""
    return work.seconds.get(work.prompted_objects, 0.0) * len(work.session.frames)


def _where_text(work: Workspace) -> str:
    """Frame number and time."""
    clip, frames, frame = work.session.clip, work.session.frames, work.editor.frame
    words = f"**Frame {frame}** (last: {len(clip) - 1}) · {float(clip.timestamps[frame]):.3f} s"
    if len(frames) == len(clip):
        return words
    every = f", every {frames.step}" if frames.step > 1 else ""
    return f"{words} · in use: {frames[0]} to {frames[-1]}{every}"


def _status_text(work: Workspace) -> str:
    """What there is to do next; true whatever was done before."""
    session = work.session
    if not work.prompted_objects:
        return "Click on the thing you want, on any frame; then press Track."
    if not work.is_tracked:
        return "Correct with more clicks, on any frame; then press Track."
    if work.needs_tracking:
        return "Press Track again: the other frames do not know the latest clicks yet."
    if session.plan:
        return f"{len(session.plan)} frames are left: press Go on, or correct and track again."
    known = {f for item in session.objects.values() for f in (*item.prompted, *item.tracked)}
    found = f"{len(known.intersection(session.frames))} of {len(session.frames)} frames have masks"
    uncertain = uncertain_frames(work)
    return (
        f"{found}; {uncertain} are uncertain or lost. Correct any frame and track again." if uncertain else f"{found}."
    )
