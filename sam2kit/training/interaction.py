"""The simulated interaction as a loss: prompt, decode, correct, remember, go on to the next frame.

Frames with true masks in, losses out. A picture is a clip of one frame. The image encoder has run before; its features
serve all objects and all rounds of corrections. Prompted frames come first and attend to no memory, then time goes by
and each frame attends to what the others left. Objects with the same plan go through the network together. Gradients
flow back through all memories, and through the logits that one round hands to the next.

Two properties of the published training are a matter of choice here, see `SupervisionOptions`: it supervises what the
decoder shows (-1024 everywhere where the object score says "absent", so that the loss jumps and a missed object gives
no gradient), and it sums the losses over passes, so that a clip counts more than a picture.

Source: SAM 2, arXiv:2408.00714, appendix "Training"; memories from true masks at first: scheduled sampling,
arXiv:1506.03099.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2kit.evaluation.clicks import centre_click, tight_boxes
from sam2kit.model.mask_decoder import Candidates
from sam2kit.model.memory_bank import POINTER_FRAMES, Memories, choose_memories
from sam2kit.model.sam2 import ABSENT_LOGIT, SAM2, ImageFeatures, PromptTensors
from sam2kit.training.losses import LossTerms, LossWeights, loss_terms
from sam2kit.training.sampling import (
    PromptPlan,
    Randomness,
    TrainingClip,
    corrupted_masks,
    group_by_plan,
    move_corners,
    uniform_clicks,
    uniforms,
)

TERMS = ("focal", "dice", "iou", "object_score")  # of the loss


@dataclass(frozen=True)
class SupervisionOptions:
    """What is supervised, and what the simulated user and the memory are given."""

    weights: LossWeights = field(default_factory=LossWeights)
    loss_stride: int = 1  # pixels of the model's square per pixel of the compared masks; 4 is the decoder's own size
    shown_only: bool = False  # supervise the shown masks, blank where the object score says so, as published
    inverted_boxes: bool = False  # box an absent object from corner to corner, the wrong way round, as published
    sum_passes: bool = False  # add up the losses of all passes, as published, instead of their mean
    from_truth: float = 0.1  # chance that a corrective click ignores the answer and falls on the object
    centre_clicks: bool = False  # in the middle of the error instead of anywhere in it; boxes are then exact
    single_too: bool = False  # on a first click, also train the candidate that later rounds show
    true_presence: bool = False  # memories and pointers are told whether the object is there, instead of its score
    hard_memories: bool = False  # prompted frames are remembered with hard masks, as at inference
    truth_in_memory: float = 0.0  # chance that a frame is remembered by its true mask
    pointer_frames: int | None = None  # the unit of the pointers' distances; None is the clip's length, at most 16


@dataclass
class InteractionLosses:
    """What the interaction on some objects gave: sums and lists over objects, so that parts can be put together."""

    total: Tensor  # scalar with gradient: the objects' losses, summed
    terms: dict[str, Tensor] = field(default_factory=dict)  # of TERMS: summed over objects, unweighted
    figures: dict[str, list[Tensor]] = field(default_factory=dict)  # name -> values [n] that will be averaged

    def means(self) -> dict[str, float]:
        """The figures, each averaged over whatever it was noted for."""
        return {name: torch.cat(values).mean().item() for name, values in self.figures.items()}


def interaction_losses(
    model: SAM2,
    features: Sequence[ImageFeatures],
    masks: Tensor,
    plans: Sequence[PromptPlan],
    options: SupervisionOptions,
    generator: Randomness,
) -> InteractionLosses:
    """Simulate the interaction on each of N objects.

    Args:
        features: of the T frames, each batched by object [N, ...] or of one frame that serves all of them [1, ...].
        masks: [T, N, S, S] bool, the truth; empty where an object is absent.
        plans: one for each object.
        generator: see Randomness.
    """
    losses = InteractionLosses(total=masks.new_zeros((), dtype=torch.float32))
    for plan, rows in group_by_plan(plans).items():
        index = torch.tensor(rows, device=masks.device)
        own = [f if len(f.stride16) == 1 else f[index] for f in features]
        random = generator if isinstance(generator, torch.Generator) else [generator[n] for n in rows]
        _Interaction(model, own, masks[:, index], plan, options, random, losses).run()
    return losses


def clip_losses(
    model: SAM2,
    clip: TrainingClip,
    plans: Sequence[PromptPlan],
    options: SupervisionOptions,
    generator: Randomness,
) -> InteractionLosses:
    """Encode all frames of a training clip, and simulate the interaction on each of its B * O objects."""
    frames, clips, objects = clip.masks.shape[:3]
    encoded = model.encode_image(clip.pixels.flatten(0, 1))
    clip_of = torch.arange(clips, device=clip.pixels.device).repeat_interleave(objects)
    features = [encoded[t * clips + clip_of] for t in range(frames)]
    return interaction_losses(model, features, clip.masks.flatten(1, 2), plans, options, generator)


@dataclass
class _Interaction:
    """One pass of N objects with the same plan through a clip; what it gives is added to `losses`."""

    model: SAM2
    features: Sequence[ImageFeatures]
    truth: Tensor
    plan: PromptPlan
    options: SupervisionOptions
    generator: Randomness
    losses: InteractionLosses
    conditioning: list[int] = field(default_factory=list)
    maps: dict[int, Tensor] = field(default_factory=dict)
    pointers: dict[int, Tensor] = field(default_factory=dict)
    passes: list[LossTerms] = field(default_factory=list)

    def run(self) -> None:
        """Go through the clip."""
        losses = self.losses
        for t in self.plan.order(len(self.truth)):
            self._frame(t)
        scale = 1 if self.options.sum_passes else len(self.passes)
        losses.total = losses.total + sum(terms.per_object().sum() for terms in self.passes) / scale
        for terms in self.passes:
            for name, values in terms.unweighted().items():
                losses.terms[name] = losses.terms.get(name, 0.0) + values.sum().detach() / scale

    def _frame(self, t: int) -> None:
        """Decode, be corrected, remember."""
        kind, corrections = dict(self.plan.prompts).get(t), dict(self.plan.corrections).get(t, 0)
        if kind == "mask":
            logits, pointer, present = self._take_mask(t)
        else:
            logits, pointer, present = self._decode_and_correct(t, kind, corrections)
        if kind or corrections:
            self.conditioning.append(t)
        if len(self.truth) > 1:
            self._remember(t, logits, pointer, present, hard=self.options.hard_memories and t in self.conditioning)

    def _take_mask(self, t: int) -> tuple[Tensor, Tensor, Tensor]:
        """The prompt is the mask; the decoder only makes the pointer."""
        truth = self.truth[t]
        given = self.model.answer_mask(self.features[t], truth[:, None].float())
        logits = torch.where(truth, 10.0, -10.0)[:, None]
        small = _shrink(truth, self.options.loss_stride)
        answer = (_resize(logits, small), given.predicted_iou[:, None], given.object_score[:, None])
        self.passes.append(loss_terms(*answer, small, self.options.weights))
        return logits, given.pointer, truth.flatten(1).any(dim=1)

    def _decode_and_correct(self, t: int, kind: str | None, corrections: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rounds of decoder passes: the last shown logits [N, 1, h, w], the pointers, and which are there [N]."""
        truth, features = self.truth[t], self.features[t]
        image = self.model.without_memory(features.stride16) if kind else self._recall(t)
        image = image.expand(len(truth), -1, -1, -1)
        small = _shrink(truth, self.options.loss_stride)
        there = truth.flatten(1).any(dim=1)
        points, labels, mask_prompt = self._first_prompt(kind, truth)
        given = 0  # corrective clicks
        while True:
            prompts = PromptTensors(points, labels, mask_prompt)
            if points is None and mask_prompt is None:
                prompts = PromptTensors.nothing_asked(len(image), image.device)
            four = self.model.decode(image, features, prompts).float()
            ambiguous = (0 if points is None else points.shape[1]) <= 1 and (points is not None or mask_prompt is None)
            answers = four.keep(slice(1, None)) if ambiguous else four.keep(slice(0, 1))
            present = there if self.options.true_presence else answers.object_score[:, 0] > 0
            logits, token, iou = self._supervise(answers, small, present)
            if ambiguous and kind and self.options.single_too:
                self._supervise(four.keep(slice(0, 1)), small, present)
            if given == 0:
                self._note("first_iou" if kind else "tracked_iou", iou[there])
            if given >= corrections:
                break
            mask_prompt = logits
            points, labels = self._correct(logits, truth, small, points, labels)
            given += 1
        if corrections:
            self._note("last_iou", iou[there])
        score = answers.object_score[:, 0].detach() > 0
        self._note("missed", (~score[there]).float())
        self._note("invented", score[~there].float())
        return logits, self.model.pointer(token, present), present

    def _supervise(self, answers: Candidates, truth: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Count one pass; returns the shown logits [N, 1, h, w], their tokens and their IoU [N]."""
        shown = torch.where(present[:, None, None, None], answers.mask_logits, ABSENT_LOGIT)
        judged = shown if self.options.shown_only else answers.mask_logits
        logits = _resize(judged, truth)
        terms = loss_terms(logits, answers.predicted_iou, answers.object_score, truth, self.options.weights)
        self.passes.append(terms)
        best = answers.predicted_iou.argmax(dim=1)
        rows = torch.arange(len(best), device=best.device)
        return shown[rows, best][:, None], answers.mask_tokens[rows, best], terms.actual_iou[rows, best].detach()

    def _first_prompt(self, kind: str | None, truth: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """points [N, n, 2], labels [N, n] and mask logits [N, 1, h, w]; None where not given."""
        if kind == "click":
            clicks, labels = self._click(truth, torch.zeros_like(truth))
            return clicks[:, None], labels[:, None], None
        if kind == "box":
            corners = self._boxes(truth).unflatten(1, (2, 2))
            return corners, torch.tensor([[2, 3]], device=truth.device).expand(len(truth), -1), None
        return None, None, corrupted_masks(truth, self.generator) if kind == "corrupted mask" else None

    def _boxes(self, truth: Tensor) -> Tensor:
        boxes = tight_boxes(truth)
        if self.options.inverted_boxes:
            side = truth.shape[-1]
            inverted = boxes.new_tensor([side, side, -1, -1])
            boxes = torch.where(truth.flatten(1).any(dim=1)[:, None], boxes, inverted)
        if self.options.centre_clicks:
            return boxes
        return move_corners(boxes, truth.shape[1:], uniforms(self.generator, len(truth), 4))

    def _correct(
        self, logits: Tensor, truth: Tensor, small: Tensor, points: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """All clicks so far and one more, in the error of the shown mask."""
        if self.options.centre_clicks:
            clicks, more = self._click(truth, _resize(logits, truth)[:, 0] > 0)
        else:
            stride = self.options.loss_stride
            shown = _resize(logits, small)[:, 0] > 0
            clicks, more = self._click(_covered(small), shown, from_truth=self.options.from_truth)
            clicks = (clicks + 0.5) * stride - 0.5
        if points is None or labels is None:
            return clicks[:, None], more[:, None]
        return torch.cat([points, clicks[:, None]], dim=1), torch.cat([labels, more[:, None]], dim=1)

    def _click(self, truth: Tensor, shown: Tensor, *, from_truth: float = 0.0) -> tuple[Tensor, Tensor]:
        """One click for each object: [N, 2] pixels of the given masks, [N] labels."""
        if not self.options.centre_clicks:
            return uniform_clicks(truth, shown, self.generator, from_truth=from_truth)
        pairs = zip(truth.cpu().numpy(), shown.cpu().numpy(), strict=True)
        clicks, labels = zip(*(centre_click(t, s) for t, s in pairs), strict=True)
        device = truth.device
        return torch.tensor(np.array(clicks), device=device).float(), torch.tensor(labels, device=device)

    def _recall(self, t: int) -> Tensor:
        """The frame's features after memory attention."""
        reach = self.options.pointer_frames or min(len(self.truth), POINTER_FRAMES)
        slots = self.model.config.memory.slots
        chosen = choose_memories(
            t, self.conditioning, self.maps, slots=slots, pointer_frames=reach, reverse=False, future_pointers=True
        )
        memories = Memories.of(
            [(self.maps[f], slot) for f, slot in chosen.maps],
            [(self.pointers[f], distance) for f, distance in chosen.pointers],
            dim=self.model.config.hidden_dim,
            pointer_frames=reach,
        )
        return self.model.recall(self.features[t].stride16, memories)

    def _remember(self, t: int, logits: Tensor, pointer: Tensor, present: Tensor, *, hard: bool) -> None:
        if self.options.truth_in_memory:
            use = uniforms(self.generator, len(logits)).to(logits.device) < self.options.truth_in_memory
            certain = _shrink(self.truth[t], self.truth.shape[-1] // logits.shape[-1])[:, None] * 20 - 10
            logits = torch.where(use[:, None, None, None], certain, logits)
        self.maps[t] = self.model.remember(self.features[t].stride16, logits, present, binary=hard)
        self.pointers[t] = pointer

    def _note(self, name: str, values: Tensor) -> None:
        if len(values):
            self.losses.figures.setdefault(name, []).append(values)


def _shrink(masks: Tensor, stride: int) -> Tensor:
    """[N, S, S] bool -> [N, S/stride, S/stride] float in 0..1: how much of each pixel is covered."""
    return F.avg_pool2d(masks[:, None].float(), stride)[:, 0]


def _covered(small: Tensor) -> Tensor:
    """[N, h, w] bool: pixels that are at least half covered; of an object too thin for that, all that it touches."""
    half = small >= 0.5
    too_thin = ~half.flatten(1).any(dim=1)
    return half | (too_thin[:, None, None] & (small > 0))


def _resize(logits: Tensor, like: Tensor) -> Tensor:
    """[N, M, h, w] logits at the size of masks [N, H, W]."""
    return F.interpolate(logits.float(), size=like.shape[-2:], mode="bilinear", align_corners=False)
