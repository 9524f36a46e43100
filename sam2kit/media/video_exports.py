"""The masks of a clip as videos to look at: an effect at the clip's own times, side by side, a GIF, cut out with alpha.

Every export, also those of data/mask_exports.py, is a generator of how many frames are done, so that progress and
cancelling come free: stop asking (or close it) and nothing is left on the disk. The last number comes when the result
is in its place. Masks come from a function, so that only one frame's are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sam2kit.files import FileBundle, atomic_write
from sam2kit.media.clip import Clip
from sam2kit.media.clips import frame_at
from sam2kit.media.effects import EffectPainter
from sam2kit.media.mask_files import png_bytes
from sam2kit.media.video_writer import VideoWriter

# frame -> object ids with their masks bool [H, W]; absent objects are missing or empty; a session's `masks` will do
# (ids are Hashable; Any says so where a type checker would not take a Mapping of numbers for one of Hashables)
MasksOf = Callable[[int], Mapping[Any, np.ndarray] | Iterable[tuple[Hashable, np.ndarray]]]
Names = Mapping[Any, str]
Progress = Generator[int, None, tuple[str, ...]]  # returns sentences that say what could not be taken over
FrameMasksById = dict[Hashable, np.ndarray]


def masks_on(masks_of: MasksOf, index: int, clip: Clip) -> FrameMasksById:
    """The masks of a frame that are not empty, as object id -> bool [H, W].

    Raises:
        ValueError: if one has another size than the clip.
    """
    masks = dict(masks_of(index))
    for object_id, mask in masks.items():
        if np.shape(mask) != tuple(clip.size_hw):
            raise ValueError(
                f"the mask of object {object_id} in frame {index} is {list(np.shape(mask))}, "
                f"but the clip is {list(clip.size_hw)}; give bool [H, W] in the clip's size"
            )
    return {object_id: np.asarray(mask, bool) for object_id, mask in masks.items() if np.any(mask)}


def part_of(clip: Clip, masks_of: MasksOf, frames: range | None) -> tuple[Clip, MasksOf]:
    """Some frames of a clip and their masks, counted from 0."""
    if frames is None:
        return clip, masks_of
    return clip.cut(frames.start, min(frames.stop, len(clip)), frames.step), lambda index: masks_of(frames[index])


def each_frame(clip: Clip, masks_of: MasksOf, write: Callable[[int, FrameMasksById], None]) -> Iterator[int]:
    """Hand every frame's number and masks to `write`; yields how many are done, but for the last."""
    for index in range(len(clip)):
        write(index, masks_on(masks_of, index, clip))
        if index + 1 < len(clip):
            yield index + 1


def export_video(
    clip: Clip,
    masks_of: MasksOf,
    path: str | Path,
    effect: str | EffectPainter,
    *,
    audio: bool = True,
    names: Names | None = None,
    frames: range | None = None,
    side_by_side: bool = False,
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
        frames: of the clip; None takes all.
        side_by_side: the clip itself, and to its right the clip with the effect.
    Yields:
        the number of frames done, from 1 on.
    Returns:
        sentences that say what could not be taken over, such as broken sound.
    Raises:
        ValueError: if the effect is unknown, a mask does not fit, or the file type cannot hold the result.
    """
    clip, masks_of = part_of(clip, masks_of, frames)
    painter, (height, width) = _painter(effect, names), clip.size_hw
    size_hw = (height, 2 * width if side_by_side else width)
    sound = clip.path if audio and clip.has_audio else None
    alpha = painter.makes_alpha and not side_by_side
    with VideoWriter(path, size_hw, audio_from=sound, span=clip.span, alpha=alpha) as writer:

        def write(index: int, masks: FrameMasksById) -> None:
            frame = clip.frame(index)
            painted = painter.paint(frame, masks)
            shown = np.hstack([frame, _on_white(painted)]) if side_by_side else painted
            writer.write(shown, clip.timestamps[index])

        yield from each_frame(clip, masks_of, write)
    yield len(clip)
    return writer.notes


def export_gif(
    clip: Clip,
    masks_of: MasksOf,
    path: str | Path,
    effect: str | EffectPainter,
    *,
    fps: float = 10.0,
    width: int = 480,
    names: Names | None = None,
    frames: range | None = None,
) -> Progress:
    """A small animation that plays anywhere; frames are picked at a constant rate and kept in memory until the end.

    Args:
        clip, masks_of, effect, names, frames: as for `export_video`.
        path: ends in .gif.
        fps: frames per second, at most 50; the clip's own rate if that is lower.
        width: in pixels; smaller clips keep their size.
    Yields:
        the number of the clip's frames done, rising to len(clip).
    """
    from moviepy import ImageSequenceClip

    clip, masks_of = part_of(clip, masks_of, frames)
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
    with atomic_write(path, path.with_name(f"{path.stem}.part.gif")) as unfinished:
        ImageSequenceClip(pictures, fps=fps).write_gif(str(unfinished), fps=fps, logger=None)
    yield len(clip)
    return ()


def export_alpha(
    clip: Clip,
    masks_of: MasksOf,
    path: str | Path,
    *,
    audio: bool = True,
    frames: range | None = None,
    feather: float = 0.0,
) -> Progress:
    """The objects alone, on a transparent ground.

    Args:
        clip, masks_of, frames: as for `export_video`.
        path: .webm (VP9, for browsers), .mov (ProRes 4444, for editors), .zip or a new folder (00000.png, ...).
        audio: take the sound of the clip's file, into .webm and .mov.
        feather: pixels over which the objects' edges fade.
    Yields:
        the number of frames done, from 1 on.
    Raises:
        ValueError: if the file type holds no transparency, or the folder is not empty.
    """
    painter = EffectPainter("cut_out", feather=feather)
    if Path(path).suffix.lower() not in ("", ".zip"):
        return (yield from export_video(clip, masks_of, path, painter, audio=audio, frames=frames))
    clip, masks_of = part_of(clip, masks_of, frames)
    with FileBundle(path) as bundle:

        def write(index: int, masks: FrameMasksById) -> None:
            painted = painter.paint(clip.frame(index), masks)
            bundle.write(f"{index:05d}.png", png_bytes(Image.fromarray(painted)))

        yield from each_frame(clip, masks_of, write)
    yield len(clip)
    return ()


def _painter(effect: str | EffectPainter, names: Names | None) -> EffectPainter:
    if isinstance(effect, EffectPainter):
        effect.reset()
        return effect
    return EffectPainter(effect, names=names)


def _on_white(painted: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] from [H, W, 3], or from [H, W, 4] with alpha."""
    if painted.shape[2] == 3:
        return painted
    share = painted[..., 3:].astype(np.float32) / 255
    return (painted[..., :3] * share + 255 * (1 - share)).astype(np.uint8)
