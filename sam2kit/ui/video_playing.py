"""Playing in the Video tab: frames follow one another at the clip's own pace, as many as the connection carries."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from sam2kit.predict.session import VideoSession
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.video_page import RUNNING, Page, Pages, empty_page
from sam2kit.ui.video_work import VideoWork

_SHOW_EVERY = 0.12  # seconds; a browser at the other end of a slow line skips frames, not time


@dataclass
class VideoPlaying:
    """The handler that plays."""

    store: SessionStore[VideoWork]
    pages: Pages

    def play(self, key: str) -> Iterator[Page]:
        """Play from the frame that is shown, from the beginning if it is the last one; or stop if it plays."""
        pages: Iterator[Page]
        with self.store.using(key) as work:
            session = work.session
            if session is None or work.busy:
                gr.Warning(RUNNING if work.busy else "Choose a video first.")
                pages = iter([empty_page() if session is None else self.pages.beside(work, None)])
            else:
                work.playing = not work.playing
                if work.playing and work.frame == len(work.part) - 1:
                    work.go_to(0)
                times = [float(t) for t in session.clip.timestamps]
                pages = self._play(key, work, session, times, work.frame)
        yield from pages

    def _play(self, key: str, work: VideoWork, session: VideoSession, times: list[float], begin: int) -> Iterator[Page]:
        """From a frame on, until somebody stops it; frames have their times in seconds."""
        started = time.perf_counter()
        while True:
            with self.store.still(key) as there:
                if there is not work or work.session is not session or not work.playing or work.busy:
                    break
                now = times[begin] + time.perf_counter() - started
                work.go_to(bisect_right(times, now) - 1)
                work.playing = work.frame < len(work.part) - 1
                page = self.pages.of_playing(work, key)
            yield page
            time.sleep(_SHOW_EVERY)
        with self.store.still(key) as there:
            stays = there is work and work.session is session and not work.put_aside
            page = self.pages.of_step(work, key, None) if stays else Page()
        yield page
