"""The downloads of the Video tab: written frame by frame from a still copy of the session, so that work can go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sam2kit.clicking.clip_view import colours_of
from sam2kit.media.effects import combined
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.tab_parts import ERRORS, plain_words
from sam2kit.ui.video_downloads import DOWNLOADS, start_download
from sam2kit.ui.video_models import in_words, still_of
from sam2kit.ui.video_page import SKIP
from sam2kit.ui.video_work import VideoWork

_SAY_EVERY = 0.3  # seconds between reports


@dataclass
class VideoSaving:
    """The handlers that write files; each gives the file and the status line."""

    store: SessionStore[VideoWork]

    def make_file(self, key: str, kind: str, objects: str, background: str, labels: bool) -> Iterator[tuple[Any, Any]]:
        """Write one of DOWNLOADS; the file comes last, and None if it was stopped."""
        yield None, f"Preparing: {DOWNLOADS[kind]} …"
        with self.store.using(key) as work:
            if not work.is_open or not any(t.prompted or t.tracked for t in work.open_session.tracks.values()):
                raise gr.Error("There is no mask yet: click on something and press Track.", print_exception=False)
            still, names = still_of(work.open_session), work.objects.by_id
            folder, stem, colours = work.files.downloads, work.files.stem, colours_of(work)
            stopped = work.writing_stopped
            stopped.clear()
        total, todo = len(still), sum(not still.masks(f).object_ids for f in range(len(still)))
        started = said = time.perf_counter()
        notes: tuple[str, ...] = ()
        try:
            effect = combined(objects, background)
            path, steps = start_download(kind, still, folder, stem, effect, names, labels=labels, colours=colours)
            while True:
                try:
                    done = next(steps)
                except StopIteration as end:
                    notes = end.value or ()
                    break
                if stopped.is_set():
                    steps.close()
                    yield None, "Stopped; no file was made."
                    return
                now = time.perf_counter()
                if now - said > _SAY_EVERY:
                    left = in_words((now - started) / done * (total - done))
                    said = now
                    yield SKIP, f"{DOWNLOADS[kind]}: {done} of {total} frames, about {left} left."
        except ERRORS as error:
            raise gr.Error(plain_words(error), print_exception=False) from error
        for note in notes:
            gr.Warning(plain_words(note))
        missing = f" {todo} frames are not tracked and have no mask." if todo else ""
        yield str(path), f"{path.name} is ready.{missing}"

    def stop(self, key: str) -> None:
        """Stop writing; tracking goes on."""
        with self.store.using(key) as work:
            work.writing_stopped.set()

    def make_session_file(self, key: str) -> tuple[str, str]:
        """Write the session, to go on another day."""
        with self.store.using(key) as work:
            if not work.is_open or not work.open_session.tracks:
                raise gr.Error("There is nothing to save yet: click on something first.", print_exception=False)
            path = work.files.downloads / f"{work.files.stem}.session.safetensors"
            work.predictor.save(work.whole_session(), path, with_path=False)
        return str(path), f"{path.name} is ready. Keep it with the clip: it holds no frames."
