"""What the Video tab shows: the current frame with masks and prompts, or as an effect makes it; and words about it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.media.effects import TRAIL_FRAMES, EffectPainter
from sam2kit.predict.session import FramePrompt, VideoSession
from sam2kit.ui.health import health_html
from sam2kit.ui.object_list import ListedObject, list_message, thumbnail_of
from sam2kit.ui.surface_messages import ShownObject, scene_message
from sam2kit.ui.video_work import VideoWork
from sam2kit.ui.views import to_view, view_of, view_size

_SQUARE = 16  # pixels, of the chequers behind what is transparent
_CHEQUERS = (205, 235)


def scene_of(work: VideoWork, key: str) -> dict[str, Any]:
    """The current frame for the click surface."""
    assert work.session is not None, "a scene needs an open clip"
    picture = view_of(work.session.clip.frame(work.frame))
    masks = {} if work.previews else masks_at(work.session, work.frame, picture.shape[:2])
    if work.previews:
        picture = _with_effect(work, picture)
    shown = [ShownObject(number, name, masks.get(number)) for number, name in work.objects.names.items()]
    prompt = FramePrompt() if work.previews else work.asked(work.objects.active)
    points = [(x, y, label) for (x, y), label in zip(prompt.points_xy, prompt.labels, strict=True)]
    return scene_message(
        key, work.scene, picture, work.whole.size_hw, shown, work.objects.active, points, prompt.box_xyxy,
        editable=not work.busy,
    )  # fmt: skip


def shown_object(work: VideoWork, number: int) -> ShownObject:
    """One object on the current frame, for the click surface."""
    masks = masks_at(work.session, work.frame, view_size(work.whole.size_hw))
    return ShownObject(number, work.objects.names[number], masks.get(number))


def list_of(work: VideoWork) -> dict[str, Any]:
    """The list of objects, with what is known of each on the current frame."""
    assert work.session is not None, "a list needs an open clip"
    known = work.session.masks(work.frame)
    results = dict(zip(known.object_ids, known.results, strict=True))
    rows = []
    for number, name in work.objects.names.items():
        result, track = results.get(number), work.session.tracks.get(number)
        note = "" if track else "click it"
        if result is not None:
            note = f"sure {result.predicted_iou:.0%}" if result.present or result.prompted else "not in the picture"
        rows.append(ListedObject(number, name, note, _thumbnail(work, number)))
    return list_message(rows, work.objects.active)


def _thumbnail(work: VideoWork, number: int) -> str:
    """From the first frame on which the object was prompted; made again when that answer changes."""
    track = work.session.tracks.get(number)
    if track is None or not track.prompted:
        return ""
    frame = min(track.prompted)
    result = track.prompted[frame]
    known = work.thumbnails.get(number)
    if known is None or known[0] is not result:
        picture = view_of(work.session.clip.frame(frame))
        mask = masks_at(work.session, frame, picture.shape[:2])[number]
        known = work.thumbnails[number] = (result, thumbnail_of(picture, mask, number))
    return known[1]


def draw_view(work: VideoWork) -> np.ndarray:
    """The current frame at the size of the view, uint8 [H, W, 3]."""
    assert work.session is not None, "drawing needs an open clip"
    picture = view_of(work.session.clip.frame(work.frame))
    if work.previews:
        return _with_effect(work, picture)
    masks = masks_at(work.session, work.frame, picture.shape[:2])
    picture = draw_masks(picture, masks.values(), list(masks))
    return _with_prompts(work, picture)


def masks_at(session: VideoSession, frame: int, size_hw: tuple[int, int]) -> dict[int, np.ndarray]:
    """Object number -> bool [H, W] mask at a size."""
    known = session.masks(frame)
    return dict(zip(known.object_ids, (known.logits_at(size_hw) > 0).numpy(), strict=True))


def strip_html(work: VideoWork) -> str:
    """The health strip."""
    return health_html(work.states(), work.prompted_frames(), work.objects.names, work.frame)


def where_text(work: VideoWork) -> str:
    """Frame number and time."""
    assert work.session is not None, "needs an open clip"
    clip = work.session.clip
    words = [f"**Frame {work.frame}** (last: {len(clip) - 1}) · {float(clip.timestamps[work.frame]):.3f} s"]
    if len(work.part) < len(work.whole):
        words.append(f"frame {work.part[work.frame]} of the whole clip")
    return " · ".join(words)


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
    assert work.session is not None, "needs an open clip"
    painter = EffectPainter(work.effect)
    if "trail" in painter.steps:  # it remembers the frames before
        for frame in range(max(0, work.frame - TRAIL_FRAMES), work.frame):
            painter.paint(picture, masks_at(work.session, frame, picture.shape[:2]))
    painted = painter.paint(picture, masks_at(work.session, work.frame, picture.shape[:2]))
    return painted if painted.shape[2] == 3 else _on_chequers(painted)


def _on_chequers(painted: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] from RGBA, over the squares that mean "transparent"."""
    y, x = np.indices(painted.shape[:2]) // _SQUARE
    ground = np.array(_CHEQUERS, np.uint8)[(x + y) % 2][..., None]
    alpha = painted[..., 3:].astype(np.float32) / 255
    return (painted[..., :3] * alpha + ground * (1 - alpha)).astype(np.uint8)
