"""What the Image tab does: handlers, plain values in and updates out. The layout is in image_layout.py.

Gradio holds only the visitor's key; the work is in the session store. Gestures on the click surface come in through
`ask` and `preview`, past Gradio's queue; everything else is an event.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from sam2kit.clicking.picture_asking import ask_picture, preview_picture
from sam2kit.clicking.views import to_original
from sam2kit.media.bundles import FileBundle, png_bytes
from sam2kit.media.exports import (
    NamedMask,
    coco_json,
    cut_out,
    mask_image,
    overlap,
    overlap_name,
    write_image,
    write_json,
)
from sam2kit.predict.automatic import AutomaticMasks, FoundMask
from sam2kit.predict.picture_session import PictureSession
from sam2kit.ui.asking import answer_preview, answer_request
from sam2kit.ui.image_page import ImagePage, empty_page, page_beside, page_of, progress_bar
from sam2kit.ui.limits import Limits
from sam2kit.ui.networks import Networks
from sam2kit.ui.object_list import name_in, number_in
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.tab_parts import ADD, BOX, ERRORS, REMOVE, example_of, plain_words, readable_stem
from sam2kit.ui.turns import Turns, waiting_text
from sam2kit.ui.zero_gpu import automatic_masks

HINTS = {
    ADD: "Click on the thing you want.",
    REMOVE: "Click where the mask should not be.",
    BOX: "Click two opposite corners around the thing.",
}
DOWNLOADS = {
    "mask": "Masks of all objects (PNG)",
    "cutout": "Cut-out of the chosen object (PNG)",
    "coco": "COCO JSON of all objects",
    "session": "Session of all objects, to go on later",
}
_LOOK_AGAIN = 0.5  # seconds between looks at the queue


@dataclass
class ImageTab:
    """What the handlers need: the networks, the visitors' work, the examples."""

    networks: Networks
    store: SessionStore[PictureWork]
    examples: list[Path]
    limits: Limits = field(default_factory=Limits)
    jobs: Turns = field(default_factory=Turns)  # one long job at a time
    plain: bool = False  # a picture instead of the click surface

    # gestures

    def ask(self, sent: Any) -> dict[str, Any]:
        """All prompts of an object, as the click surface sends them."""
        return answer_request(sent, self.store, lambda work, r: ask_picture(work, self.networks.images(r.key), r))

    def preview(self, sent: Any) -> dict[str, Any]:
        """The mask that a click would give; nothing changes."""
        return answer_preview(
            sent, self.store, lambda work, r: preview_picture(work, self.networks.images(r.key), r),
            busy=self.networks.are_busy,
        )  # fmt: skip

    def answered(self, key: str) -> ImagePage:
        """After an answer on the click surface: what stands beside it."""
        with self.store.using(key) as work:
            return page_beside(work, "") if work.is_open else empty_page()

    def click(self, key: str, mode: str, event: gr.SelectData) -> ImagePage:
        """A click on the plain picture: a prompt, or a corner of a box."""

        def act(work: PictureWork) -> str:
            xy, predictor = to_original(event.index, work.open_image.shape[:2]), self.networks.images(key)
            if mode == BOX:
                work.corner(predictor, xy)
                return "Now click the opposite corner." if work.now.corner else HINTS[BOX]
            work.click(predictor, xy, positive=mode != REMOVE)
            return HINTS[mode]

        return self._step(key, act)

    def change_mode(self, mode: str) -> str:
        """Say what the next click on the plain picture will do."""
        return HINTS[mode]

    # the picture

    def open_picture(self, key: str, source: str | Path | None) -> ImagePage:
        """Show a new photo."""
        if not source:
            return empty_page()
        self.stop(key)
        path = Path(source)

        def act(work: PictureWork) -> str:
            work.open(self.networks.images(key), path, self.limits.check_picture)
            return f"Scientific picture: {work.note}." if work.note else ""

        return self._open(key, act)

    def open_example(self, index: int, key: str) -> ImagePage:
        """Show one of the example photos."""
        return self.open_picture(key, example_of(self.examples, index))

    def open_session(self, key: str, source: str | Path) -> ImagePage:
        """Go on with a session file; the picture is in it."""
        self.stop(key)

        def act(work: PictureWork) -> str:
            session = PictureSession.load(source)
            self.limits.check_picture(session.image.shape, session.file_name)
            work.adopt(session)
            if session.fits(self.networks.images(key).model.config):
                return f"The session is open: {len(work.with_masks)} objects."
            return "The session is open. Another model made its masks; new clicks are answered by this one."

        return self._open(key, act)

    def bring_back(self, key: str) -> ImagePage:
        """The work, on a page that was loaded again."""
        with self.store.still(key) as work:
            if work is None or not work.is_open:
                return ImagePage()
            work.put_aside = False
            return page_of(work, key, "", plain=self.plain)

    def start_over(self, key: str) -> ImagePage:
        """Show the upload again; the photo stays open until another comes."""
        self.stop(key)
        with self.store.using(key) as work:
            work.put_aside = True
        return empty_page()

    def change_network(self, key: str) -> ImagePage:
        """Another network answers from now on; the masks stay."""
        with self.store.using(key) as work:
            if not work.is_open or work.is_seen_by(self.networks.images(key)):
                return ImagePage()
            return page_of(work, key, "New clicks are answered by the model that you chose.", plain=self.plain)

    # objects

    def choose(self, key: str, event: gr.EventData) -> ImagePage:
        """Take another candidate."""
        candidate = number_in(event, "candidate")
        return self._step(key, lambda work: work.choose(candidate) if candidate is not None else None)

    def pick(self, key: str, event: gr.EventData) -> ImagePage:
        """Work on another object."""
        number = number_in(event)
        return self._step(key, lambda work: work.select(number) if number is not None else None)

    def rename(self, key: str, event: gr.EventData) -> ImagePage:
        """Name an object."""
        number = number_in(event)
        return self._step(key, lambda work: work.rename(number, name_in(event)) if number is not None else None)

    def drop(self, key: str, event: gr.EventData) -> ImagePage:
        """Remove an object."""
        number = number_in(event)
        return self._step(key, lambda work: work.remove(number) if number is not None else None)

    def new_object(self, key: str) -> ImagePage:
        """Start another object."""
        return self._step(key, lambda work: work.new_object())

    def undo(self, key: str) -> ImagePage:
        """Take back the last step."""
        return self._step(key, lambda work: work.undo())

    def clear(self, key: str) -> ImagePage:
        """Remove all objects."""
        return self._step(key, lambda work: work.clear())

    # segment everything

    def find_everything(
        self,
        key: str,
        points_per_side: int,
        min_iou: float,
        min_stability: float,
    ) -> Iterator[ImagePage]:
        """Segment everything; Stop, or another photo, leaves the work as it was.

        The search itself holds no lock on the visitor's work, so nobody waits for it to end.
        """
        cancelled = self.store.cancelled(key)
        with self.store.using(key) as work:
            image = work.image
        network = self.networks.of(key)
        try:
            options = replace(
                network.everything,
                points_per_side=int(points_per_side),
                min_predicted_iou=min_iou,
                min_stability=min_stability,
            )
        except (TypeError, ValueError) as error:  # the sliders send none of it
            raise gr.Error(plain_words(error), print_exception=False) from error
        found: list[FoundMask] | None = None
        yield ImagePage(find=gr.update(interactive=False), stop=gr.update(interactive=True))
        with self.jobs.join(key) as turn:
            while not turn.wait(_LOOK_AGAIN) and not cancelled.is_set():
                yield ImagePage(progress=waiting_text(turn.before))
            if image is not None and not cancelled.is_set():
                yield ImagePage(status="Segmenting everything …", progress=progress_bar(0, 1))
                try:
                    found = yield from _search(automatic_masks(network.images, options), image, cancelled.is_set)
                except ERRORS as error:
                    gr.Warning(plain_words(error))

        def act(work: PictureWork) -> str:
            if found is None or work.image is not image:
                return "Stopped; nothing was changed."
            if not work.add_found(found, network.images.model.config.low_res_side):
                return "No mask reached the minimum predicted IoU and stability score; lower them and try again."
            return f"{len(found)} masks found; pick one in the list to refine it with clicks."

        with self.store.still(key) as there:
            gone = there is None or there.put_aside  # the visitor has left, or wants another photo
        # Gradio empties all parts where a generator yields nothing
        page = ImagePage() if gone else self._step(key, act)
        yield page._replace(find=gr.update(interactive=True), stop=gr.update(interactive=False), progress="")

    def begin(self, key: str) -> None:
        """Before a job that may be stopped: forget a Stop that was meant for another."""
        self.store.cancelled(key).clear()

    def stop(self, key: str) -> None:
        """Ask the running or waiting job to stop."""
        self.store.cancelled(key).set()

    # files

    def make_file(self, key: str, kind: str) -> str | None:
        """Write one of DOWNLOADS; its path."""
        with self.store.using(key) as work:
            objects = work.finished() if work.is_open else []
            if not objects:
                raise gr.Error("There is no mask yet: click on something first.", print_exception=False)
            target = work.downloads / readable_stem(work.file_name)
            try:
                if kind == "session":
                    session = work.session(self.networks.images(key).model.config)
                    return str(session.save(target.with_name(f"{target.name}.session.safetensors")))
                if kind == "coco":
                    content = coco_json(objects, work.file_name, work.open_image.shape[:2])
                    return str(write_json(content, target.with_name(f"{target.name}_coco.json")))
                if kind == "cutout":
                    name = work.active.name
                    chosen = next((o for o in objects if o.name == name), None)
                    if chosen is None:
                        raise ValueError(f"{name} has no mask yet: click on it first, or choose another in the list")
                    of = f"_{readable_stem(name)}" if len(objects) > 1 else ""
                    picture = cut_out(work.open_image, chosen.mask)
                    return str(write_image(picture, target.with_name(f"{target.name}{of}_cutout.png")))
                if len(objects) > 1 and overlap(item.mask for item in objects):
                    gr.Info("Objects overlap: the zip holds one PNG of all and one of each, so that nothing is lost.")
                    return str(_zip_masks(objects, target))
                return str(write_image(mask_image(objects), target.with_name(f"{target.name}_mask.png")))
            except ERRORS as error:
                raise gr.Error(plain_words(error), print_exception=False) from error

    # inside

    def _open(self, key: str, act: Callable[[PictureWork], str]) -> ImagePage:
        """Open something; what was open stays open if it cannot be used."""
        with self.store.using(key) as work:
            try:
                hint = act(work)
            except ERRORS as error:
                gr.Warning(plain_words(error), title="This photo cannot be used")
                return page_of(work, key, None, plain=self.plain) if work.is_open else empty_page()
            work.put_aside = False
            return page_of(work, key, hint, plain=self.plain)

    def _step(self, key: str, act: Callable[[PictureWork], str | None]) -> ImagePage:
        """Run one step on a visitor's work and show the result."""
        with self.store.using(key) as work:
            if not work.is_open:
                gr.Warning("Choose a photo first.")
                return empty_page()
            try:
                hint = act(work) or ""  # no line outlives what it speaks of
            except ERRORS as error:
                gr.Warning(plain_words(error))
                hint = None
            return page_of(work, key, hint, plain=self.plain)


def _search(
    search: AutomaticMasks, image: np.ndarray, is_cancelled: Callable[[], bool]
) -> Generator[ImagePage, None, list[FoundMask] | None]:
    """All masks, with a page after each batch of points; None if the visitor pressed Stop."""
    with closing(search.steps(image)) as steps:
        while not is_cancelled():
            try:
                done, total = next(steps)
            except StopIteration as end:
                return end.value
            yield ImagePage(progress=progress_bar(done, total))
    return None


def _zip_masks(objects: Sequence[NamedMask], target: Path) -> Path:
    name, path = f"{target.name}_mask.png", target.with_name(f"{target.name}_masks.zip")
    with FileBundle(path) as bundle:
        bundle.write(name, png_bytes(mask_image(objects)))
        for number, item in enumerate(objects, start=1):
            bundle.write(overlap_name(number, name), png_bytes(mask_image([item])))
    return path
