"""Tracking in the Video tab: how long it will take, frame by frame with a live picture, Stop and Go on.

The visitor's lock is taken for one frame at a time, so that the slider and Stop answer meanwhile. What is done stays,
whatever happens: the session is consistent between any two frames. No page is given out while the lock is held: the
next step of a generator may run in another thread, which could not release it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr

from sam2kit.predict.session import VideoSession
from sam2kit.predict.video import Direction
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.tab_parts import ERRORS, plain_words
from sam2kit.ui.turns import Turn, Turns, waiting_text
from sam2kit.ui.video_models import in_words, seconds_per_frame, still_of
from sam2kit.ui.video_page import RUNNING, SKIP, Page, Pages, empty_page
from sam2kit.ui.video_view import pace_text, takes_long, troubled_frames
from sam2kit.ui.video_work import VideoWork

_SHOW_EVERY = 0.35  # seconds between frames that are shown while tracking runs
_LOOK_AGAIN = 0.5  # seconds between looks at the queue


@dataclass
class VideoTracking:
    """The handlers that track."""

    store: SessionStore[VideoWork]
    pages: Pages
    jobs: Turns  # one visitor tracks at a time; the others are told their place

    def estimate(self, key: str) -> Page:
        """Say how long tracking will take; the session stays as it is."""
        with self.store.using(key) as work:
            session = work.session
            if session is None or work.busy or not work.prompted_objects:
                return Page(pace="")
            count, predictor = work.prompted_objects, work.predictor
            still = None if count in work.pace else still_of(session, with_features=True)
        measured: dict[int, float] = {}
        if still is not None:
            try:
                measured[count] = seconds_per_frame(predictor, still)
            except ERRORS as error:  # the clip was closed, or cannot be read there
                return Page(pace=plain_words(error))
        with self.store.using(key) as work:
            if work.session is not session:
                return Page()
            work.pace |= measured
            is_long, first_time = takes_long(work), not work.warned
            work.warned |= is_long
            opened = gr.update(open=True) if is_long and first_time else SKIP
            return Page(pace=pace_text(work), shorten=opened)

    def track(self, key: str) -> Iterator[Page]:
        """Track the whole clip from the prompts, both ways."""
        yield from self._track(key, lambda work: work.plan(None, "both"))

    def track_from_here(self, key: str, direction: Direction) -> Iterator[Page]:
        """Track from the frame that is shown, with all that is known."""
        yield from self._track(key, lambda work: work.plan(work.frame, direction))

    def resume(self, key: str) -> Iterator[Page]:
        """Go on where tracking was stopped."""
        yield from self._track(key, lambda work: len(work.open_session.plan), ask=False)

    def begin(self, key: str) -> None:
        """Before a job that may be stopped: forget a Stop that was meant for another."""
        self.store.cancelled(key).clear()

    def stop(self, key: str) -> None:
        """Ask the running or waiting job to stop."""
        self.store.cancelled(key).set()

    def _track(self, key: str, plan: Callable[[VideoWork], int], *, ask: bool = True) -> Iterator[Page]:
        """Begin, unless it takes long and the visitor has not been asked yet."""
        with self.store.using(key) as work:
            refused, page = _refusal(work), None
            if refused is not None:
                gr.Warning(refused)
                page = self.pages.of_step(work, key, None) if work.is_open else empty_page()
            ask, measured = ask and not work.warned, refused is None and work.prompted_objects in work.pace
        if page is not None:
            yield page
            return
        if ask:
            if not measured:
                yield Page(status="Measuring how long this will take …")
            told = self.estimate(key)
            with self.store.using(key) as work:
                is_long = work.warned
            if is_long:
                yield told._replace(
                    status="This takes long: shorten the clip, or press the button again to track it all."
                )
                return
            yield told
        with self.store.using(key) as work:
            refused = _refusal(work)  # the visitor may have done something while we measured
            begun = self._begin(work, key, plan) if refused is None else None
            page = self.pages.beside(work, None) if work.is_open else empty_page()
        if begun is None:
            gr.Warning(refused or "")
            yield page
            return
        with self.jobs.join(key) as turn:
            yield from self._run(key, work, *begun, turn)

    def _begin(self, work: VideoWork, key: str, plan: Callable[[VideoWork], int]) -> tuple[VideoSession, int, Page]:
        total = plan(work)
        work.busy, work.follows, work.previews, work.playing = True, True, False, False
        return work.open_session, total, self.pages.of_step(work, key, f"Tracking {total} frames …")

    def _run(
        self, key: str, work: VideoWork, session: VideoSession, total: int, first: Page, turn: Turn
    ) -> Iterator[Page]:
        """Track frame by frame; after each one, everybody else may have the visitor's lock."""
        cancelled, hint, done = self.store.cancelled(key), "", 0
        try:
            yield first
            while not turn.wait(_LOOK_AGAIN) and not cancelled.is_set():
                yield Page(status=waiting_text(turn.before))
            steps, started = work.predictor.resume(session), time.perf_counter()
            shown = started
            while True:
                page = None
                with self.store.still(key) as there:
                    if there is not work or work.session is not session or work.put_aside:
                        return  # another clip was opened or is wanted, or the visitor left
                    if cancelled.is_set():
                        hint = f"Stopped; {done} of {total} frames are done. Correct and track again, or press Go on."
                        break
                    masks = next(steps, None)
                    if masks is None:
                        hint = _summary(work, total)
                        break
                    done += 1
                    work.pace[work.prompted_objects] = (time.perf_counter() - started) / done
                    if work.follows:
                        work.go_to(masks.frame_index)
                    now = time.perf_counter()
                    if now - shown > _SHOW_EVERY:
                        left = (now - started) / done * (total - done)
                        says = f"Tracking: {done} of {total} frames, about {in_words(left)} left."
                        page = self.pages.of_step(work, key, says)
                        shown = now
                if page is None:
                    time.sleep(0.001)  # lets those have the lock who wait for it
                else:
                    yield page
        except ERRORS as error:  # such as a frame that cannot be read any more, or no memory left
            hint = f"Tracking ended after {done} frames, which are kept: {plain_words(error)}"
            gr.Warning(hint)
        finally:
            # without the lock: Gradio closes the generator of a page that is gone on the thread that serves everybody
            if work.session is session:
                work.busy = False
        with self.store.still(key) as there:
            page = self.pages.of_step(work, key, hint) if there is work and work.session is session else None
        if page is not None:
            yield page


def _refusal(work: VideoWork) -> str | None:
    """Why tracking cannot begin, or None."""
    if not work.is_open:
        return "Choose a video first."
    if work.busy:
        return RUNNING
    if work.corner is not None:
        return "Half a box is drawn: click its opposite corner, or press Undo."
    if not work.prompted_objects:
        return "There is nothing to track yet: click on something first."
    return None


def _summary(work: VideoWork, total: int) -> str:
    troubled = troubled_frames(work)
    if not troubled:
        return f"Done: {total} frames tracked."
    return f"Done: {total} frames tracked; {troubled} are uncertain or lost. Correct any frame and track again."
