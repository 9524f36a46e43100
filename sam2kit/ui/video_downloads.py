"""The files that the Video tab hands out, each written frame by frame so that it can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import cast

import numpy as np

from sam2kit.media.clip_masks import Names, Progress
from sam2kit.media.effects import EffectPainter
from sam2kit.media.mask_exports import export_coco, export_davis
from sam2kit.media.video_exports import export_alpha, export_gif, export_side_by_side, export_video
from sam2kit.predict.session import VideoSession

DOWNLOADS = {
    "video": "Video with effect",
    "side": "Side by side",
    "gif": "GIF",
    "alpha": "Transparent (WebM)",
    "masks": "Masks (PNG zip)",
    "coco": "COCO JSON",
}
ALL_OBJECTS = "Each file holds all objects; several can be made at once."
_SUFFIXES = {
    "video": "_{effect}.mp4",
    "side": "_side_by_side.mp4",
    "gif": "_{effect}.gif",
    "alpha": "_alpha.webm",
    "masks": "_masks.zip",
    "coco": "_coco.json",
}


class Writing:
    """The downloads of one clip that are being made, or are ready since the visitor's latest step."""

    def __init__(self) -> None:
        self.stopped = Event()  # of those that are being made; set to end them
        self._running: dict[str, str] = {}  # kind -> what is said of it
        self._ended: dict[str, str] = {}

    @property
    def text(self) -> str:
        """A line for each, or what the buttons do."""
        return "  \n".join([*self._running.values(), *self._ended.values()]) or ALL_OBJECTS

    def say(self, kind: str, text: str, *, ended: bool = False) -> str:
        """Say something of one of them; returns what is to be shown."""
        here, there = (self._ended, self._running) if ended else (self._running, self._ended)
        there.pop(kind, None)
        here[kind] = text
        return self.text

    def forget_ended(self) -> None:
        """Those that are ready need not be spoken of any more."""
        self._ended.clear()

    def stop(self) -> None:
        """End those that are being made; later ones are not meant."""
        self.stopped.set()
        self.stopped = Event()


def start_download(
    kind: str,
    session: VideoSession,
    folder: Path,
    stem: str,
    effect: str,
    names: Names,
    *,
    labels: bool,
    colours: Mapping[int, int] | None = None,
    from_zero: bool = False,
) -> tuple[Path, Progress]:
    """Begin to write a file.

    Args:
        kind: one of DOWNLOADS.
        session: a still one, see `still_of`.
        folder: where the file goes.
        stem: what its name begins with.
        effect: what EffectPainter takes.
        names: object number -> name.
        labels: whether names are written beside the objects.
        colours: of the objects, as EffectPainter takes them.
        from_zero: the objects' ids are numbers from 0, as on the page; files, where 0 is nothing, count them from 1.
    Returns:
        the path that will be there at the end, and the generator that writes it.
    Raises:
        ValueError: if the kind cannot show the effect.
    """
    clip, masks_of = session.clip, session.masks
    path = folder / f"{stem}{_SUFFIXES[kind].format(effect=effect.replace('+', '_'))}"

    def filed_id(object_id: Hashable) -> Hashable:
        return cast(int, object_id) + 1 if from_zero else object_id

    def filed(frame: int) -> Iterator[tuple[Hashable, np.ndarray]]:
        return ((filed_id(object_id), mask) for object_id, mask in session.masks(frame))

    painter = EffectPainter(effect, names=names if labels else None, colours=colours)
    if kind == "video" and painter.makes_alpha:
        raise ValueError("an MP4 has no transparency; take “Transparent (WebM)”, or another effect")
    writers: dict[str, Callable[[], Progress]] = {
        "video": lambda: export_video(clip, masks_of, path, painter),
        "side": lambda: export_side_by_side(clip, masks_of, path, painter),
        "gif": lambda: export_gif(clip, masks_of, path, painter),
        "alpha": lambda: export_alpha(clip, masks_of, path),
        "masks": lambda: export_davis(clip, filed, path),
        "coco": lambda: export_coco(clip, filed, path, names={filed_id(i): name for i, name in names.items()}),
    }
    return path, writers[kind]()
