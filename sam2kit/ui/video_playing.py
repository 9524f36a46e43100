"""Playing in the Video tab: frames follow one another at the clip's own pace, as many as the connection carries."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

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
        with self.store.using(key) as work:
            if not work.is_open or work.busy:
                gr.Warning(RUNNING if work.busy else "Choose a video first.")
                page = self.pages.beside(work, None) if work.is_open else empty_page()
            else:
                page = None
                work.playing = not work.playing
                if work.playing and work.frame == len(work.part) - 1:
                    work.go_to(0)
                session, begin = work.session, work.frame
                times = [float(t) for t in session.clip.timestamps]
        if page is not None:
            yield page
            return
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
            page = self.pages.of_step(work, key, None) if there is work and work.session is session else Page()
        yield page
