"""One step of fine-tuning: sample training clips, simulate the interaction on every object, run backward in pieces.

A step's samples are numbered through the whole training, and everything random about a sample follows from its number:
any number of processes sees the same clips, and so does a resumed run. A sample's objects share the features of the
image encoder; they go through the decoder a few at a time, and the encoder's own backward pass comes once at the end,
with the same gradient as if all had gone at once. An encoder that is not trained runs without gradients, and where
views come again its features are kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sam2kit.data.sample import Sample
from sam2kit.model.sam2 import SAM2, ImageFeatures
from sam2kit.processes import mean_over_processes
from sam2kit.training.configuration import TrainingConfig
from sam2kit.training.interaction import TERMS, interaction_losses
from sam2kit.training.memory_plan import MicroBatch, free_bytes
from sam2kit.training.sampling import SampledClip, ViewKey, sample_clip, sample_prompts
from sam2kit.training.trainer import Backward

KEPT_SHARE = 0.25  # of the free memory, for features that are kept


class FineTuningSteps:
    """Takes the steps of one fine-tuning; `training_step` is what a Trainer asks for; `shrink` takes less at once."""

    def __init__(
        self,
        model: SAM2,
        samples: Sequence[Sample],
        config: TrainingConfig,
        micro_batch: MicroBatch,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.samples, self.config = model, samples, config
        self.micro_batch, self.accelerator = micro_batch, accelerator
        self.skipped: set[str] = set()  # names of samples that could not be used
        self.names: list[str] = []  # of the samples in the latest step
        self.broken: list[str] = []  # of those whose loss was not a number
        self._encoder_is_trained = any(p.requires_grad for p in encoder_parameters(model))
        keeps = config.augmentation.comes_again and not self._encoder_is_trained
        self._features: dict[ViewKey | None, ImageFeatures] = {}
        self._most = KEPT_SHARE * free_bytes(torch.device("cpu"), accelerator) if keeps else 0.0  # bytes of features
        self._room = self._most  # of these bytes, what is left
        self._ahead: dict[int, Future[SampledClip | None]] = {}
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="training samples")

    def training_step(self, step: int, progress: float, backward: Backward) -> dict[str, float]:
        """One step of this process: losses, backward, figures."""
        sampled = self._clips(step)
        self.names = [one.name for _, one in sampled]
        objects = sum(one.clip.masks.shape[2] for _, one in sampled)
        # losses count by their objects, wherever these are; that no process has one is rare
        share = max(mean_over_processes(objects, self.accelerator), 1 / self.accelerator.num_processes)
        totals = dict.fromkeys(("loss", *TERMS), 0.0)
        figures: dict[str, list[Tensor]] = {}
        for number, one in sampled:
            self._train_on(number, one, share, backward, totals, figures)
        return totals | {name: torch.cat(values).mean().item() for name, values in figures.items()}

    def describe(self) -> str:
        """Names of this process's samples in the latest step, or of those that broke it."""
        return ", ".join(self.broken or self.names)

    def close(self) -> None:
        """Stop reading ahead."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def shrink(self) -> bool:
        """Take less at once, after the device ran out of memory; False if there is nothing left to give up."""
        smaller = self.micro_batch.shrunk()
        if smaller is None:
            return False
        if (smaller.side, smaller.frames) != (self.micro_batch.side, self.micro_batch.frames):
            self._ahead.clear()
            self._features.clear()
            self._room = self._most
        self.micro_batch = smaller
        warnings.warn(f"the device is full; going on with {smaller}")
        return True

    def _clips(self, step: int) -> list[tuple[int, SampledClip]]:
        """This process's training clips of a step, while those of the next one are already being read."""
        found = []
        for number in self._numbers(step):
            future = self._ahead.pop(number, None) or self._readers.submit(self._sample, number)
            one = future.result()
            if one is not None:
                found.append((number, one))
        for number in self._numbers(step + 1):
            if number not in self._ahead:
                self._ahead[number] = self._readers.submit(self._sample, number)
        return found

    def _numbers(self, step: int) -> range:
        batch, accelerator = self.config.batch, self.accelerator
        return range(step * batch + accelerator.process_index, (step + 1) * batch, accelerator.num_processes)

    def _sample(self, number: int) -> SampledClip | None:
        """The training clip with this number; None, and a warning, where the sample cannot be used."""
        turn, place = divmod(number, len(self.samples))
        order = np.random.default_rng([self.config.seed, 0, turn]).permutation(len(self.samples))
        sample, size = self.samples[order[place]], self.micro_batch
        rng = np.random.default_rng([self.config.seed, 1, number])
        try:
            clip = sample_clip(
                sample, rng, self.config.augmentation,
                side=size.side, frames=size.frames, objects=self.config.objects,
            )  # fmt: skip
            if clip is not None:
                return clip
            reason = f"{sample.name} shows no object that is large enough"
        except (ValueError, OSError) as error:
            reason = str(error)
        if sample.name not in self.skipped:
            warnings.warn(f"{reason}; the sample is left out")
            self.skipped.add(sample.name)
        if len(self.skipped) == len(self.samples):
            raise ValueError(f"none of the {len(self.samples)} samples can be used; see `sam2kit data check`")
        return None

    def _train_on(
        self,
        number: int,
        sampled: SampledClip,
        share: float,
        backward: Backward,
        totals: dict[str, float],
        figures: dict[str, list[Tensor]],
    ) -> None:
        """Simulate the interaction on one training clip, a few objects at a time."""
        clip = sampled.clip.to(self.accelerator.device)
        rng = np.random.default_rng([self.config.seed, 2, number])
        plans = sample_prompts(self.config.prompts, clip.present(), rng)
        generators = [torch.Generator().manual_seed(int(rng.integers(2**62))) for _ in plans]
        encoded = self._encode(clip.pixels[:, 0], sampled.keys)
        # float32, so that the gradients of many parts add up without losing digits
        leaves = [t.detach().float().requires_grad_(self._encoder_is_trained) for t in encoded.maps]
        whole = ImageFeatures(*leaves)
        features = [whole[t : t + 1] for t in range(len(clip.pixels))]
        for start in range(0, len(plans), self.micro_batch.objects):
            part = slice(start, start + self.micro_batch.objects)
            masks, supervision = clip.masks[:, 0, part], self.config.supervision
            losses = interaction_losses(self.model, features, masks, plans[part], supervision, generators[part])
            if not torch.isfinite(losses.total):
                self.broken.append(sampled.name)  # the loop stops all processes at the end of the step
            backward(losses.total / share)
            totals["loss"] += losses.total.item() / share
            for name, value in losses.terms.items():
                totals[name] += value.item() / share
            for name, values in losses.figures.items():
                figures.setdefault(name, []).extend(values)
        used = [(t, leaf.grad) for t, leaf in zip(encoded.maps, leaves, strict=True) if leaf.grad is not None]
        if used:
            torch.autograd.backward([t for t, _ in used], [g.to(t.dtype) for t, g in used])

    def _encode(self, pixels: Tensor, keys: Sequence[ViewKey | None]) -> ImageFeatures:
        """Features of [T, 3, S, S] frames; kept ones where the encoder is not trained."""
        if self._encoder_is_trained:
            return self.model.encode_image(pixels)
        found = [self._features.get(key) for key in keys]
        missing = [t for t, features in enumerate(found) if features is None]
        if missing:
            with torch.no_grad():
                fresh = self.model.encode_image(pixels[missing])
            for n, t in enumerate(missing):
                found[t] = fresh[n : n + 1]
                self._keep(keys[t], fresh[n : n + 1])
        parts = [features.to(self.accelerator.device).maps for features in found if features is not None]
        return ImageFeatures(*(torch.cat(maps) for maps in zip(*parts, strict=True)))

    def _keep(self, key: ViewKey | None, features: ImageFeatures) -> None:
        """Keep features in the computer's memory, as long as there is room; what comes later is not kept."""
        size = sum(t.numel() * t.element_size() for t in features.maps)
        if key is not None and size <= self._room:
            self._features[key] = features.to("cpu")
            self._room -= size


def encoder_parameters(model: SAM2) -> list[nn.Parameter]:
    """Of everything that `SAM2.encode_image` runs."""
    detail = ("sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")
    return [p for name, p in model.named_parameters() if name.startswith(("image_encoder.", *detail))]
