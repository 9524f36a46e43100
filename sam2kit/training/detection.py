"""Train the detection head on the features of an image encoder that stays as it is.

It comes after the training of masks, on the encoder of the best epoch. One more view of a
training picture is encoded every few steps; their features are kept, so that most steps only run the small head.

Source: quality focal loss for targets between 0 and 1, arXiv:2006.04388; targets as in model/detection_head.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from sam2kit.data.coco import NAMELESS
from sam2kit.data.sample import Dataset, LabelledFrames, Sample
from sam2kit.hardware import fit_threads
from sam2kit.model.detection_head import STRIDE
from sam2kit.model.sam2 import SAM2, ImageFeatures
from sam2kit.training.sampling import Augmentation, sample_clip

_RATE, _FINAL_SHARE, _WARM_UP, _WEIGHT_DECAY, _BATCH = 1e-3, 0.01, 20, 0.05, 4
_FOCUS, _DEPTHS = 2.0, 4.0  # power of how far off a depth is, by which its loss counts; and how much against the boxes
_VIEWS = Augmentation(zoom=0.6, light=0.15)
_LOOKED_AT = 32  # samples, to see whether detection is worth it
_SMALLEST = 0.5  # a picture becomes in a third of the views, as a share of its side
_VIEWS_OF_ONE = 24  # at most, of one picture
_STEPS_PER_VIEW = 3  # after the first view of each picture; so a seed means the same views on any machine

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _View:
    """One view's features, and what the head is to answer."""

    features: ImageFeatures  # float16, on the CPU
    depth: Tensor
    sides: Tensor
    weight: Tensor


def worth_detecting(data: Dataset) -> bool:
    """Whether objects have classes, or a picture shows several; tried on the first samples."""
    return bool(data.classes) or any(
        len(picture.masks) > 1 or picture.labels for picture in _pictures(data.samples[:_LOOKED_AT])
    )


