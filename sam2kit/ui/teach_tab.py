"""What the Fine-tune tab does: handlers, plain values in and updates out. The layout is in teach_layout.py.

Label photos with the model's help, train on them, compare on photos that were held out, use the result in the
other tabs. Training itself is sam2kit.teaching; it runs in a thread of its own, and a handler only watches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from sam2kit.clicking.picture_asking import ask_picture, preview_picture
from sam2kit.clicking.views import to_original
from sam2kit.predict.image import ImageOptions
from sam2kit.teaching import comparisons
from sam2kit.ui.asking import answer_preview, answer_request
from sam2kit.ui.limits import Limits
from sam2kit.ui.networks import Network, Networks
from sam2kit.ui.object_list import name_in, number_in
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.tab_parts import ERRORS, plain_words
from sam2kit.ui.teach_page import (
    SKIP,
    TeachPage,
    curve_update,
    empty_page,
    page_beside_photo,
    page_of_photo,
    results_html,
)
from sam2kit.ui.teach_run import TeachRun
from sam2kit.ui.teach_work import TeachWork
from sam2kit.ui.turns import Turns, waiting_text
from sam2kit.ui.zero_gpu import teach_events
from sam2kit.weights import load_model

_LOOK_AGAIN = 0.5  # seconds between looks at the queue, and at the training


@dataclass
class TeachTab:
    """What the handlers need: the networks, the visitors' work, the example photos."""

    networks: Networks
    store: SessionStore[TeachWork]
    examples: list[Path]
    passes: Turns  # one pass through the network at a time
    limits: Limits = field(default_factory=Limits)
    jobs: Turns = field(default_factory=Turns)  # one long job at a time
    plain: bool = False  # a picture instead of the click surface

    # gestures

    def ask(self, sent: Any) -> dict[str, Any]:
        """All prompts of an object on the photo that is shown, as the click surface sends them."""
        return answer_request(
            sent, self.store, lambda work, r: ask_picture(_photo(work), self.networks.images(r.key), r)
        )

    def preview(self, sent: Any) -> dict[str, Any]:
        """The mask that a click would give; nothing changes."""
        return answer_preview(
            sent, self.store, lambda work, r: preview_picture(_photo(work), self.networks.images(r.key), r),
            busy=self.networks.are_busy,
        )  # fmt: skip

    def answered(self, key: str) -> TeachPage:
        """After an answer on the click surface: what stands beside it."""
        with self.store.using(key) as work:
            return page_beside_photo(work) if work.photos else empty_page()

    def click(self, key: str, event: gr.SelectData) -> TeachPage:
        """A click on the plain picture adds to the mask."""

        def act(work: TeachWork) -> None:
            xy = to_original(event.index, work.photo.open_image.shape[:2])
            work.photo.click(self.networks.images(key), xy, positive=True)

        return self._step(key, act)

    # photos

    def add_photos(self, key: str, sources: list[str] | None) -> TeachPage:
        """Add uploaded photos to those that are there."""
        with self.store.using(key) as work:
            first = len(work.photos)
            for source in sources or []:
                try:
                    work.add_photos([Path(source)], self.limits)
                except ERRORS as error:
                    gr.Warning(plain_words(error), title="This photo cannot be used")
            if first < len(work.photos):
                work.show(first)
            return self._photo_page(key, work) if work.photos else empty_page()

    def add_examples(self, key: str) -> TeachPage:
        """Take the example photos."""
        return self.add_photos(key, [str(path) for path in self.examples])

    def show_photo(self, key: str, event: gr.EventData) -> TeachPage:
        """Label another photo."""
        number = number_in(event)
        return self._step(key, lambda work: work.show(number) if number is not None else None)

    def next_photo(self, key: str, by: int) -> TeachPage:
        """The next photo, or the one before."""
        return self._step(key, lambda work: work.show((work.current + by) % len(work.photos)))

    def drop_photo(self, key: str, event: gr.EventData) -> TeachPage:
        """Leave a photo out."""
        number = number_in(event)
        return self._step(key, lambda work: work.remove_photo(number) if number is not None else None)

    def keep_aside(self, key: str, aside: bool) -> TeachPage:
        """Say whether the photo that is shown is held out."""
        return self._step(key, lambda work: work.keep_aside(work.current, aside))

    # objects of the photo that is shown

    def choose(self, key: str, event: gr.EventData) -> TeachPage:
        """Take another candidate."""
        candidate = number_in(event, "candidate")
        return self._step(key, lambda work: work.photo.choose(candidate) if candidate is not None else None)

    def pick(self, key: str, event: gr.EventData) -> TeachPage:
        """Work on another object."""
        number = number_in(event)
        return self._step(key, lambda work: work.photo.select(number) if number is not None else None)

    def rename(self, key: str, event: gr.EventData) -> TeachPage:
        """Name an object."""
        number, name = number_in(event), name_in(event)
        return self._step(key, lambda work: work.photo.rename(number, name) if number is not None else None)

    def drop(self, key: str, event: gr.EventData) -> TeachPage:
        """Remove an object."""
        number = number_in(event)
        return self._step(key, lambda work: work.photo.remove(number) if number is not None else None)

    def new_object(self, key: str) -> TeachPage:
        """Start another object."""
        return self._step(key, lambda work: work.photo.new_object())

    def undo(self, key: str) -> TeachPage:
        """Take back the last step."""
        return self._step(key, lambda work: work.photo.undo())

    # training

    def train(self, key: str, recipe: str, minutes: float) -> Iterator[TeachPage]:
        """Train on the labelled photos, and show how it goes."""
        cancelled = self.store.cancelled(key)
        with self.store.using(key) as work:
            missing = work.ready() if work.photos else "Add photos first."
            if work.run is not None:
                missing = "Training is running: press Stop first."
        if missing is not None:
            gr.Warning(missing)
            yield TeachPage(status=missing)
            return
        yield TeachPage(train=gr.update(interactive=False), stop=gr.update(visible=True), progress="Getting ready …")
        with self.jobs.join(key) as turn:
            while not turn.wait(_LOOK_AGAIN) and not cancelled.is_set():
                yield TeachPage(progress=waiting_text(turn.before))
            try:
                if cancelled.is_set():
                    yield TeachPage(progress="Stopped before it began.")
                else:
                    yield from self._train(key, recipe, minutes)
            except ERRORS as error:
                gr.Warning(plain_words(error))
                yield TeachPage(progress=f"This did not work: {plain_words(error)}")
        with self.store.still(key) as there:
            ready = there is not None and bool(there.photos) and there.ready() is None
        yield TeachPage(train=gr.update(interactive=ready), stop=gr.update(visible=False))

    def _train(self, key: str, recipe: str, minutes: float) -> Iterator[TeachPage]:
        cancelled, network = self.store.cancelled(key), self.networks.of(key)
        with self.store.using(key) as work:
            minutes, events = min(minutes, self.limits.teach_minutes), teach_events(network.images.model)
            run = work.start(network, recipe, minutes, events=events)
        try:
            while not run.finished.wait(_LOOK_AGAIN):
                if cancelled.is_set():
                    run.stop()
                yield TeachPage(progress=run.says(), curve=curve_update(run.curve()))
        finally:
            run.stop()  # if the page was closed
        if run.error is not None:
            gr.Warning(plain_words(run.error))
        yield TeachPage(progress=run.says(), curve=curve_update(run.curve()))
        if run.folder is not None:
            yield from self._compare(key, network, run, run.folder)

    def _compare(self, key: str, before: Network, run: TeachRun, folder: Path) -> Iterator[TeachPage]:
        """Before and after, on the photos that were kept aside; the visitor can go on labelling meanwhile."""
        yield TeachPage(progress="Comparing on the held-out photos …")
        taught = self._load(run.name, folder)
        # as the tests of the training do it, without the clean-up that people see
        plain = [network.images.with_options(ImageOptions()) for network in (before, taught)]
        compared = results_html(comparisons(run.plan.data, *plain), run.before, run.after)
        with self.store.still(key) as work:
            if work is None:
                return
            work.networks[run.name], work.compared[run.name] = taught, compared
            self._forget_unused(key, work, run.name)
            page = self._results(key, work)
        yield page._replace(progress=run.says())

    def bring_back(self, key: str) -> TeachPage:
        """The work, on a page that was loaded again."""
        with self.store.still(key) as work:
            if work is None or not (work.photos or work.runs):
                return TeachPage()
            page = self._photo_page(key, work)
            if work.runs:
                run = work.runs[-1]
                page = page._replace(progress=run.says(), curve=curve_update(run.curve()))
            results = self._results(key, work)
            return page._replace(results=results.results, choice=results.choice, done=results.done)

    def follow(self, key: str) -> Iterator[TeachPage]:
        """After `bring_back`: a training that ended with the old page, or is about to, and what came of it."""
        with self.store.still(key) as work:
            run = work.runs[-1] if work is not None and work.runs else None
        yield TeachPage()  # Gradio empties all parts where a generator yields nothing
        if run is None:
            return
        while not run.finished.wait(_LOOK_AGAIN):
            run.stop()  # nobody drives it any more
            yield TeachPage(progress=run.says(), curve=curve_update(run.curve()))
        with self.store.still(key) as work:
            done = work is None or run.folder is None or run.name in work.compared
        yield TeachPage(train=gr.update(interactive=True), progress=run.says(), curve=curve_update(run.curve()))
        if not done and run.folder is not None:
            cancelled = self.store.cancelled(key)
            with self.jobs.join(key) as turn:
                while not turn.wait(_LOOK_AGAIN):
                    if cancelled.is_set():
                        return
                    yield TeachPage(progress=waiting_text(turn.before))
                yield from self._compare(key, self.networks.of(key), run, run.folder)

    def begin(self, key: str) -> None:
        """Before a job that may be stopped: forget a Stop that was meant for another."""
        self.store.cancelled(key).clear()

    def stop(self, key: str) -> None:
        """End the training; the best so far is kept."""
        self.store.cancelled(key).set()

    # the result

    def latest(self, key: str) -> Any:
        """Choose the model that was fine-tuned last."""
        with self.store.using(key) as work:
            return gr.update(value=list(work.taught)[-1]) if work.taught else gr.skip()

    def use(self, key: str, name: str | None) -> str:
        """Let a model answer in all tabs: the app's, or one that the visitor has fine-tuned; returns its name."""
        with self.store.using(key) as work:
            network = self.networks.base
            if name in work.taught:
                network = work.networks.get(name) or self._load(name, work.taught[name])
                work.networks[name] = network
            self.networks.choose(key, network)
            self._forget_unused(key, work, network.name)
        return network.name

    def make_file(self, key: str, kind: str) -> str:
        """Write a download: "model", the latest that was fine-tuned, or "data", the labelled photos."""
        with self.store.using(key) as work:
            try:
                return str(work.result_zip() if kind == "model" else work.dataset_zip())
            except ERRORS as error:
                raise gr.Error(plain_words(error), print_exception=False) from error

    # inside

    def _load(self, name: str, folder: Path) -> Network:
        base = self.networks.base.images.model
        return Network.of(load_model(folder, base.device, base.compute_dtype or "auto"), name, self.passes)

    def _results(self, key: str, work: TeachWork) -> TeachPage:
        """What was taught: the comparison of the latest, and the choice among them."""
        if not work.taught:
            return TeachPage()
        compared = next((work.compared[name] for name in reversed(work.taught) if name in work.compared), None)
        return TeachPage(
            results=SKIP if compared is None else gr.update(value=compared, visible=True),
            choice=gr.update(
                choices=[self.networks.base.name, *work.taught], value=self.networks.of(key).name, visible=True
            ),
            done=gr.update(visible=True),
        )

    def _forget_unused(self, key: str, work: TeachWork, name: str) -> None:
        """Of the fine-tuned models, only the one that answers and the one that is named stay loaded."""
        kept = {name, self.networks.of(key).name}
        work.networks = {known: network for known, network in work.networks.items() if known in kept}

    def _photo_page(self, key: str, work: TeachWork) -> TeachPage:
        if work.photos:
            try:
                work.encode(self.networks.images(key))
            except ERRORS as error:  # a click will try again
                gr.Warning(plain_words(error))
        return page_of_photo(work, key, plain=self.plain)

    def _step(self, key: str, act: Callable[[TeachWork], None]) -> TeachPage:
        """Run one step on a visitor's work and show the result."""
        with self.store.using(key) as work:
            if not work.photos:
                gr.Warning("Add photos first.")
                return empty_page()
            try:
                act(work)
            except ERRORS as error:
                gr.Warning(plain_words(error))
            return self._photo_page(key, work)


def _photo(work: TeachWork) -> PictureWork:
    if not work.photos:
        raise ValueError("add photos first")
    return work.photo
