"""Which model answers: the one that the app starts with, a published one, or one that a visitor has fine-tuned; and
what it finds without a click.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Event, Lock
from typing import TypeVar
from weakref import WeakValueDictionary

import numpy as np
import torch

from sam2kit.app.offers import OFFERS, measured_seconds, offer_for_clicks
from sam2kit.app.queue import FairQueue
from sam2kit.app.zero_gpu import automatic_masks, is_zero_gpu, predictor_kinds
from sam2kit.config import NANO
from sam2kit.hub import HubError
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.alike import AlikeOptions, FindAlike, look_of
from sam2kit.predict.automatic import AutomaticOptions, Found, FoundMask, Steps, everything_options
from sam2kit.predict.detector import Detector, covers
from sam2kit.predict.image import ImageEmbedding, ImagePredictor
from sam2kit.predict.objects import class_of
from sam2kit.predict.session import Session
from sam2kit.predict.tracking_quality import QualityLimits
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import choose_device, choose_dtype, load_model

Shown = TypeVar("Shown")
_QUALITY_NANO = QualityLimits(min_iou=0.4)

AUTO, DEFAULT = "auto", "sam2.1-hiera-tiny"  # the former chooses by what is quick enough, the latter is for GPUs
_FULL_SIDE, _DRAFT_SIDE = 1024, 512  # pixels; the draft is a quarter of the work of the published size


@dataclass(frozen=True)
class AppModel:
    """The model that the app runs, and what visitors should know about it."""

    model: SAM2
    name: str
    notice: str = ""  # one line that every page shows
    reason: str = ""  # why it is not the model that was asked for
    terminal: str = ""  # the same for the person who starts the app, with what to do


def load_for_app(source: str, device: str = "auto", dtype: str = "auto", *, side: int | None = None) -> AppModel:
    """Load a model for the app; arguments as for `load_model`. On a ZeroGPU Space it stays on the CPU.

    Only when the Hub cannot deliver does the bundled nano model step in, and the page says so. Anything else that is
    wrong is an error, as in `load_model`.
    """
    if is_zero_gpu():
        if dtype != "auto":
            raise ValueError(f"on ZeroGPU the precision is the lent GPU's own, got --dtype {dtype}; leave it out")
        device = "cpu"
    chosen = ""
    if source == AUTO:
        source, chosen = _chosen_for(device, dtype)
    try:
        model = load_model(source, device, dtype, side=side)
    except HubError as error:
        notice = f"The small bundled model runs instead of {source}; its masks are much rougher than SAM 2.1's."
        terminal = (
            f"running the small bundled model (nano), whose masks are much rougher, instead of {source}: {error}. Mend "
            f"this and start again, or give a downloaded file: --model path/to/{Path(source).name}.pt"
        )
        return AppModel(load_model("nano", device, dtype), "nano", notice, f"{error}.", terminal)
    notice = "This is the small bundled model: quick, and much rougher than SAM 2.1." if source == "nano" else chosen
    return AppModel(model, source, notice)


def _chosen_for(device: str, dtype: str) -> tuple[str, str]:
    """The model to start with where nobody named one, and what the page says of it."""
    target = choose_device(device)
    if target.type != "cpu" or is_zero_gpu():
        return DEFAULT, ""
    yardstick = measured_seconds(choose_dtype(dtype, target))
    offer = offer_for_clicks(yardstick)
    if offer.name == DEFAULT:
        return DEFAULT, ""
    click = offer.seconds(yardstick).first_click
    chosen = (
        f"{offer.name} was chosen, as a first click takes it about {click:.1f} s on this machine; the menu has others."
    )
    return offer.name, chosen


@dataclass(frozen=True)
class LoadedModel:
    """A model with everything that the tabs do with it."""

    name: str
    images: ImagePredictor
    predictor: VideoPredictor  # of the tabs; tracks if the model can
    everything: AutomaticOptions
    quality: QualityLimits
    passes: FairQueue  # held during each pass; all models on one device share it

    @classmethod
    def of(cls, model: SAM2, name: str, passes: FairQueue) -> LoadedModel:
        """What the app does with a model."""
        config = model.config  # also of a nano that was fine-tuned
        is_nano = replace(NANO, side=config.side, classes=config.classes) == config
        images, videos = predictor_kinds(model)
        return cls(
            name,
            images(model, lock=passes),
            videos(model, lock=passes),
            everything_options(model.config),
            _QUALITY_NANO if is_nano else QualityLimits(),
            passes,
        )

    @property
    def can_track(self) -> bool:
        """Whether the model has learned to track; else it only knows pictures."""
        return self.predictor.model.memory_is_trained

    @property
    def finds(self) -> bool:
        """Whether the model was fine-tuned to find things by itself."""
        return bool(self.images.model.config.classes)

    @property
    def has_draft(self) -> bool:
        """Whether a draft would be quicker."""
        return self.predictor.model.config.side == _FULL_SIDE

    @cached_property
    def draft(self) -> VideoPredictor:
        """The same weights on smaller pictures: quicker and coarser; made at first use."""
        small = model_at_side(self.predictor.model, _DRAFT_SIDE)
        return predictor_kinds(small)[1](small, lock=self.passes)


@dataclass(frozen=True)
class Example:
    """A thing that others may be like."""

    image: np.ndarray  # uint8 [H, W, 3]
    mask: np.ndarray  # bool [H, W]; neither empty nor all of it
    kind: str  # its class; "" where its name tells none

    @classmethod
    def of(cls, session: Session, object_id: Hashable, frame: int) -> Example | None:
        """An object on a frame; None if nothing is known of it there, or it is nowhere or everywhere."""
        item = session.object(object_id)
        if item.result(frame) is None:
            return None
        mask = session.masks(frame).mask(object_id)
        found = cls(session.clip.frame(frame), mask, class_of(item.name) or "")
        return found if mask.any() and not mask.all() else None


@dataclass(frozen=True)
class Search:
    """Finds things in pictures: those like an example, or without one those that a model was fine-tuned to find."""

    model: LoadedModel  # that `finds`, where there is no example
    example: Example | None = None
    options: AlikeOptions | None = None  # of what is like the example

    def steps(self, image: np.ndarray, known: Sequence[np.ndarray] = ()) -> Steps[list[FoundMask]]:
        """Search in a picture uint8 [H, W, 3], but leave out what lies where a known mask bool [H, W] does."""
        images = self.model.images
        if self.example is None:
            yield 0, 1
            found = Detector(images.model, predictor=images).find(image)
        else:
            search = FindAlike(images, look_of(self._seen, self.example.mask), self.options, search=automatic_masks)
            same = self._seen if np.array_equal(image, self.example.image) else None
            alike = yield from search.steps(image, same)
            found = [replace(one, name=self.example.kind, score=score) for one, score in alike]
        return [one for one in found if not covers(one.mask, known)]

    @cached_property
    def _seen(self) -> ImageEmbedding:
        """Of the example's picture, for all pictures that are searched."""
        assert self.example is not None, "only an example has one"
        return self.model.images.encode(self.example.image)