def classes_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The classes of all true masks, NAMELESS among them if some have none."""
    return tuple(sorted({label or NAMELESS for picture in _pictures(samples) for label in picture.picture_labels}))


def _pictures(samples: Sequence[Sample]) -> Iterator[LabelledFrames]:
    """The first frame with truth of each sample that can be read."""
    for sample in samples:
        with suppress(ValueError, OSError):  # the training of the masks tells about it
            yield sample.read(list(sample.truth_frames)[:1])


def train_detection(
    model: SAM2,
    samples: Sequence[Sample],
    classes: tuple[str, ...],
    *,
    seed: int = 0,
    seconds: float = math.inf,
    steps: int = 600,
    most_bytes: float = 2.0**30,
    progress: Progress = lambda done, total: None,
) -> None:
    """Give a model a detection head, and train it on pictures, and on single frames of clips.

    Args:
        model: its other weights stay as they are.
        samples: with true masks of everything that is to be found.
        classes: of the masks; those of a class that is not among them count as the first one.
        seconds: no further step is begun after them.
        most_bytes: of features that are kept.
        progress: called with steps done, of how many; with a limit of time these are guessed.
    Raises:
        ValueError: if no sample shows an object.
    """
    torch.manual_seed(seed)
    model.eval().set_classes(classes)
    head = model.detection_head.float().train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    views = _Views(model, samples, classes, seed, most_bytes)
    rng = np.random.default_rng([seed, 5])
    started, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        views.grow(step)
        batch = [views.kept[n] for n in rng.integers(len(views.kept), size=_BATCH)]
        for group in optimizer.param_groups:
            cosine = _FINAL_SHARE + (1 - _FINAL_SHARE) * (1 + math.cos(math.pi * done)) / 2
            group["lr"] = _RATE * min(1.0, (step + 1) / _WARM_UP) * cosine
        if model.device.type == "cpu":
            fit_threads()
        features = ImageFeatures(*(torch.cat(maps) for maps in zip(*(v.features.maps for v in batch), strict=True)))
        features = features.to(model.device).to(torch.float32)
        optimizer.zero_grad()
        with torch.autocast(model.device.type, enabled=False):
            depth, sides = head(features.stride16, features.stride8)
            detection_loss(depth, sides, batch).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        step += 1
        done = max(step / steps, (time.monotonic() - started) / seconds)
        progress(step, max(step, round(step / done)))
    head.to(model.weight_dtype).eval()


class _Views:
    """Views of the training pictures, encoded and kept."""

    def __init__(
        self, model: SAM2, samples: Sequence[Sample], classes: tuple[str, ...], seed: int, most_bytes: float
    ) -> None:
        self.model, self.samples, self.seed = model, samples, seed
        self.number = {name: n for n, name in enumerate(classes)}
        self.kept: list[_View] = []
        self._tried = 0
        self._room = most_bytes

    def grow(self, step: int) -> None:
        """Encode more of them: at first one of each picture, then one in some steps, as long as there is memory."""
        while self._tried < len(self.samples) or (self._has_room and step % _STEPS_PER_VIEW == 0):
            if (view := self._view(self._tried)) is not None:
                self.kept.append(view)
                self._room -= sum(t.numel() * t.element_size() for t in view.features.maps)
            self._tried += 1
            if self._tried > len(self.samples):
                break
        if not self.kept:
            raise ValueError("no training picture shows an object, so there is nothing to learn finding")

    @property
    def _has_room(self) -> bool:
        return self._room >= 0 and self._tried < _VIEWS_OF_ONE * len(self.samples)

    def _view(self, number: int) -> _View | None:
        turn, place = divmod(number, len(self.samples))
        sample, rng = self.samples[place], np.random.default_rng([self.seed, 4, number])
        views = _VIEWS if turn else Augmentation(flip=0.0)
        side = self.model.config.side
        try:
            sampled = sample_clip(sample, rng, views, side=side, frames=1, objects=None, whole=False)
        except (ValueError, OSError):  # the training of the masks has told about it
            return None
        if sampled is None:
            return None
        pixels, masks = sampled.clip.pixels[:, 0], sampled.clip.masks[0]
        if turn % 3 == 2:
            pixels, masks = _smaller(rng, pixels, masks)
        with torch.inference_mode(), self.model.precision():
            features = self.model.encode_image(pixels.to(self.model.device))
        kinds = [self.number.get(label or NAMELESS, 0) for label in sampled.labels]
        answer = targets(masks[0].numpy(), kinds, len(self.number))
        return _View(features.to("cpu").to(torch.float16), *answer)


def _smaller(rng: Generator, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """A picture [1, 3, S, S] and its masks [1, N, S, S] smaller, somewhere in the square; around it is the mean colour.

    The things of the next picture may be farther away.
    """
    side = pixels.shape[-1]
    small = int(rng.uniform(_SMALLEST, 1.0) * side)
    x, y = (int(rng.integers(side - small + 1)) for _ in range(2))
    place = (x, side - small - x, y, side - small - y)
    shrunk = F.interpolate(pixels, (small, small), mode="bilinear", antialias=True, align_corners=False)
    return F.pad(shrunk, place), F.pad(F.interpolate(masks.float(), (small, small), mode="nearest") > 0, place)


def targets(masks: np.ndarray, kinds: Sequence[int], classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the head is to answer for one picture.

    Args:
        masks: bool [N, S, S].
        kinds: class of each, 0..classes - 1.
    Returns:
        depth [classes, S/8, S/8], logarithms of the distances to the box's sides [4, S/8, S/8], and how much these
        count [S/8, S/8]: as much as the place is deep in its object.
    """
    side = masks.shape[-1]
    small = side // STRIDE
    depth = np.zeros((classes, small, small), np.float32)
    sides, deepest = np.zeros((4, small, small), np.float32), np.zeros((small, small), np.float32)
    middle = (np.arange(small, dtype=np.float32) + 0.5) / small
    for mask, kind in zip(masks, kinds, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            continue
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        r0, r1, c0, c1 = y0 // STRIDE, -(-y1 // STRIDE), x0 // STRIDE, -(-x1 // STRIDE)
        part = mask[r0 * STRIDE : r1 * STRIDE, c0 * STRIDE : c1 * STRIDE].astype(np.uint8)
        inside = cv2.distanceTransform(cv2.copyMakeBorder(part, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
        inside = inside[1:-1, 1:-1] / inside.max()
        pooled = inside.reshape(r1 - r0, STRIDE, c1 - c0, STRIDE).max(axis=(1, 3))
        place = (slice(r0, r1), slice(c0, c1))
        depth[kind][place] = np.maximum(depth[kind][place], pooled)
        here = pooled > deepest[place]
        deepest[place] = np.where(here, pooled, deepest[place])
        x, y = middle[c0:c1][None, :], middle[r0:r1][:, None]
        for n, away in enumerate((x - x0 / side, y - y0 / side, x1 / side - x, y1 / side - y)):
            sides[n][place] = np.where(here, np.log(np.maximum(away, 1 / side)), sides[n][place])
    return torch.from_numpy(depth), torch.from_numpy(sides), torch.from_numpy(deepest)


def detection_loss(depth: Tensor, sides: Tensor, views: Sequence[_View]) -> Tensor:
    """Of the head's answers [B, classes, h, w] and [B, 4, h, w]; a mean over the depth of all objects."""
    both = ([getattr(view, name) for view in views] for name in ("depth", "sides", "weight"))
    true_depth, true_sides, weight = (torch.stack(maps).to(depth.device) for maps in both)
    off = (depth.sigmoid() - true_depth).abs() ** _FOCUS
    total = (off * F.binary_cross_entropy_with_logits(depth, true_depth, reduction="none")).sum()
    total = _DEPTHS * total + ((sides - true_sides).abs().mean(dim=1) * weight).sum()
    return total / weight.sum().clamp(min=1.0)
