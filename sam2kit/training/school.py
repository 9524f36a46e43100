"""One step of fine-tuning: draw lessons from a dataset, play a session with every object, run backward in pieces.

A step's samples are numbered through the whole training, and everything random about a sample follows from its number:
any number of processes sees the same lessons, and so does a resumed run. Each sample's objects share the features of
the image encoder; they go through the decoder a few at a time, and the encoder's own backward pass comes once at the
end, with the same gradient as if all had gone at once. An encoder that does not learn runs without gradients, and
where views come again its features are kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from sam2kit.datasets.samples import Sample
from sam2kit.model.sam2 import SAM2, ImageFeatures
from sam2kit.training.lessons import DrawnLesson, ViewKey, draw_lesson
from sam2kit.training.recipes import Recipe
from sam2kit.training.room import Room, free_bytes
from sam2kit.training.session import TERMS, SessionTraining
from sam2kit.training.simulated_user import draw_plans
from sam2kit.training.trainer import Backward, mean_over_processes

_KEPT_SHARE = 0.25  # of the free memory, for features that are kept


class School:
    """Plays the steps of one fine-tuning; `play` is what a Trainer asks for.

    Args:
        model: what learns.
        samples: what there is to learn from.
        recipe: how.
        room: how much at once; changed by `make_room`.
        seed: decides the order of the samples and everything that is drawn.
        accelerator: says which samples are this process's.
    """

    def __init__(
        self, model: SAM2, samples: Sequence[Sample], recipe: Recipe, room: Room, seed: int, accelerator: Accelerator
    ) -> None:
        self.training, self.model = SessionTraining(model), model
        self.samples, self.recipe, self.room, self.seed = samples, recipe, room, seed
        self.accelerator = accelerator
        self.skipped: set[str] = set()  # names of samples that could not be used
        self.names: list[str] = []  # of the samples in the latest step
        self.broken: list[str] = []  # of those whose loss was not a number
        self._encoder_learns = any(p.requires_grad for p in encoder_parameters(model))
        keeps = recipe.augmentation.comes_again and not self._encoder_learns
        self._features = FeatureStore(int(_KEPT_SHARE * free_bytes(torch.device("cpu"), accelerator)) if keeps else 0)
        self._ahead: dict[int, Future[DrawnLesson | None]] = {}
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="lessons")

    def play(self, step: int, progress: float, backward: Backward) -> dict[str, float]:
        """One step of this process: losses, backward, figures."""
        lessons = self._lessons(step)
        self.names = [drawn.name for _, drawn in lessons]
        objects = sum(drawn.lesson.masks.shape[2] for _, drawn in lessons)
        # losses count by their objects, wherever these are; that no process has one is rare
        share = max(mean_over_processes(objects, self.accelerator), 1 / self.accelerator.num_processes)
        totals = dict.fromkeys(("loss", *TERMS), 0.0)
        figures: dict[str, list[Tensor]] = {}
        for number, drawn in lessons:
            self._teach(number, drawn, share, backward, totals, figures)
        return totals | {name: torch.cat(values).mean().item() for name, values in figures.items()}

    def about_step(self) -> str:
        """Names of this process's samples in the latest step, or of those that broke it."""
        return ", ".join(self.broken or self.names)

    def close(self) -> None:
        """Stop reading ahead."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def make_room(self) -> bool:
        """Take less at once, after the device ran out of memory; False if there is nothing left to give up."""
        smaller = self.room.smaller()
        if smaller is None:
            return False
        if (smaller.side, smaller.frames) != (self.room.side, self.room.frames):
            self._ahead.clear()
            self._features.clear()
        self.room = smaller
        warnings.warn(f"the device is full; going on with {smaller}")
        return True

    def _lessons(self, step: int) -> list[tuple[int, DrawnLesson]]:
        """This process's lessons of a step, while those of the next one are already being read."""
        found = []
        for number in self._numbers(step):
            drawn = self._ahead.pop(number, None) or self._readers.submit(self._draw, number)
            lesson = drawn.result()
            if lesson is not None:
                found.append((number, lesson))
        for number in self._numbers(step + 1):
            if number not in self._ahead:
                self._ahead[number] = self._readers.submit(self._draw, number)
        return found

    def _numbers(self, step: int) -> range:
        batch, accelerator = self.recipe.batch, self.accelerator
        return range(step * batch + accelerator.process_index, (step + 1) * batch, accelerator.num_processes)

    def _draw(self, number: int) -> DrawnLesson | None:
        """The lesson with this number; None, and a note, where the sample cannot be used."""
        turn, place = divmod(number, len(self.samples))
        order = np.random.default_rng([self.seed, 0, turn]).permutation(len(self.samples))
        sample, room = self.samples[order[place]], self.room
        rng = np.random.default_rng([self.seed, 1, number])
        options = {"side": room.side, "frames": room.frames, "objects": self.recipe.objects}
        try:
            drawn = draw_lesson(sample, rng, self.recipe.augmentation, **options)
            if drawn is not None:
                return drawn
            reason = f"{sample.name} shows no object that is large enough"
        except (ValueError, OSError) as error:
            reason = str(error)
        if sample.name not in self.skipped:
            warnings.warn(f"{reason}; the sample is left out")
            self.skipped.add(sample.name)
        if len(self.skipped) == len(self.samples):
            raise ValueError(f"none of the {len(self.samples)} samples can be used; see `sam2kit data check`")
        return None

    def _teach(
        self,
        number: int,
        drawn: DrawnLesson,
        share: float,
        backward: Backward,
        totals: dict[str, float],
        figures: dict[str, list[Tensor]],
    ) -> None:
        """Play one lesson, a few objects at a time."""
        lesson = drawn.lesson.to(self.accelerator.device)
        rng = np.random.default_rng([self.seed, 2, number])
        plans = draw_plans(self.recipe.habits, lesson.present(), rng)
        generators = [torch.Generator().manual_seed(int(rng.integers(2**62))) for _ in plans]
        encoded = self._encode(lesson.pixels[:, 0], drawn.keys)
        # float32, so that the gradients of many parts add up without losing digits
        leaves = [t.detach().float().requires_grad_(self._encoder_learns) for t in _maps(encoded)]
        whole = ImageFeatures(*leaves)
        features = [whole[t : t + 1] for t in range(len(lesson.pixels))]
        for start in range(0, len(plans), self.room.objects):
            part = slice(start, start + self.room.objects)
            objects = lesson.masks[:, 0, part]
            rules, weights = self.recipe.rules, self.recipe.weights
            done = self.training(features, objects, plans[part], rules, weights, generators[part])
            if not torch.isfinite(done.total):
                self.broken.append(drawn.name)  # the loop stops all processes at the end of the step
            backward(done.total / share)
            totals["loss"] += done.total.item() / share
            for name, value in done.terms.items():
                totals[name] += value.item() / share
            for name, values in done.figures.items():
                figures.setdefault(name, []).extend(values)
        used = [(t, leaf.grad) for t, leaf in zip(_maps(encoded), leaves, strict=True) if leaf.grad is not None]
        if used:
            torch.autograd.backward([t for t, _ in used], [g.to(t.dtype) for t, g in used])

    def _encode(self, pixels: Tensor, keys: Sequence[ViewKey | None]) -> ImageFeatures:
        """Features of [T, 3, S, S] frames; kept ones where the encoder does not learn."""
        if self._encoder_learns:
            return self.model.encode_image(pixels)
        found = {t: self._features.get(key) for t, key in enumerate(keys)}
        kept = {t: features for t, features in found.items() if features is not None}
        missing = [t for t in found if t not in kept]
        if missing:
            with torch.no_grad():
                fresh = self.model.encode_image(pixels[missing])
            for n, t in enumerate(missing):
                kept[t] = fresh[n : n + 1]
                self._features.put(keys[t], kept[t])
        parts = [_maps(kept[t].to(self.accelerator.device)) for t in found]
        return ImageFeatures(*(torch.cat(maps) for maps in zip(*parts, strict=True)))


class FeatureStore:
    """Features by key, in the memory of the computer, up to a number of bytes; what comes later is not kept."""

    def __init__(self, most_bytes: int) -> None:
        self.left = self.most = most_bytes
        self._kept: dict[ViewKey, ImageFeatures] = {}

    def get(self, key: ViewKey | None) -> ImageFeatures | None:
        """What was kept under a key."""
        return None if key is None else self._kept.get(key)

    def put(self, key: ViewKey | None, features: ImageFeatures) -> None:
        """Keep features if there is room."""
        size = sum(t.numel() * t.element_size() for t in _maps(features))
        if key is not None and size <= self.left:
            self._kept[key] = features.to("cpu")
            self.left -= size

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.left = self.most


def encoder_parameters(model: SAM2) -> list[torch.nn.Parameter]:
    """Of everything that `SAM2.encode_image` runs."""
    decoder = model.sam_mask_decoder
    return [p for part in (model.image_encoder, decoder.conv_s0, decoder.conv_s1) for p in part.parameters()]


def _maps(features: ImageFeatures) -> tuple[Tensor, Tensor, Tensor]:
    return features.stride16, features.stride8, features.stride4
