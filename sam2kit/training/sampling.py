"""From a sample of a dataset to a training clip, and how its objects are prompted: everything that is drawn by chance.

    sample_clip      some frames, some objects, and one random view of them in the model's square
    sample_prompts   for each object: on which frames a simulated user prompts it, how, and where it is corrected
    *_clicks, ...    where clicks fall, how boxes are off, how a mask prompt is wrong

What a sample turns into follows from the random generator alone, so a resumed run sees what an uninterrupted one would
have seen. The published code draws one way of prompting for a whole batch; here the objects of a clip get different
ones, though not so many that each goes through the network alone.

Source: SAM 2, arXiv:2408.00714, training appendix (augmentation, sampling of frames and objects, interactive
simulation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from sam2kit.data.sample import LabelledFrames, Sample
from sam2kit.predict.geometry import mask_to_square, normalise

_WINDOWS_TRIED = 20  # starts in a clip until an object is visible on the first frame
_BOX_NOISE, _BOX_NOISE_MAX = 0.1, 20.0  # of the box's side; pixels


@dataclass(frozen=True)
class Augmentation:
    """How far a view may be from the picture. The default only mirrors."""

    flip: float = 0.5  # chance
    reverse: float = 0.5  # chance that a clip runs backwards
    zoom: float = 1.0  # smallest share of the picture's edges that is cut out, around an object
    turn: float = 0.0  # degrees to either side
    shear: float = 0.0  # degrees, along x
    light: float = 0.0  # largest change of brightness, as a share; contrast and saturation by a third of it
    grey: float = 0.0  # chance of losing all colour

    @property
    def comes_again(self) -> bool:
        """Whether there are so few views that the same one comes again."""
        return self.zoom == 1 and not (self.turn or self.shear or self.light or self.grey)


NOTHING_CHANGED = Augmentation(flip=0, reverse=0)
MIRRORED = Augmentation()
VARIED = Augmentation(zoom=0.6, turn=10, light=0.15, grey=0.05)
PUBLISHED = Augmentation(reverse=0.0, turn=25, shear=20, light=0.1, grey=0.05)

ViewKey = tuple[str, int, int, bool]  # sample, frame, side of the square, whether mirrored


@dataclass(frozen=True)
class TrainingClip:
    """B clips of T frames with O objects each, of which all or most are visible on frame 0. A picture has T = 1."""

    pixels: Tensor  # [T, B, 3, S, S] float32, normalised
    masks: Tensor  # [T, B, O, S, S] bool; empty where an object is absent

    def to(self, device: torch.device) -> TrainingClip:
        """The same on another device."""
        return TrainingClip(self.pixels.to(device), self.masks.to(device))

    def present(self) -> np.ndarray:
        """bool [T, B * O], on which frames each object is in the picture."""
        return self.masks.flatten(1, 2).flatten(2).any(dim=2).cpu().numpy()


@dataclass(frozen=True)
class SampledClip:
    """A training clip and where it came from."""

    clip: TrainingClip  # B = 1
    name: str  # of the sample
    keys: list[ViewKey | None]  # of each frame: the same for the same pixels; None where the view will not come again
    labels: list[str | None]  # of each object its class, where that is known


def sample_clip(
    sample: Sample,
    rng: Generator,
    augmentation: Augmentation,
    *,
    side: int,
    frames: int,
    objects: int | None,
    whole: bool = True,
) -> SampledClip | None:
    """A random training clip from one sample; all its frames and masks are changed alike.

    Args:
        side: of the model's square, in pixels.
        frames: of a clip, at most.
        objects: at most; drawn among those that are visible on the first frame; None takes all.
        whole: whether every object has to stay in the view, at least in part.
    Returns:
        None if the sample shows no object, or none that is large enough for the square.
    """
    drawn = (sample.read(), [0]) if sample.is_picture else _sample_window(sample, rng, augmentation, frames)
    if drawn is None:
        return None
    read, numbers = drawn
    pictures, tracks, labels = read.frames, list(read.masks.values()), read.picture_labels
    visible = [n for n, track in enumerate(tracks) if track[0].any()]
    chosen = sorted(rng.permutation(visible)[:objects])
    if not chosen:
        return None
    masks = np.stack([tracks[n] for n in chosen], axis=1)  # [T, N, H, W]
    flip = bool(rng.random() < augmentation.flip)
    pictures, masks = _cut_out(rng, augmentation, pictures, masks, whole=whole)
    pixels, squares = _to_square(pictures, masks, side)
    seen = squares[0].flatten(1).any(dim=1)  # some are too small for the square
    if not seen.any():
        return None
    squares, labels = squares[:, seen], [labels[n] for n, is_seen in zip(chosen, seen.tolist(), strict=True) if is_seen]
    pixels, squares = _warp(rng, augmentation, _recolour(rng, augmentation, pixels), squares)
    if flip:
        pixels, squares = pixels.flip(-1), squares.flip(-1)
    keys = [(sample.name, n, side, flip) if augmentation.comes_again else None for n in numbers]
    return SampledClip(TrainingClip(pixels[:, None], squares[:, None]), sample.name, keys, labels)


def _sample_window(
    sample: Sample, rng: Generator, augmentation: Augmentation, frames: int
) -> tuple[LabelledFrames, list[int]] | None:
    """Neighbouring frames with known truth, such that an object is visible on the first of them."""
    known = list(sample.truth_frames)
    length = min(frames, len(known))
    for _ in range(_WINDOWS_TRIED if length else 0):
        start = int(rng.integers(len(known) - length + 1))
        window = known[start : start + length]
        if rng.random() < augmentation.reverse:
            window = window[::-1]
        read = sample.read(window)
        if any(mask[0].any() for mask in read.masks.values()):
            return read, window
    return None


def _cut_out(
    rng: Generator, augmentation: Augmentation, pictures: np.ndarray, masks: np.ndarray, *, whole: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A part of the picture around one of the objects; all of it if an object would be lost that has to stay."""
    share = rng.uniform(augmentation.zoom, 1.0)
    if share == 1:
        return pictures, masks
    height, width = masks.shape[-2:]
    h, w = max(int(height * share), 1), max(int(width * share), 1)
    rows, columns = np.nonzero(masks[0, int(rng.integers(masks.shape[1]))])
    at = int(rng.integers(len(rows)))
    y = int(np.clip(rows[at] - rng.integers(h), 0, height - h))
    x = int(np.clip(columns[at] - rng.integers(w), 0, width - w))
    cut = masks[..., y : y + h, x : x + w]
    kept = not whole or cut[0].any(axis=(1, 2)).all()
    return (pictures[:, y : y + h, x : x + w], cut) if kept else (pictures, masks)


