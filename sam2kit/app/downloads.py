"""The files that the tabs hand out. Those of a clip are written frame by frame from a snapshot of the session, so that
they can be stopped, and work can go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from sam2kit.app.components import ERRORS, as_error, in_words, plain_words, readable_stem
from sam2kit.app.editor import snapshot
from sam2kit.app.page import SKIP
from sam2kit.app.store import TabStore
from sam2kit.app.work import Workspace
from sam2kit.data.mask_exports import coco_json, export_coco, export_davis, export_table, picture_table
from sam2kit.files import FileBundle, write_json
from sam2kit.media.effects import EffectPainter, combined
from sam2kit.media.mask_files import NamedMask, cut_out, mask_image, overlap, overlap_name, png_bytes, write_image
from sam2kit.media.video_exports import Progress, export_alpha, export_gif, export_video
from sam2kit.predict.session import Session

PICTURE_FILES = {
    "mask": "Masks of all objects (PNG)",
    "each": "One PNG of each object (zip)",
    "cutout": "Cut-out of the chosen object (PNG)",
    "coco": "COCO JSON of all objects",
    "table": "Table of all objects (CSV)",
}
CLIP_FILES = {
    "video": "Video with effect",
    "side": "Side by side",
    "gif": "GIF",
    "alpha": "Transparent (WebM)",
    "masks": "Masks (PNG zip)",
    "coco": "COCO JSON",
    "table": "Table (CSV)",
}
_SUFFIXES = {
    "video": "_{effect}.mp4",
    "side": "_side_by_side.mp4",
    "gif": "_{effect}.gif",
    "alpha": "_alpha.webm",
    "masks": "_masks.zip",
    "coco": "_coco.json",
    "table": "_table.csv",
}
_SAY_EVERY = 0.3  # seconds between reports


@dataclass
class Downloads:
    """The handlers that write files; each gives the file and a line about it."""

    store: TabStore[Workspace]

    def picture_file(self, kind: str, key: str) -> str:
        """Write one of PICTURE_FILES; its path."""
        with self.store.using(key) as work:
            objects = work.editor.finished() if work.is_open else []
            if not objects:
                raise gr.Error("There is no mask yet: click on something first.", print_exception=False)
            with as_error():
                return str(_picture_file(work, kind, objects))

    def session_file(self, key: str) -> tuple[str, str]:
        """Write the session, to go on another day."""
        with self.store.using(key) as work:
            if not work.is_open or all(item.is_empty for item in work.session.objects.values()):
                raise gr.Error("There is nothing to save yet: click on something first.", print_exception=False)
            path = work.file.downloads / f"{readable_stem(work.file.name)}.session.safetensors"
            work.session.save(path, with_path=False)
            holds = "the picture, too." if work.session.is_picture else "no frames: keep it with the clip."
        return str(path), f"{path.name} is ready. It holds {holds}"

    def clip_file(self, kind: str, key: str, objects: str, background: str, labels: bool) -> Iterator[tuple[Any, Any]]:
        """Write one of CLIP_FILES; the file comes last, and None if it was stopped."""
        with self.store.using(key) as work:
            if not work.is_open or not any(i.prompted or i.tracked for i in work.session.objects.values()):
                raise gr.Error("There is no mask yet: click on something and press Track.", print_exception=False)
            still, folder, stem = snapshot(work.session), work.file.downloads, Path(work.file.name).stem
            colours = {still.objects[i].number: colour for i, colour in work.editor.colours_by_id().items()}
            writing, stopped = work.writing, work.writing.stopped
        title, total = CLIP_FILES[kind], len(still.frames)
        yield None, writing.say(kind, f"Preparing: {title} …")
        todo = sum(not still.masks(frame).object_ids for frame in still.frames)
        missing = f" {todo} frames are not tracked and have no mask." if todo else ""
        started = said = time.perf_counter()
        file: str | None = None
        problem: Exception | None = None
        ending = f"{title}: no file was made."
        try:
            effect = combined(objects, background)
            path, steps = start_clip_file(kind, still, folder, stem, effect, labels=labels, colours=colours)
            with closing(steps):
                while not stopped.is_set():
                    try:
                        done = next(steps)
                    except StopIteration as end:
                        file, ending = str(path), f"{path.name} is ready.{missing}"
                        for note in end.value or ():
                            gr.Warning(plain_words(note))
                        break
                    now = time.perf_counter()
                    if now - said > _SAY_EVERY:
                        left, said = in_words((now - started) / done * (total - done)), now
                        yield SKIP, writing.say(kind, f"{title}: {done} of {total} frames, about {left} left.")
        except ERRORS as error:
            problem = error
        finally:
            text = writing.say(kind, ending, ended=True)
        yield file, text
        if problem is not None:
            with as_error():
                raise problem

    def stop_writing(self, key: str) -> None:
        """Stop writing; tracking goes on."""
        with self.store.using(key) as work:
            work.writing.stop()


def start_clip_file(
    kind: str,
    session: Session,
    folder: Path,
    stem: str,
    effect: str,
    *,
    labels: bool,
    colours: Mapping[int, int] | None = None,
) -> tuple[Path, Progress]:
    """Begin to write one of CLIP_FILES, of the frames that are worked on; objects go by their numbers in it.

    Args:
        session: that does not change, see `snapshot`.
        labels: whether names are written beside the objects.
        colours: object number -> what `colour_of` makes its colour of.
    Returns:
        the path that will be there at the end, and the generator that writes it.
    Raises:
        ValueError: if the kind cannot show the effect.
    """
    frames, clip = session.frames, session.clip
    if len(frames) < len(clip):
        clip = clip.cut(frames.start, frames.stop, frames.step)
    path = folder / f"{stem}{_SUFFIXES[kind].format(effect=effect.replace('+', '_'))}"
    names = {item.number: item.name for item in session.objects.values()}

    def masks_of(place: int) -> Iterator[tuple[int, np.ndarray]]:
        found = session.masks(frames[place])
        return zip(found.numbers, found.masks, strict=True)

    feather = session.options.feather
    painter = EffectPainter(effect, names=names if labels else None, colours=colours, feather=feather)
    if kind == "video" and painter.makes_alpha:
        raise ValueError("an MP4 has no transparency; take “Transparent (WebM)”, or another effect")
    writers: dict[str, Callable[[], Progress]] = {
        "video": lambda: export_video(clip, masks_of, path, painter),
        "side": lambda: export_video(clip, masks_of, path, painter, side_by_side=True),
        "gif": lambda: export_gif(clip, masks_of, path, painter),
        "alpha": lambda: export_alpha(clip, masks_of, path, feather=feather),
        "masks": lambda: export_davis(clip, masks_of, path),
        "coco": lambda: export_coco(clip, masks_of, path, names=names),
        "table": lambda: export_table(session.clip, session.masks, path, frames=frames),
    }
    return path, writers[kind]()


def _picture_file(work: Workspace, kind: str, objects: Sequence[NamedMask]) -> Path:
    feather = work.session.options.feather
    image, target = work.session.clip.frame(work.editor.frame), work.file.downloads / readable_stem(work.file.name)
    if kind == "coco":
        content = coco_json(objects, work.file.name, image.shape[:2])
        return write_json(content, target.with_name(f"{target.name}_coco.json"))
    if kind == "table":
        return picture_table(objects, target.with_name(f"{target.name}_table.csv"))
    if kind == "cutout":
        name = work.editor.active.name
        chosen = next((o for o in objects if o.name == name), None)
        if chosen is None:
            raise ValueError(f"{name} has no mask yet: click on it first, or choose another in the list")
        of = f"_{readable_stem(name)}" if len(objects) > 1 else ""
        return write_image(cut_out(image, chosen.mask, feather), target.with_name(f"{target.name}{of}_cutout.png"))
    overlaps = kind != "each" and len(objects) > 1 and overlap(item.mask for item in objects)
    if kind == "each" or overlaps:
        if overlaps:
            gr.Info("Objects overlap: the zip holds one PNG of all and one of each, so that nothing is lost.")
        name, path = f"{target.name}_mask.png", target.with_name(f"{target.name}_masks.zip")
        with FileBundle(path) as bundle:
            bundle.write(name, png_bytes(mask_image(objects)))
            for number, item in enumerate(objects, start=1):
                bundle.write(overlap_name(number, name), png_bytes(mask_image([item], feather)))
        return path
    return write_image(mask_image(objects, feather), target.with_name(f"{target.name}_mask.png"))
