"""What the Video tab shows: the current frame with masks and prompts, or as an effect makes it; and words about it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sam2kit.clicking.clip_view import clip_scene, colours_of, masks_at
from sam2kit.clicking.messages import ShownObject, scene_message
from sam2kit.clicking.views import to_view, view_of
from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.media.effects import TRAIL_FRAMES, EffectPainter
from sam2kit.predict.health import DOUBTFUL
from sam2kit.ui.health_strip import health_html
from sam2kit.ui.video_models import in_words
from sam2kit.ui.video_work import VideoWork

_LONG = 60.0  # seconds of tracking; above, the visitor is asked to shorten the clip
_SQUARE = 16  # pixels, of the chequers behind what is transparent
_CHEQUERS = (205, 235)


def scene_of(work: VideoWork, key: str) -> dict[str, Any]:
    """The current frame for the click surface."""
    if not work.previews:
        return clip_scene(work, key, work.scene, editable=not work.busy)
    picture = _with_effect(work, view_of(work.open_session.clip.frame(work.frame)))
    shown = [ShownObject(number, name) for number, name in work.objects.names.items()]
    return scene_message(
        key, work.scene, picture, work.whole.size_hw, shown, work.objects.active, editable=not work.busy
    )  # fmt: skip


def draw_view(work: VideoWork) -> np.ndarray:
    """The current frame at the size of the view, uint8 [H, W, 3]."""
    session = work.open_session
    picture = view_of(session.clip.frame(work.frame))
    if work.previews:
        return _with_effect(work, picture)
    masks = masks_at(session, work.frame, picture.shape[:2])
    picture = draw_masks(picture, masks.values(), map(colours_of(work).__getitem__, masks))
    return _with_prompts(work, picture)


def strip_html(work: VideoWork) -> str:
    """The health strip."""
    return health_html(work.states(), work.prompted_frames(), work.objects.names, work.frame, colours_of(work))


def where_text(work: VideoWork) -> str:
    """Frame number and time."""
    clip = work.open_session.clip
    words = [f"**Frame {work.frame}** (last: {len(clip) - 1}) · {float(clip.timestamps[work.frame]):.3f} s"]
    if len(work.part) < len(work.whole):
        words.append(f"frame {work.part[work.frame]} of the whole clip")
    return " · ".join(words)


def status_text(work: VideoWork) -> str:
    """What there is to do next; true whatever was done before."""
    session = work.open_session
    if work.corner is not None:
        return "Now click the opposite corner."
    if not work.prompted_objects:
        return "Click on the thing you want, on any frame; then press Track."
    if not work.is_tracked:
        return "Correct with more clicks, on any frame; then press Track."
    if work.needs_tracking:
        return "Press Track again: the other frames do not know the latest clicks yet."
    if session.plan:
        return f"{len(session.plan)} frames are left: press Go on, or correct and track again."
    known = len({f for track in session.tracks.values() for f in (*track.prompted, *track.tracked)})
    troubled = troubled_frames(work)
    found = f"{known} of {len(work.part)} frames have masks"
    return f"{found}; {troubled} look doubtful or lost. Correct any frame and track again." if troubled else f"{found}."


def troubled_frames(work: VideoWork) -> int:
    """How many frames look doubtful or lost, for any object."""
    return int((np.max(list(work.states().values()), axis=0) >= DOUBTFUL).sum())


def takes_long(work: VideoWork) -> bool:
    """Whether tracking takes so long that the visitor should be asked first."""
    return _seconds(work) >= _LONG


def _seconds(work: VideoWork) -> float:
    """Of tracking, where it is known; else 0."""
    return work.pace.get(work.prompted_objects, 0.0) * len(work.part)


def pace_text(work: VideoWork) -> str:
    """How long tracking will take, where that is known and there is something to track."""
    seconds = _seconds(work)
    if work.busy or not seconds or not work.prompted_objects or (work.is_tracked and not work.needs_tracking):
        return ""
    text = f"Tracking {len(work.part)} frames will take about {in_words(seconds)}."
    if not takes_long(work):
        return text
    draft = ", or the draft" if work.open_models.has_draft and not work.draft else ""
    return f"{text} Quicker: a part of the clip, every n-th frame{draft}, under “Shorten the clip”."


def _with_prompts(work: VideoWork, picture: np.ndarray) -> np.ndarray:
    prompt, size_hw = work.asked(work.objects.active), work.whole.size_hw
    points = [
        (*to_view(xy, size_hw), int(label)) for xy, label in zip(prompt.points_xy, prompt.labels, strict=True)
    ]  # fmt: skip
    box = None
    if prompt.box_xyxy is not None:
        box = [*to_view(prompt.box_xyxy[:2], size_hw), *to_view(prompt.box_xyxy[2:], size_hw)]
    corner = None if work.corner is None else to_view(work.corner, size_hw)
    return draw_prompts(picture, points, box, corner)


def _with_effect(work: VideoWork, picture: np.ndarray) -> np.ndarray:
    session = work.open_session
    painter = EffectPainter(work.effect, colours=colours_of(work))
    if "trail" in painter.steps:  # it remembers the frames before
        for frame in range(max(0, work.frame - TRAIL_FRAMES), work.frame):
            painter.paint(picture, masks_at(session, frame, picture.shape[:2]))
    painted = painter.paint(picture, masks_at(session, work.frame, picture.shape[:2]))
    return painted if painted.shape[2] == 3 else _on_chequers(painted)


def _on_chequers(painted: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] from RGBA, over the squares that mean "transparent"."""
    y, x = np.indices(painted.shape[:2]) // _SQUARE
    ground = np.array(_CHEQUERS, np.uint8)[(x + y) % 2][..., None]
    alpha = painted[..., 3:].astype(np.float32) / 255
    return (painted[..., :3] * alpha + ground * (1 - alpha)).astype(np.uint8)
