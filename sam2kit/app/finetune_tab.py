"""What the Fine-tune tab does: handlers, plain values in and updates out. What it looks like is in finetune_page.py.

Label photos with the model's help, those first that help it most; train on them, compare on photos that were held out,
use the result in the other tabs. A training runs in a thread of its own (finetune_run.py), and a handler only watches
it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from sam2kit.app.canvas import PromptRequest, number_in
from sam2kit.app.components import ERRORS, as_error, as_warning, plain_words, sent_with
from sam2kit.app.editor import GESTURES
from sam2kit.app.finetune_page import (
    FinetunePage,
    curve_update,
    empty_page,
    next_photos_html,
    page_beside_photo,
    page_of_photo,
    results_html,
)
from sam2kit.app.finetune_run import FinetuneRun, trainer_of
from sam2kit.app.finetune_work import PHOTO_GESTURES, FinetuneWork, Photo
from sam2kit.app.limits import Limits
from sam2kit.app.models import LoadedModel, Models, mean_score, until_stopped
from sam2kit.app.page import progress_bar
from sam2kit.app.queue import FairQueue
from sam2kit.app.store import TabStore
from sam2kit.app.tab import EDITS, answer_request
from sam2kit.app.timeline import help_html
from sam2kit.data.sample import counted
from sam2kit.predict.automatic import FoundMask

_PHOTOS_FILE = "labelled-photos.zip"
_LOOK_AGAIN = 0.5  # seconds between looks at the training


@dataclass
class FinetuneTab:
    """What the handlers need: the models, the visitors' work, the example photos."""

    models: Models
    store: TabStore[FinetuneWork]
    examples: list[Path]
    limits: Limits = field(default_factory=Limits)
    jobs: FairQueue = field(default_factory=FairQueue)  # one long job at a time

    # gestures

    def ask(self, sent: Any) -> dict[str, Any]:
        """All prompts of an object on the photo that is shown, as the canvas sends them; what the page shows then."""

        def act(work: FinetuneWork, request: PromptRequest) -> dict[str, Any]:
            answer = work.photo.editor.answer(request)
            return answer | {"page": page_beside_photo(work, self.models.of(request.key).name).following}

        return answer_request(sent, lambda request: self.store.newest(request.key, request.sequence), act)

    def preview(self, sent: Any) -> dict[str, Any]:
        """The mask that a click would give; left out while the model is busy, or the visitor's work is in use."""
        busy = self.models.are_busy
        return answer_request(
            sent, lambda request: nullcontext() if busy else self.store.if_free(request.key),
            lambda work, request: work.photo.editor.preview(request),
        )  # fmt: skip

    # photos

    def add_photos(self, key: str, sources: list[str] | None) -> FinetunePage:
        """Add uploaded photos to those that are there."""
        with self.store.using(key) as work:
            first = len(work.photos)
            for source in sources or []:
                with as_warning("This photo cannot be used"):
                    work.add_photo(Path(source), self.limits, self.models.of(key).predictor)
            if first < len(work.photos):
                work.show(first)
            return self._page(key, work)

    def add_examples(self, key: str) -> FinetunePage:
        """Take the example photos."""
        return self.add_photos(key, [str(path) for path in self.examples])

    def turn(self, key: str, by: int) -> FinetunePage:
        """Show the next photo, or the one before."""
        return self._step(key, lambda work: work.show((work.current + by) % len(work.photos)))

    def on_photos(self, key: str, what: str, event: gr.EventData) -> FinetunePage:
        """Do one of PHOTO_GESTURES; what names no photo changes nothing."""
        number = number_in(sent_with(event))
        return self._step(key, lambda work: None if number < 0 else PHOTO_GESTURES[what](work, number))

    def hold_out(self, key: str, held_out: bool) -> FinetunePage:
        """Say whether the photo that is shown is held out."""
        return self._step(key, lambda work: setattr(work.photo, "held_out", held_out))

    # objects of the photo that is shown

    def edit(self, key: str, what: str) -> FinetunePage:
        """Do one of EDITS."""
        return self._step(key, lambda work: EDITS[what](work.photo.editor))

    def gesture(self, key: str, what: str, event: gr.EventData) -> FinetunePage:
        """Do one of GESTURES; what is no event changes nothing."""
        return self._step(key, lambda work: GESTURES[what](work.photo.editor, sent_with(event)))

    # searches: for what the model was fine-tuned to find or, with another model, for what is like a labelled object

    def find_others(self, key: str) -> Iterator[FinetunePage]:
        """Label the other things in the photo that is shown."""
        page = FinetunePage()
        for photo, found in (yield from self._search(key, self.models.of(key), lambda work: [work.photo])):
            with self.store.still(key) as there:
                if there is not None and photo in there.photos:
                    with as_warning():
                        photo.editor.predictor.add_found(photo.editor.session, 0, found)
                    page, count = self._page(key, there), counted(len(found), "object")
                    hint = f"{count} found; remove what is wrong." if found else "No other one was found."
                    page = page._replace(status=f"{hint} {page.status}")
        yield page

    def find_next(self, key: str) -> Iterator[FinetunePage]:
        """Look through the photos without objects, and say of which the model is least sure."""
        model = self.models.of(key)
        for photo, found in (yield from self._search(key, model, lambda work: work.to_look_at(model))):
            photo.scores[model.name] = mean_score(found)
        yield FinetunePage(next_photos=self.next_photos(key))

    def next_photos(self, key: str) -> Any:
        """Which photos to label next, as far as the model that answers has looked at them."""
        with self.store.still(key) as work:
            return gr.skip() if work is None else next_photos_html(work, self.models.of(key).name)

    def _search(
        self, key: str, model: LoadedModel, choose: Callable[[FinetuneWork], list[Photo]]
    ) -> Generator[FinetunePage, None, list[tuple[Photo, list[FoundMask]]]]:
        """Search in photos, one after the other: what is found in them, as far as it came before Stop."""
        cancelled, photos, searched = self.store.cancelled(key), list[Photo](), list[tuple[Photo, list[FoundMask]]]()
        with self.store.using(key) as work, as_warning():
            search, photos = work.search(model), choose(work)
        if not photos:
            return []

        def show(done: int, total: int) -> FinetunePage:
            return FinetunePage(next_photos=progress_bar(len(searched) + done / total, len(photos)))

        off, on = gr.update(interactive=False), gr.update(interactive=True)
        yield show(0, 1)._replace(find=off, find_next=off, stop_find=gr.update(visible=True))
        with self.jobs.join(key) as place, as_warning():
            yield from (FinetunePage(next_photos=help_html(text)) for text in place.wait_texts(cancelled))
            for photo in photos:
                with self.store.still(key) as there:
                    if there is None or photo not in there.photos:
                        continue
                    known = [one.mask for one in photo.editor.finished()]
                found = yield from until_stopped(search.steps(photo.image, known), cancelled, show)
                if found is None:
                    break
                searched.append((photo, found))
        shown = self.next_photos(key)
        yield FinetunePage(find=on, find_next=on, stop_find=gr.update(visible=False), next_photos=shown)
        return searched

    # training

    def begin(self, key: str) -> None:
        """Before a job that may be stopped: forget a Stop that was meant for another."""
        self.store.cancelled(key).clear()

    def stop(self, key: str) -> None:
        """End the training; the best so far is kept."""
        self.store.cancelled(key).set()

    def train(self, key: str, recipe: str, minutes: float) -> Iterator[FinetunePage]:
        """Train on the labelled photos, and show how it goes."""
        cancelled = self.store.cancelled(key)
        with self.store.using(key) as work:
            missing = work.ready()
        if missing is not None:
            gr.Warning(missing)
            yield FinetunePage(status=missing)
            return
        yield FinetunePage(train=gr.update(interactive=False), stop=gr.update(visible=True), progress="Getting ready …")
        with self.jobs.join(key) as place:
            yield from (FinetunePage(progress=text) for text in place.wait_texts(cancelled))
            try:
                if cancelled.is_set():
                    yield FinetunePage(progress="Stopped before it began.")
                else:
                    yield from self._train(key, recipe, min(minutes, self.limits.finetune_minutes))
            except ERRORS as error:
                gr.Warning(plain_words(error))
                yield FinetunePage(progress=f"This did not work: {plain_words(error)}")
        with self.store.still(key) as there:
            ready = there is not None and there.ready() is None
        yield FinetunePage(train=gr.update(interactive=ready), stop=gr.update(visible=False))

    def _train(self, key: str, recipe: str, minutes: float) -> Iterator[FinetunePage]:
        cancelled, model = self.store.cancelled(key), self.models.of(key)
        with self.store.using(key) as work:
            run = work.start(model, recipe, minutes, trainer_of(model.images.model))
        while not run.finished.wait(_LOOK_AGAIN):  # if the page is closed, it goes on as long as the work is kept
            if cancelled.is_set():
                run.stop()
            yield FinetunePage(**_progress(run))
        if run.end is not None and run.end.error:
            gr.Warning(plain_words(run.end.error))
        yield self._end_page(key, run)

    # after a reload

    def bring_back(self, key: str) -> FinetunePage:
        """The work, on a page that was loaded again."""
        with self.store.still(key) as work:
            if work is None or not (work.photos or work.runs):
                return FinetunePage()
            shown = _progress(work.runs[-1]) if work.runs else {}
            return self._page(key, work)._replace(**self._results(key, work), **shown)

    def follow(self, key: str) -> Iterator[FinetunePage]:
        """After `bring_back`: a training that goes on, or has ended meanwhile, and what came of it."""
        with self.store.still(key) as work:
            run = work.runs[-1] if work is not None and work.runs else None
        yield FinetunePage()  # Gradio empties all parts where a generator yields nothing
        if run is None:
            return
        cancelled = self.store.cancelled(key)
        while not run.finished.wait(_LOOK_AGAIN):
            if cancelled.is_set():
                run.stop()
            buttons = {"train": gr.update(interactive=False), "stop": gr.update(visible=True)}
            yield FinetunePage(**_progress(run), **buttons)
        ended = self._end_page(key, run)
        yield ended._replace(train=gr.update(interactive=True), stop=gr.update(visible=False))

    # the result

    def latest(self, key: str) -> Any:
        """Choose the model that was fine-tuned last."""
        with self.store.using(key) as work:
            return gr.update(value=list(work.finetuned)[-1]) if work.finetuned else gr.skip()

    def use(self, key: str, name: str | None) -> tuple[str, Any]:
        """Let a model answer in all tabs: the app's, a published one, or one that the visitor has fine-tuned.

        Returns:
            the name of the one that answers now, and the menu, put back where the other one cannot be had.
        """
        answering = self.models.of(key).name
        if name == answering:
            return answering, gr.skip()
        loaded, source = None, self._finetuned(key).get(name or "") or self.models.published(name)
        if source is not None:
            if isinstance(source, str):  # it may have to be downloaded
                gr.Info(f"Loading {name} …")
            try:
                loaded = self.models.load(str(name), source)
            except ERRORS as error:  # such as no connection; the visitor's lock is free meanwhile
                gr.Warning(plain_words(error))
                return answering, gr.update(value=answering)
        with self.store.using(key) as work:
            work.chosen = loaded
        return self.models.of(key).name, gr.skip()

    def offer(self, key: str) -> Any:
        """The menu of models, once it is known what they take here."""
        choices = self.models.choices(list(self._finetuned(key)), measured=True)
        return gr.update(choices=choices, value=self.models.of(key).name)

    def _finetuned(self, key: str) -> dict[str, Path]:
        """The visitor's; a look at the menu makes no work, or nothing could be brought back to that page."""
        work = self.store.peek(key)
        return {} if work is None else dict(work.finetuned)

    def make_file(self, key: str, kind: str) -> str:
        """Write a download: "model", the latest that was fine-tuned, or "data", the labelled photos."""
        with self.store.using(key) as work, as_error():
            return str(work.result_zip() if kind == "model" else work.write_dataset(work.folder / _PHOTOS_FILE))

    # inside

    def _end_page(self, key: str, run: FinetuneRun) -> FinetunePage:
        with self.store.still(key) as work:
            results = {} if work is None else self._results(key, work)
        return FinetunePage(**_progress(run), **results)

    def _results(self, key: str, work: FinetuneWork) -> dict[str, Any]:
        """What was fine-tuned, for the page: the comparison of the latest, and the choice among them."""
        runs = [run for run in work.runs if run.result is not None]
        if not runs:
            return {}
        choices = self.models.choices([run.name for run in runs], measured=True)
        return {
            "results": gr.update(value=results_html(runs[-1]), visible=True),
            "choice": gr.update(choices=choices, value=self.models.of(key).name, visible=True),
            "done": gr.update(visible=True),
        }

    def _page(self, key: str, work: FinetuneWork) -> FinetunePage:
        if not work.photos:
            return empty_page()
        with as_warning():  # a click will try again
            work.encode(self.models.of(key).predictor)
        return page_of_photo(work, key, self.models.of(key).name)

    def _step(self, key: str, act: Callable[[FinetuneWork], object]) -> FinetunePage:
        """Run one step on a visitor's work and show the result."""
        with self.store.using(key) as work:
            with as_warning():
                work.photo  # noqa: B018 - says what is missing
                act(work)
            return self._page(key, work)


def _progress(run: FinetuneRun) -> dict[str, Any]:
    return {"progress": run.status(), "curve": curve_update(run.curve())}