def _to_square(pictures: np.ndarray, masks: np.ndarray, side: int) -> tuple[Tensor, Tensor]:
    """float32 [T, 3, S, S] in 0..1 and bool [T, N, S, S]."""
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    parts = (
        F.interpolate(one[None].float() / 255, (side, side), mode="bilinear", antialias=True, align_corners=False)
        for one in pixels
    )
    flat = torch.from_numpy(np.ascontiguousarray(masks)).flatten(0, 1)
    squares = torch.stack([mask_to_square(mask, side) for mask in flat]) > 0
    return torch.cat(list(parts)), squares.unflatten(0, masks.shape[:2])


def _recolour(rng: Generator, augmentation: Augmentation, pixels: Tensor) -> Tensor:
    """Brightness, contrast and saturation, the same on all frames; then normalised."""
    grey = pixels.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    light = augmentation.light
    if light:
        brightness, contrast, saturation = (1 + rng.uniform(-1, 1) * light * part for part in (1, 1 / 3, 1 / 3))
        pixels = pixels * brightness
        middle = (pixels * grey).sum(dim=1).mean()
        pixels = middle + (pixels - middle) * contrast
        pixels = torch.lerp((pixels * grey).sum(dim=1, keepdim=True), pixels, saturation)
    if rng.random() < augmentation.grey:
        pixels = (pixels * grey).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    return normalise(pixels.clamp(0, 1))