def until_stopped(
    steps: Steps[Found], cancelled: Event, show: Callable[[int, int], Shown]
) -> Generator[Shown, None, Found | None]:
    """Work step by step, with what is shown for each: what is found, or None if it was cancelled before."""
    with closing(steps):
        while not cancelled.is_set():
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
            yield show(*step)
    return None


def mean_score(found: Sequence[FoundMask]) -> float:
    """How sure a model is of what it has found in a picture, 0..1; 0 where it found nothing.

    If scores were probabilities, it is the share of the masks that are right. On 60 photos of coins, most of them made
    worse, it follows the F1 score better than the least score does, or a mean that weaker finds take part in.
    """
    return sum(one.score for one in found) / max(len(found), 1)


def model_at_side(model: SAM2, side: int) -> SAM2:
    """The same weights, in the same memory, for squares of another size."""
    with torch.device("meta"):
        other = SAM2(replace(model.config, side=side))
    other.load_state_dict(model.state_dict(), assign=True)
    other.compute_dtype, other.memory_is_trained = model.compute_dtype, model.memory_is_trained
    return other.to(model.device).eval()


class Models:
    """Which model each visitor works with: `base`, or another one that the visitor with a key has `chosen`."""

    def __init__(self, base: LoadedModel, chosen: Callable[[str], LoadedModel | None] = lambda key: None) -> None:
        self.base, self._chosen = base, chosen
        self._shared: WeakValueDictionary[str, LoadedModel] = WeakValueDictionary()
        self._loading = Lock()

    @property
    def are_busy(self) -> bool:
        """Whether one of them is computing, so that what can be left out should be."""
        return self.base.passes.count > 0

    def of(self, key: str) -> LoadedModel:
        """A visitor's model."""
        return self._chosen(key) or self.base

    def published(self, name: str | None) -> str | None:
        """The name of a model that the page offers, beside the app's own; None of any other."""
        offered = (o.name for o in OFFERS if o.name != self.base.name)
        return next((known for known in offered if known == name and not is_zero_gpu()), None)

    def choices(self, finetuned: Sequence[str] = (), *, measured: bool = False) -> list[tuple[str, str]]:
        """Lines of the menu and the models that they mean: the app's own, those of the visitor, published ones.

        Args:
            measured: on a CPU, say what they take on this machine, measured now if it is not known yet.
        """
        base = self.base.predictor.model
        yardstick = None
        if measured and base.device.type == "cpu" and not is_zero_gpu():  # a GPU has other ratios, and is quick anyway
            yardstick = measured_seconds(base.compute_dtype or torch.float32)
        lines = {offer.name: offer.label(yardstick) for offer in OFFERS}
        own = {name: name for name in (self.base.name, *finetuned)}
        names = own | {name: line for name, line in lines.items() if name in own or self.published(name)}
        return [(line, name) for name, line in names.items()]

    def load(self, name: str, source: Path | str) -> LoadedModel:
        """A fine-tuned model of a folder, or a published one, on the device and in the precision of the app's own.

        All visitors share a published one; it is let go when the last of them has chosen another.

        Raises:
            HubError: if it cannot be had from the Hub.
        """
        base = self.base.predictor.model
        with self._loading:  # those who want the same wait for it
            loaded = self._shared.get(name) if isinstance(source, str) else None
            if loaded is None:
                model = load_model(source, base.device, base.compute_dtype or "auto")
                loaded = LoadedModel.of(model, name, self.base.passes)
            if isinstance(source, str):
                self._shared[name] = loaded
            return loaded
