"""The masks of a whole clip, as videos to look at.

Like all exports, generators of how many frames are done; see clip_masks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sam2kit.files import written_whole
from sam2kit.media.bundles import FileBundle, png_bytes
from sam2kit.media.clip_masks import MasksOf, Names, Progress, frames_with_masks, masks_on
from sam2kit.media.clips import Clip, frame_at
from sam2kit.media.effects import EffectPainter, Masks
from sam2kit.media.video_writing import VideoWriter


def export_video(
    clip: Clip,
    masks_of: MasksOf,
    path: str | Path,
    effect: str | EffectPainter,
    *,
    audio: bool = True,
    names: Names | None = None,
) -> Progress:
    """The clip with an effect, at the clip's own times and with its sound.

    Args:
        clip: the frames.
        masks_of: frame number -> object id -> bool [H, W], such as the `masks` of a session; an absent object may be
            missing or empty.
        path: ends in .mp4, .webm or .mov; a file that is there is replaced at the end.
        effect: one of effects.EFFECTS, or a painter with settings of its own.
        audio: take the sound of the clip's file.
        names: object id -> a name to write beside it, if `effect` is a text.
    Yields:
        the number of frames done, from 1 to len(clip).
    Returns:
        sentences that say what could not be taken over, such as broken sound.
    Raises:
        ValueError: if the effect is unknown, a mask does not fit, or the file type cannot hold the result.
    """
    painter = _painter(effect, names)
    alpha = painter.makes_alpha
    return (yield from _write_video(clip, masks_of, path, clip.size_hw, painter.paint, audio=audio, alpha=alpha))


def export_side_by_side(
    clip: Clip,
    masks_of: MasksOf,
    path: str | Path,
    effect: str | EffectPainter,
    *,
    audio: bool = True,
    names: Names | None = None,
) -> Progress:
    """The clip and, to its right, the clip with an effect; arguments as for `export_video`."""
    painter, (height, width) = _painter(effect, names), clip.size_hw

    def paint(frame: np.ndarray, masks: Masks) -> np.ndarray:
        return np.hstack([frame, _on_white(painter.paint(frame, masks))])

    return (yield from _write_video(clip, masks_of, path, (height, 2 * width), paint, audio=audio, alpha=False))


def export_gif(
    clip: Clip,
    masks_of: MasksOf,
    path: str | Path,
    effect: str | EffectPainter,
    *,
    fps: float = 10.0,
    width: int = 480,
    names: Names | None = None,
) -> Progress:
    """A small animation that plays anywhere; frames are picked at a constant rate and kept in memory until the end.

    Args:
        clip: the frames.
        masks_of: frame number -> object id -> bool [H, W].
        path: ends in .gif.
        effect: one of effects.EFFECTS, or a painter.
        fps: frames per second, at most 50; the clip's own rate if that is lower.
        width: in pixels; smaller clips keep their size.
        names: object id -> a name to write beside it.
    Yields:
        the number of the clip's frames done, rising to len(clip).
    """
    from moviepy import ImageSequenceClip

    path, painter = Path(path), _painter(effect, names)
    if path.suffix.lower() != ".gif" or not 0 < fps <= 50 or width < 2:
        raise ValueError(f"a GIF needs a name in .gif, fps in 0..50 and a width, got {path.name!r}, {fps} and {width}")
    fps = min(fps, clip.fps)
    scale = min(1.0, width / clip.size_hw[1])
    size_wh = max(1, round(clip.size_hw[1] * scale)), max(1, round(clip.size_hw[0] * scale))
    pictures, start = [], float(clip.span[0])
    for picture in range(max(1, round(clip.duration * fps))):
        index = frame_at(clip, start + (picture + 0.5) / fps)
        painted = _on_white(painter.paint(clip.frame(index), masks_on(masks_of, index, clip)))
        pictures.append(cv2.resize(painted, size_wh, interpolation=cv2.INTER_AREA))
        if index + 1 < len(clip):
            yield index + 1
    with written_whole(path, path.with_name(f"{path.stem}.part.gif")) as unfinished:
        ImageSequenceClip(pictures, fps=fps).write_gif(str(unfinished), fps=fps, logger=None)
    yield len(clip)
    return ()


def export_alpha(clip: Clip, masks_of: MasksOf, path: str | Path, *, audio: bool = True) -> Progress:
    """The objects alone, on a transparent ground.

    Args:
        clip: the frames.
        masks_of: frame number -> object id -> bool [H, W].
        path: .webm (VP9, for browsers), .mov (ProRes 4444, for editors), .zip or a new folder (00000.png, ...).
        audio: take the sound of the clip's file, into .webm and .mov.
    Yields:
        the number of frames done, from 1 to len(clip).
    Raises:
        ValueError: if the file type holds no transparency, or the folder is not empty.
    """
    if Path(path).suffix.lower() in ("", ".zip"):
        return (yield from write_png_sequence(path, clip, masks_of))
    return (yield from export_video(clip, masks_of, path, "cut_out", audio=audio))


def write_png_sequence(path: str | Path, clip: Clip, masks_of: MasksOf) -> Progress:
    """The objects alone as RGBA pictures 00000.png, 00001.png, ... in a new folder or a .zip."""
    painter = EffectPainter("cut_out")
    with FileBundle(path) as bundle:
        for index, frame, masks in frames_with_masks(clip, masks_of):
            bundle.write(f"{index:05d}.png", png_bytes(Image.fromarray(painter.paint(frame, masks))))
            if index + 1 < len(clip):
                yield index + 1
    yield len(clip)
    return ()


def _write_video(
    clip: Clip,
    masks_of: MasksOf,
    path: str | Path,
    size_hw: tuple[int, int],
    paint: Callable[[np.ndarray, Masks], np.ndarray],
    *,
    audio: bool,
    alpha: bool,
) -> Progress:
    """Every frame through `paint`, at the clip's own times and with its sound."""
    with VideoWriter(path, size_hw, audio_from=_sound_file(clip, audio), span=clip.span, alpha=alpha) as writer:
        for index, frame, masks in frames_with_masks(clip, masks_of):
            writer.write(paint(frame, masks), clip.timestamps[index])
            if index + 1 < len(clip):
                yield index + 1
    yield len(clip)
    return writer.notes


def _painter(effect: str | EffectPainter, names: Names | None) -> EffectPainter:
    if isinstance(effect, EffectPainter):
        effect.reset()
        return effect
    return EffectPainter(effect, names=names)


def _sound_file(clip: Clip, audio: bool) -> Path | None:
    return clip.path if audio and clip.has_audio else None


def _on_white(painted: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] from [H, W, 3], or from [H, W, 4] whose alpha is 0 or 255."""
    if painted.shape[2] == 3:
        return painted
    return np.where(painted[..., 3:] > 0, painted[..., :3], 255).astype(np.uint8)
