"""The downloads of the Video tab: written frame by frame from a still copy of the session, so that work can go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
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
    """The handlers that write files; each gives the file and a line about it."""

    store: SessionStore[VideoWork]

    def make_file(self, key: str, kind: str, objects: str, background: str, labels: bool) -> Iterator[tuple[Any, Any]]:
        """Write one of DOWNLOADS; the file comes last, and None if it was stopped."""
        with self.store.using(key) as work:
            if not work.is_open or not any(t.prompted or t.tracked for t in work.open_session.tracks.values()):
                raise gr.Error("There is no mask yet: click on something and press Track.", print_exception=False)
            still, names = still_of(work.open_session), work.objects.by_id
            folder, stem, colours = work.files.downloads, work.files.stem, colours_of(work)
            writing, stopped = work.writing, work.writing.stopped
        yield None, writing.say(kind, f"Preparing: {DOWNLOADS[kind]} …")
        total, todo = len(still), sum(not still.masks(f).object_ids for f in range(len(still)))
        started = said = time.perf_counter()
        file: str | None = None
        problem: Exception | None = None
        notes: tuple[str, ...] = ()
        says = f"{DOWNLOADS[kind]}: no file was made."
        try:
            effect = combined(objects, background)
            path, steps = start_download(
                kind, still, folder, stem, effect, names, labels=labels, colours=colours, from_zero=True
            )
            with closing(steps):
                while not stopped.is_set():
                    try:
                        done = next(steps)
                    except StopIteration as end:
                        file, notes = str(path), end.value or ()
                        missing = f" {todo} frames are not tracked and have no mask." if todo else ""
                        says = f"{path.name} is ready.{missing}"
                        break
                    now = time.perf_counter()
                    if now - said > _SAY_EVERY:
                        left, said = in_words((now - started) / done * (total - done)), now
                        line = f"{DOWNLOADS[kind]}: {done} of {total} frames, about {left} left."
                        yield SKIP, writing.say(kind, line)
        except ERRORS as error:
            problem = error
        finally:
            text = writing.say(kind, says, ended=True)
        for note in notes:
            gr.Warning(plain_words(note))
        yield file, text
        if problem is not None:
            raise gr.Error(plain_words(problem), print_exception=False) from problem

    def stop(self, key: str) -> None:
        """Stop writing; tracking goes on."""
        with self.store.using(key) as work:
            work.writing.stop()

    def make_session_file(self, key: str) -> tuple[str, str]:
        """Write the session, to go on another day."""
        with self.store.using(key) as work:
            if not work.is_open or not work.open_session.tracks:
                raise gr.Error("There is nothing to save yet: click on something first.", print_exception=False)
            path = work.files.downloads / f"{work.files.stem}.session.safetensors"
            work.predictor.save(work.whole_session(), path, with_path=False)
        return str(path), f"{path.name} is ready. Keep it with the clip: it holds no frames."
