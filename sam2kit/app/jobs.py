"""What takes long in the tabs: segment everything, tracking with a live picture, playing. All can be stopped.

The visitor's lock is taken for moments only, so that the page answers meanwhile. What is done stays, whatever happens:
a session is consistent between any two frames. No page is given out while the lock is held: the next step of a
generator may run in another thread, which could not release it.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr
import numpy as np

from sam2kit import doctor
from sam2kit.app.components import ERRORS, as_error, as_warning, in_words, plain_words
from sam2kit.app.editor import snapshot
from sam2kit.app.models import Example, Models, Search, until_stopped
from sam2kit.app.page import (
    GONE,
    RUNNING,
    SKIP,
    Page,
    empty_page,
    estimate_text,
    page_beside,
    page_of_playing,
    page_of_step,
    progress_bar,
    takes_long,
    uncertain_frames,
)
from sam2kit.app.queue import FairQueue
from sam2kit.app.store import TabStore
from sam2kit.app.work import Workspace
from sam2kit.app.zero_gpu import GpuWork, ZeroVideoPredictor, automatic_masks, edge_steps
from sam2kit.data.sample import counted
from sam2kit.media.mask_files import RunLengths
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.alike import AlikeOptions
from sam2kit.predict.automatic import FoundMask, Steps
from sam2kit.predict.refine import coarse_answers, masks_to_refine, take_refined
from sam2kit.predict.session import Session
from sam2kit.predict.video import Direction, VideoPredictor

MakeSteps = Callable[[np.ndarray], Steps[Any]]  # of a search in a frame uint8 [H, W, 3], for a list of something
Take = Callable[[Workspace, int, Sequence[Any]], str]  # puts into the work what was found in a frame, and says so
_SHOW_EVERY = 0.35  # seconds between frames that are shown while tracking runs
_MEASURING = 20  # seconds for which a GPU is lent
_PLAY_EVERY = 0.12  # seconds; a browser at the other end of a slow line skips frames, not time


def _add_found(work: Workspace, frame: int, found: Sequence[FoundMask]) -> str:
    work.predictor.add_found(work.session, frame, found)
    return f"{counted(len(found), 'mask')} found; pick one in the list to refine it with clicks."


@dataclass
class Jobs:
    """The long jobs of a tab."""

    tab: str
    models: Models
    store: TabStore[Workspace]
    queue: FairQueue  # one visitor's job at a time; the others are told their place

    def begin(self, key: str) -> None:
        """Before a job that may be stopped: forget a Stop that was meant for another."""
        self.store.cancelled(key).clear()

    def stop(self, key: str) -> None:
        """Ask the running or waiting job to stop."""
        self.store.cancelled(key).set()

    # segment everything, find alike, find all

    def find_everything(self, key: str, points_per_side: int, min_iou: float, min_stability: float) -> Iterator[Page]:
        """Segment everything in a picture; Stop, or another photo, leaves the work as it was."""
        model = self.models.of(key)
        with as_error():  # the sliders send nothing that is wrong
            options = replace(
                model.everything, points_per_side=int(points_per_side), min_predicted_iou=min_iou,
                min_stability=min_stability,
            )  # fmt: skip

        def steps(image: np.ndarray) -> Steps[list[FoundMask]]:
            return automatic_masks(model.images, options).steps(image)

        nothing = "No mask reached the minimum predicted IoU and stability score; lower them and try again."
        yield from self._find(key, "Segmenting everything", steps, nothing)

    def find_alike(self, key: str, most: float, least: float) -> Iterator[Page]:
        """Find what looks like the chosen object on the frame that is shown; each becomes an object."""
        with as_error():
            options = AlikeOptions(int(most), least)
        with self.store.using(key) as work:
            example = _example(work) if work.is_open and not work.busy else None
            known = _known(work)
            why = RUNNING if work.busy else "Click on one of the things first: the others are found by it."
        if example is None:
            gr.Warning(why)
            yield Page()
            return
        steps = partial(Search(self.models.of(key), example, options).steps, known=known)
        yield from self._find(key, "Finding what is alike", steps, "Nothing is as alike as that: lower it.")

    def find_all(self, key: str) -> Iterator[Page]:
        """Find what the model was fine-tuned to find, on the frame that is shown; each becomes an object."""
        model = self.models.of(key)
        if not model.finds:
            gr.Warning("This model finds nothing by itself: train one in the Fine-tune tab, and use it here.")
            yield Page()
            return
        with self.store.using(key) as work:
            known = _known(work)
        yield from self._find(key, "Finding all", partial(Search(model).steps, known=known), "Nothing new was found.")

    def refine(self, key: str) -> Iterator[Page]:
        """Draw the edges of all masks of a picture anew, at its own size; Stop leaves them as they were."""
        model = self.models.of(key)
        with self.store.using(key) as work:
            coarse = coarse_answers(work.session) if work.is_open else {}
            height, width = work.session.clip.size_hw if work.is_open else (0, 0)
            is_large = max(height, width) > model.images.model.config.side
            masks = masks_to_refine(work.session, coarse) if is_large else []
        nothing = "There is no mask left to refine: click on something first."
        if not is_large:
            nothing = f"Nothing to refine: the model sees this picture of {width}x{height} pixels as it is."

        def steps(image: np.ndarray) -> Steps[list[RunLengths]]:
            return (yield from edge_steps(model.images, image, masks)) if is_large else []

        def take(work: Workspace, _frame: int, finer: Sequence[RunLengths]) -> str:
            taken = take_refined(work.session, coarse, finer)
            return f"The edges of {counted(len(taken), 'mask')} were refined; Undo brings the earlier ones back."

        yield from self._find(key, "Refining edges", steps, nothing, take)

    def _find(
        self, key: str, doing: str, make_steps: MakeSteps, nothing: str, take: Take = _add_found
    ) -> Iterator[Page]:
        """Take what a search in the frame that is shown finds; `nothing` is said where it finds nothing."""
        cancelled = self.store.cancelled(key)
        with self.store.using(key) as work:
            session, frame = (work.session, work.editor.frame) if work.is_open and not work.busy else (None, 0)
            image = None if session is None else session.clip.frame(frame)
        found: list[Any] | None = None

        def how_far(done: int, total: int) -> Page:
            return Page(status=f"{doing}: {done} of {total} steps", progress=progress_bar(done, total))

        can_stop = gr.update(interactive=True)
        yield Page(find=gr.update(interactive=False), stop_find=can_stop, stop_refine=can_stop)
        with self.queue.join(key) as turn:
            yield from (Page(progress=text) for text in turn.wait_texts(cancelled))
            if image is not None and not cancelled.is_set():
                yield Page(status=f"{doing} …", progress=progress_bar(0, 1))
                with as_warning():
                    found = yield from until_stopped(make_steps(image), cancelled, how_far)
        page = Page()  # Gradio empties all parts where a generator yields nothing
        with self.store.still(key) as there:
            if there is not None and not there.put_aside:  # else the visitor has left, or wants another photo
                same = session is not None and there.works_on(session) and not there.busy
                page = empty_page(self.tab)
                if there.is_open:
                    hint = "Stopped; nothing was changed."
                    if same and found is not None:
                        hint = nothing
                        with as_warning():
                            hint = take(there, frame, found) if found else nothing
                    page = page_of_step(there, key, hint)
        over = gr.update(interactive=False)
        yield page._replace(find=gr.update(interactive=True), stop_find=over, stop_refine=over, progress="")

    # tracking

    def estimate(self, key: str) -> Page:
        """Say how long tracking will take; the session stays as it is."""
        with self.store.using(key) as work:
            if not work.is_open or work.busy or not work.prompted_objects:
                return Page(estimate="")
            session, count, predictor = work.session, work.prompted_objects, work.predictor
            still = None if count in work.seconds else snapshot(session, with_features=True)
        measured: dict[int, float] = {}
        if still is not None:
            try:
                measured[count] = seconds_per_frame(predictor, still)
            except ERRORS as error:  # the clip was closed, or cannot be read there
                return Page(estimate=plain_words(error))
        with self.store.using(key) as work:
            if not work.works_on(session):
                return Page()
            work.seconds |= measured
            asks = takes_long(work) and not work.warned
            work.warned |= asks
            return Page(estimate=estimate_text(work), shorten=gr.update(open=True) if asks else SKIP)

    def track(self, key: str) -> Iterator[Page]:
        """Track the whole clip from the prompts, both ways."""
        yield from self._track(key, lambda work: work.plan(None, "both"))

    def track_from_here(self, key: str, direction: Direction) -> Iterator[Page]:
        """Track from the frame that is shown, with all that is known."""
        yield from self._track(key, lambda work: work.plan(work.editor.frame, direction))

    def resume(self, key: str) -> Iterator[Page]:
        """Go on where tracking was stopped."""
        yield from self._track(key, lambda work: len(work.session.plan), ask=False)

    def _track(self, key: str, plan: Callable[[Workspace], int], *, ask: bool = True) -> Iterator[Page]:
        """Begin, unless it takes long and the visitor has not been asked yet."""
        with self.store.using(key) as work:
            can_begin = _refusal(work) is None
            ask, measured = ask and can_begin and not work.warned, can_begin and work.prompted_objects in work.seconds
        if ask:
            if not measured:
                yield Page(status="Measuring how long this will take …")
            estimated = self.estimate(key)
            with self.store.using(key) as work:
                is_long = work.warned
            if is_long:
                long = "This takes long: shorten the clip, or press the button again to track it all."
                yield estimated._replace(status=long)
                return
            yield estimated
        with self.store.using(key) as work:
            refused = _refusal(work)  # the visitor may have done something while we measured
            try:
                total = plan(work) if refused is None else 0
            except ERRORS as error:
                refused, total = plain_words(error), 0
            if refused is None:
                work.busy, work.follows, work.previews, work.playing = True, True, False, False
                first = page_of_step(work, key, f"Tracking {total} frames …")
                pages = self._run(key, work, work.session, total, first)
            else:
                gr.Warning(refused)
                pages = iter([page_of_step(work, key) if work.is_open else empty_page(self.tab)])
        yield from pages

    def _run(self, key: str, work: Workspace, session: Session, total: int, first: Page) -> Iterator[Page]:
        """Track frame by frame; after each one, everybody else may have the visitor's lock."""
        cancelled, turn, hint, done = self.store.cancelled(key), self.queue.join(key), "", 0
        try:
            yield first
            yield from (Page(status=text) for text in turn.wait_texts(cancelled))
            steps, started = work.predictor.resume(session), time.perf_counter()
            shown = started
            while True:
                page = None
                with self.store.still(key) as there:
                    if there is None:
                        break
                    if there is not work or not work.works_on(session) or work.put_aside:
                        return  # another clip was opened or is wanted
                    if cancelled.is_set():
                        hint = f"Stopped; {done} of {total} frames are done. Correct and track again, or press Go on."
                        break
                    masks = next(steps, None)
                    if masks is None:
                        hint = _summary(work, total)
                        break
                    done, now = done + 1, time.perf_counter()
                    each = work.seconds[work.prompted_objects] = (now - started) / done
                    if work.follows:
                        work.editor.go_to(masks.frame_index)
                    if now - shown > _SHOW_EVERY:
                        hint = f"Tracking: {done} of {total} frames, about {in_words(each * (total - done))} left."
                        page, shown = page_of_step(work, key, hint), now
                if page is None:
                    time.sleep(0.001)  # lets those have the lock who wait for it
                else:
                    yield page
        except ERRORS as error:  # such as a frame that cannot be read any more, or no memory left
            hint = f"Tracking ended after {done} frames, which are kept: {plain_words(error)}"
            gr.Warning(hint)
        finally:
            turn.leave()
            # without the lock: Gradio closes the generator of a page that is gone on the thread that serves everybody
            if work.works_on(session):
                work.busy = False
        with self.store.still(key) as there:
            page = page_of_step(work, key, hint) if there is work and work.works_on(session) else None
        if there is None:
            page = Page(status=GONE)
        if page is not None:
            yield page

    # playing

    def play(self, key: str) -> Iterator[Page]:
        """Play from the frame that is shown, from the first if it is the last one; or stop if it plays."""
        with self.store.using(key) as work:
            if not work.is_open or work.busy:
                gr.Warning(RUNNING if work.busy else "Choose a video first.")
                pages = iter([page_beside(work) if work.is_open else empty_page(self.tab)])
            else:
                frames = work.session.frames
                work.playing = not work.playing
                at_end = work.editor.frame == frames[-1]
                pages = self._play(key, work, work.session, 0 if at_end else frames.index(work.editor.frame))
        yield from pages

    def _play(self, key: str, work: Workspace, session: Session, begin: int) -> Iterator[Page]:
        """From a place among the frames on, until somebody stops it."""
        started, frames = time.perf_counter(), session.frames
        times = [float(session.clip.timestamps[frame]) for frame in frames]
        while True:
            with self.store.still(key) as there:
                if there is not work or not work.works_on(session) or not work.playing or work.busy:
                    break
                place = max(bisect_right(times, times[begin] + time.perf_counter() - started) - 1, 0)
                work.editor.go_to(frames[place])
                work.playing = place < len(frames) - 1
                page = page_of_playing(work, key)
            yield page
            time.sleep(_PLAY_EVERY)
        with self.store.still(key) as there:
            stays = there is work and work.works_on(session) and not work.put_aside
            # the frame is shown already; sent again, it might overtake the answer to a jump
            page = page_beside(work)._replace(where=SKIP) if stays else Page()
        yield page