def _warp(rng: Generator, augmentation: Augmentation, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Turn and shear; not at all if an object would leave the first frame. The corners get the mean colour, 0."""
    turn, shear = (math.radians(rng.uniform(-1, 1) * most) for most in (augmentation.turn, augmentation.shear))
    if not (turn or shear):
        return pixels, masks
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = rotation @ torch.tensor([[1.0, math.tan(shear)], [0.0, 1.0]])
    theta = torch.cat([matrix, torch.zeros(2, 1)], dim=1)[None].expand(len(pixels), -1, -1)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    warped = F.grid_sample(masks.float(), grid, mode="nearest", align_corners=False) > 0
    if not warped[0].flatten(1).any(dim=1).all():
        return pixels, masks
    return F.grid_sample(pixels, grid, mode="bilinear", align_corners=False), warped


@dataclass(frozen=True)
class PromptPlan:
    """How one object is prompted on a clip, or several that are treated alike."""

    prompts: tuple[tuple[int, str], ...]  # (frame, "mask", "click", "box" or "corrupted mask"), in their order
    corrections: tuple[tuple[int, int], ...] = ()  # (frame, corrective clicks)

    def order(self, frames: int) -> list[int]:
        """Prompted frames first, as a user gives them; then the others as time goes."""
        prompted = [frame for frame, _ in self.prompts]
        return prompted + [t for t in range(frames) if t not in prompted]

    def without_boxes_of_nothing(self, present: np.ndarray) -> PromptPlan:
        """With a negative click on the background in place of a box where the object is absent (bool [T])."""
        prompts = tuple((t, "click" if kind == "box" and not present[t] else kind) for t, kind in self.prompts)
        return PromptPlan(prompts, self.corrections)


@dataclass(frozen=True)
class PromptSampling:
    """How plans are drawn. The defaults are the published ones, except that not all objects get the same.

    On a picture (a clip of one frame) a mask would leave nothing to learn, so clicks and boxes share its part.
    """

    mask: float = 0.5  # chance that the true mask is the prompt; it is taken as it is and never corrected
    box: float = 0.5  # chance of a box instead of a click, on each prompted frame
    prompted_frames: int = 2  # at most; the first frame always
    corrected_frames: int = 2  # at most; prompted frames always
    corrections: int = 7  # corrective clicks on a corrected frame
    plans: int = 2  # for one clip; each object gets one of them


def sample_prompts(sampling: PromptSampling, present: np.ndarray, rng: Generator) -> list[PromptPlan]:
    """One plan for each object.

    Args:
        present: bool [T, N], on which frames each object is in the picture.
    """
    frames, objects = present.shape
    drawn = [_sample_plan(sampling, frames, rng) for _ in range(sampling.plans)]
    if len(drawn) == 1:
        return drawn * objects
    chosen = rng.integers(len(drawn), size=(objects,))
    return [drawn[which].without_boxes_of_nothing(present[:, n]) for n, which in enumerate(chosen)]


def _sample_plan(sampling: PromptSampling, frames: int, rng: Generator) -> PromptPlan:
    by_mask = frames > 1 and rng.random() < sampling.mask
    count = min(int(rng.integers(1, sampling.prompted_frames + 1)), frames)
    prompted = [0, *(rng.permutation(frames - 1)[: count - 1] + 1).tolist()]
    if by_mask:
        return PromptPlan(tuple((t, "mask") for t in prompted))
    most = min(max(sampling.corrected_frames, count), frames)
    others = [t for t in range(1, frames) if t not in prompted]
    extra = rng.permutation(others)[: int(rng.integers(count, most + 1)) - count].tolist()
    kinds = tuple((t, "box" if rng.random() < sampling.box else "click") for t in prompted)
    return PromptPlan(kinds, tuple((int(t), sampling.corrections) for t in sorted(prompted + extra)))


def group_by_plan(plans: Sequence[PromptPlan]) -> dict[PromptPlan, list[int]]:
    """Objects by plan: those that are treated alike go through the network together."""
    groups: dict[PromptPlan, list[int]] = {}
    for number, plan in enumerate(plans):
        groups.setdefault(plan, []).append(number)
    return groups


# one CPU generator for each object, so that what is drawn for it does not depend on its company; or one for all
Randomness = torch.Generator | Sequence[torch.Generator]


def uniforms(generator: Randomness, count: int, *shape: int) -> Tensor:
    """[count, *shape] float32 in 0..1, on the CPU: a seed gives the same on any device."""
    if isinstance(generator, torch.Generator):
        return torch.rand(count, *shape, generator=generator)
    return torch.stack([torch.rand(shape, generator=g) for g in generator])


def uniform_clicks(
    truth: Tensor, prediction: Tensor, generator: Randomness, *, from_truth: float = 0.1
) -> tuple[Tensor, Tensor]:
    """One click per object, anywhere in its error; for clicks in the middle of it see evaluation/clicks.py.

    Args:
        truth: [N, H, W] bool.
        prediction: [N, H, W] bool; all False for first clicks.
        generator: see Randomness.
        from_truth: chance that a click ignores the prediction and falls anywhere on the object.
    Returns:
        [N, 2] float32 pixel indices (x, y), and [N] int64 labels, 1 where the object was missed. A perfect
        prediction gets a negative click in the background.
    """
    n, height, width = truth.shape
    random = uniforms(generator, n).to(truth.device)
    prediction = prediction & (random >= from_truth)[:, None, None]
    error = truth ^ prediction
    nothing = ~error.flatten(1).any(dim=1)
    where = torch.where(nothing[:, None, None], ~truth, error)
    draw = uniforms(generator, n, height * width).to(truth.device)
    index = torch.where(where.flatten(1), draw, -1.0).argmax(dim=1)
    labels = truth.flatten(1).gather(1, index[:, None]).squeeze(1).long()
    return torch.stack([index % width, index // width], dim=1).float(), labels


def move_corners(boxes: Tensor, size_hw: tuple[int, int] | torch.Size, uniforms: Tensor) -> Tensor:
    """Boxes [N, 4] whose corners each move by up to a tenth of the side, at most 20 pixels, inside the picture.

    Args:
        uniforms: [N, 4] in 0..1, where 0.5 is no movement.
    """
    height, width = size_hw
    reach = (_BOX_NOISE * (boxes[:, 2:] - boxes[:, :2])).clamp(max=_BOX_NOISE_MAX).repeat(1, 2)
    limit = torch.tensor([width - 1, height - 1] * 2, dtype=torch.float32, device=boxes.device)
    moved = boxes + (2 * uniforms.to(boxes.device) - 1) * reach
    return torch.minimum(moved.clamp(min=0), limit)


def corrupted_masks(truth: Tensor, generator: Randomness) -> Tensor:
    """True masks [N, S, S] at low resolution with a wavy error at the edge, as logits: [N, 1, S/4, S/4]."""
    soft = F.avg_pool2d(truth[:, None].float(), 4)
    soft = F.avg_pool2d(soft, 5, stride=1, padding=2)
    waves = uniforms(generator, len(truth), 1, 6, 6).to(truth.device) - 0.5
    waves = F.interpolate(waves, size=soft.shape[-2:], mode="bicubic", align_corners=False)
    return (20 * (soft - 0.5 + 0.7 * waves)).clamp(-10, 10)
