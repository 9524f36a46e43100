"""What the Video tab shows: the current frame with masks and prompts, or as an effect makes it; and words about it."""

from __future__ import annotations

import numpy as np

from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.media.effects import TRAIL_FRAMES, EffectPainter
from sam2kit.predict.session import FramePrompt, VideoSession
from sam2kit.ui.health import health_html
from sam2kit.ui.video_work import VideoWork
from sam2kit.ui.views import view_of, view_size

_SQUARE = 16  # pixels, of the chequers behind what is transparent
_CHEQUERS = (205, 235)


def to_clip(work: VideoWork, view_xy: tuple[float, float]) -> tuple[float, float]:
    """The pixel of the clip under the middle of a pixel of the view."""
    size_hw = work.whole.size_hw
    shown_hw = view_size(size_hw)
    x, y = ((v + 0.5) * size_hw[axis] / shown_hw[axis] - 0.5 for v, axis in zip(view_xy, (1, 0), strict=True))
    return min(max(x, 0.0), size_hw[1] - 1.0), min(max(y, 0.0), size_hw[0] - 1.0)


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
    """Frame number, time, and how sure the model is of each object."""
    assert work.session is not None, "needs an open clip"
    clip = work.session.clip
    words = [f"**Frame {work.frame}** (last: {len(clip) - 1}) · {float(clip.timestamps[work.frame]):.3f} s"]
    if len(work.part) < len(work.whole):
        words.append(f"frame {work.part[work.frame]} of the whole clip")
    known = work.session.masks(work.frame)
    for number, result in zip(known.object_ids, known.results, strict=True):
        sure = f"sure {result.predicted_iou:.0%}" if result.present or result.prompted else "not in the picture"
        words.append(f"{_plain(work.objects.names[number])}: {sure}")
    return " · ".join(words)


def _plain(name: str) -> str:
    """A name that Markdown leaves as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!<>|~$" else c for c in name)


def _with_prompts(work: VideoWork, picture: np.ndarray) -> np.ndarray:
    assert work.session is not None, "needs an open clip"
    track = work.session.tracks.get(work.objects.active)
    prompt = (track.prompts.get(work.frame) if track else None) or FramePrompt()
    points = [
        (*_to_view(work, xy), int(label)) for xy, label in zip(prompt.points_xy, prompt.labels, strict=True)
    ]  # fmt: skip
    box = None
    if prompt.box_xyxy is not None:
        box = [*_to_view(work, prompt.box_xyxy[:2]), *_to_view(work, prompt.box_xyxy[2:])]
    corner = None if work.corner is None else _to_view(work, work.corner)
    return draw_prompts(picture, points, box, corner)


def _to_view(work: VideoWork, xy: tuple[float, float] | np.ndarray) -> tuple[float, float]:
    size_hw = work.whole.size_hw
    height, width = view_size(size_hw)
    return (float(xy[0]) + 0.5) * width / size_hw[1] - 0.5, (float(xy[1]) + 0.5) * height / size_hw[0] - 0.5


def _with_effect(work: VideoWork, picture: np.ndarray) -> np.ndarray:
    assert work.session is not None, "needs an open clip"
    painter = EffectPainter(work.effect)
    if work.effect == "trail":  # it remembers the frames before
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
