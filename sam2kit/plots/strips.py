"""A video session as a figure: some of its frames with their masks, and where each object is present."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from sam2kit.media.drawing import LOST_COLOUR, PALETTE, draw_masks, draw_prompts
from sam2kit.plots.panels import check_counts, new_figure, panels
from sam2kit.predict.health import DOUBTFUL, LOST, PRESENT, USUAL, HealthLimits, health
from sam2kit.predict.session import VideoSession

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

_FULL = 0.7
_BARS = {  # state -> height and meaning
    PRESENT: (_FULL, "full: present"),
    DOUBTFUL: (0.35, "half: doubtful"),
    LOST: (0.1, "low: lost"),
}
_DPI = 70


def show_strip(session: VideoSession, frames: Iterable[int], *, columns: int = 4, width: float = 10.0) -> Figure:
    """Show frames of a clip with what is known of them: masks, and the clicks and boxes that were given there.

    Args:
        session: with some answers; nothing is tracked.
        frames: which ones.
        columns: frames side by side, at most.
        width: of the figure, in inches.
    Raises:
        IndexError: if the clip has no such frame.
        ValueError: if there is no frame to show.
    """
    from matplotlib.patches import Patch

    numbers = [session.checked_frame(frame) for frame in frames]
    check_counts("frames", len(numbers))
    figure, axes = panels([session.clip.size_hw] * len(numbers), columns, width, below=0.3)
    for axis, number in zip(axes, numbers, strict=True):
        axis.imshow(_drawn(session, number))
        axis.set_title(f"frame {number}")
    names = [Patch(color=PALETTE[i % len(PALETTE)], label=str(name)) for i, name in enumerate(session.object_ids)]
    figure.legend(handles=names, loc="outside lower center", ncols=max(len(names), 1))
    return figure


def _drawn(session: VideoSession, frame: int) -> np.ndarray:
    known = session.masks(frame)
    scene = draw_masks(session.clip.frame(frame), known.masks, (number - 1 for number in known.numbers))
    for track in session.tracks.values():
        prompt = track.prompts.get(frame)
        if prompt is not None:
            points = [(*xy, label) for xy, label in zip(prompt.points_xy, prompt.labels, strict=True)]
            scene = draw_prompts(scene, points, prompt.box_xyxy)
    return scene


def show_presence(session: VideoSession, limits: HealthLimits = USUAL, *, width: float = 10.0) -> Figure:
    """Show on which frames each object is present, doubtful or lost: a lane for each, so that you see where to look.

    Args:
        session: tracked as far as it may be; frames without an answer stay empty.
        limits: when a frame counts as doubtful.
        width: of the figure, in inches.
    Raises:
        ValueError: if there is no object.
    """
    from matplotlib.patches import Patch

    states = health(session, limits)
    if not states:
        raise ValueError("there is no object whose presence could be shown; prompt one")
    middles = [lane + _FULL / 2 for lane in range(len(states))]
    figure, plot = new_figure((width, 0.45 * len(states) + 0.9), _DPI)
    for lane, (object_id, row) in enumerate(states.items()):
        for state, (height, _) in _BARS.items():
            colour = LOST_COLOUR if state == LOST else PALETTE[lane % len(PALETTE)]
            here = np.flatnonzero(row == state)
            plot.bar(here, height, bottom=lane + _FULL - height, width=1.0, color=colour)  # the axis goes down
        prompted = sorted(session.tracks[object_id].prompts)
        plot.plot(prompted, [middles[lane]] * len(prompted), "D", color="black", markersize=6, markeredgecolor="white")
    plot.set_yticks(middles, [str(object_id) for object_id in states])
    gap = (1 - _FULL) / 2
    plot.set(xlabel="frame", xlim=(-0.5, len(session) - 0.5), ylim=(len(states) - gap, -gap))
    handles: list[Artist] = [
        Patch(color=LOST_COLOUR if s == LOST else "#888888", label=text) for s, (_, text) in _BARS.items()
    ]
    handles += plot.plot([], [], "D", color="black", markeredgecolor="white", label="prompted")
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize="small")
    return figure