def _known(work: Workspace) -> list[np.ndarray]:
    """The masks bool [H, W] on the frame that is shown, which are not to be found again."""
    return [one.mask for one in work.editor.finished()] if work.is_open and not work.busy else []


def _example(work: Workspace) -> Example | None:
    """The chosen object, on the frame that is shown or, if it has no mask there, on one where it was prompted."""
    frames = (work.editor.frame, *sorted(work.editor.active.prompted))
    found = (Example.of(work.session, work.session.active, frame) for frame in frames)
    return next(filter(None, found), None)


def seconds_per_frame(predictor: VideoPredictor, session: Session) -> float:
    """As doctor.py measures it, where the GPU is that a ZeroGPU Space lends, or each frame would make the trip."""
    if isinstance(predictor, ZeroVideoPredictor):
        return GpuWork.of(predictor.model).call(_MEASURING, _measure, doctor.trial_of(session))
    return doctor.seconds_per_frame(predictor, session)


def _measure(model: SAM2, session: Session) -> Iterator[float]:
    yield doctor.seconds_per_frame(VideoPredictor(model), session)


def _refusal(work: Workspace) -> str | None:
    """Why tracking cannot begin, or None."""
    if not work.is_open:
        return "Choose a video first."
    if work.busy:
        return RUNNING
    return None if work.prompted_objects else "There is nothing to track yet: click on something first."


def _summary(work: Workspace, total: int) -> str:
    uncertain = uncertain_frames(work)
    again = f"; {uncertain} are uncertain or lost. Correct any frame and track again" if uncertain else ""
    return f"Done: {total} frames tracked{again}."
