"""A simulated user with a clip: prompt the first frame, follow the objects through the memory, correct sometimes.

Clips with true masks in, one loss out. The image encoder runs once on all frames; then the frames pass in order,
as in a video session: recall, answer, remember. Gradients flow back through all memories.

What differs from the published training, because nothing is pre-trained: memories are first made from the true
masks (a model that cannot segment yet would learn from noise), and an object that is in the picture is always
supervised, even where its object score says it is not.

Source: SAM 2, arXiv:2408.00714, appendix "Training"; scheduled sampling, arXiv:1506.03099.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.model.mask_decoder import Candidates
from sam2kit.model.memory_bank import POINTER_FRAMES, choose_memories
from sam2kit.model.sam2 import SAM2, ImageFeatures, PromptTensors
from sam2kit.training.interaction import corrective_click, first_prompt
from sam2kit.training.losses import LossWeights, loss_terms

_LOSS_STRIDE = 2  # pixels of the model's square per pixel of the compared masks


@dataclass(frozen=True)
class TrackingPlan:
    """What the simulated user does in one step; all objects of a step are prompted in the same way."""

    kind: str = "mask"  # of the first frame's prompt: "mask", "click" or "box"
    first_corrections: int = 0  # clicks after the first prompt
    corrected_frame: int | None = None  # a later frame that gets one click and is remembered as prompted
    truth_in_memory: float = 0.0  # chance that an object's memory of a frame is made from its true mask
    pointer_frames: int = POINTER_FRAMES  # the unit of the pointers' distances: the length that the clip seems to have


@dataclass(frozen=True)
class ClipBatch:
    """B clips of T frames with O objects each, all of them visible on frame 0."""

    pixels: Tensor  # [T, B, 3, S, S] float32, normalised
    masks: Tensor  # [T, B, O, S, S] bool; empty where an object is absent

    def to(self, device: torch.device) -> ClipBatch:
        """The same on another device."""
        return ClipBatch(self.pixels.to(device), self.masks.to(device))


class TrackingTraining(nn.Module):
    """SAM 2 with a memory and the simulated user around it: a batch of clips in, losses and figures out."""

    def __init__(self, model: SAM2) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: ClipBatch, plan: TrackingPlan, weights: LossWeights, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Track every object through its clip.

        Returns:
            "loss", a scalar to run backward from, and detached figures of the frames after the first: "tracked_iou"
            where the object is visible, and "presence", how often the object score is right.
        """
        frames, clips, objects = batch.masks.shape[:3]
        encoded = self.model.encode_image(batch.pixels.flatten(0, 1))
        clip_of = torch.arange(clips, device=batch.pixels.device).repeat_interleave(objects)
        run = _Run(self.model, plan, weights, generator, frames)
        for t in range(frames):
            run.frame(t, encoded[t * clips + clip_of], batch.masks[t].flatten(0, 1))
        return run.figures()


class _Run:
    """One pass through a clip, N objects at a time."""

    def __init__(
        self, model: SAM2, plan: TrackingPlan, weights: LossWeights, generator: torch.Generator, frames: int
    ) -> None:
        self.model, self.plan, self.weights, self.generator = model, plan, weights, generator
        self.frames = frames
        self.prompted: list[int] = []
        self.maps: dict[int, Tensor] = {}
        self.pointers: dict[int, Tensor] = {}
        self.losses: list[Tensor] = []
        self.ious: list[Tensor] = []  # per frame [N], NaN where the object is absent
        self.right: list[Tensor] = []

    def frame(self, t: int, features: ImageFeatures, truth: Tensor) -> None:
        """Answer, be corrected, remember: truth is [N, S, S] bool."""
        small = F.avg_pool2d(truth[:, None].float(), _LOSS_STRIDE)[:, 0]
        present = truth.flatten(1).any(dim=1)
        if t == 0 and self.plan.kind == "mask":
            given = self.model.answer_mask(features, truth[:, None].float())
            self.prompted.append(t)
            self._remember(t, features.stride16, given.mask_logits, given.pointer, truth, present, binary=True)
            return
        image = self._recall(t, features.stride16)
        if t == 0:
            points, labels, mask = first_prompt(self.plan.kind, truth, self.generator)
            corrections = self.plan.first_corrections
        else:
            points, labels, mask = None, None, None
            corrections = int(t == self.plan.corrected_frame)
        for correction in range(corrections + 1):
            logits, token = self._answer(image, features, points, labels, mask, small, last=correction == corrections)
            if correction < corrections:
                mask = logits.detach()
                clicked, label = corrective_click(mask, small, self.generator, stride=_LOSS_STRIDE)
                points = clicked if points is None else torch.cat([points, clicked], dim=1)
                labels = label if labels is None else torch.cat([labels, label], dim=1)
        is_prompted = t == 0 or corrections > 0
        if is_prompted:
            self.prompted.append(t)
        pointer = self.model.pointer(token, present)
        self._remember(t, features.stride16, logits, pointer, truth, present, binary=is_prompted)

    def _recall(self, t: int, stride16: Tensor) -> Tensor:
        if t == 0:
            return self.model.without_memory(stride16)
        slots = self.model.config.memory.slots
        reach = self.plan.pointer_frames
        chosen = choose_memories(t, self.prompted, self.maps, slots=slots, pointer_frames=reach, reverse=False)
        return self.model.recall(
            stride16,
            [(self.maps[f], slot) for f, slot in chosen.maps],
            [(self.pointers[f], distance) for f, distance in chosen.pointers],
            pointer_frames=reach,
        )

    def _answer(
        self,
        image: Tensor,
        features: ImageFeatures,
        points: Tensor | None,
        labels: Tensor | None,
        mask: Tensor | None,
        truth: Tensor,
        *,
        last: bool,
    ) -> tuple[Tensor, Tensor]:
        """One decoder pass: the shown low-res logits [N, 1, h, w] and the mask token [N, dim]."""
        clicks = 0 if points is None else points.shape[1]
        prompts = PromptTensors(points, labels, mask)
        if points is None:
            prompts = PromptTensors.nothing_asked(len(image), image.device, mask)
        four = self.model.decode(image, features, prompts).float()
        answers = four.keep(slice(1, None)) if clicks <= 1 and mask is None else four.keep(slice(0, 1))
        self.losses.append(self._loss(answers, truth, record=last))
        shown = answers.predicted_iou.argmax(dim=1)
        rows = torch.arange(len(shown), device=shown.device)
        return answers.mask_logits[rows, shown][:, None], answers.mask_tokens[rows, shown]

    def _loss(self, answers: Candidates, truth: Tensor, *, record: bool) -> Tensor:
        logits = F.interpolate(answers.mask_logits, size=truth.shape[1:], mode="bilinear", align_corners=False)
        terms = loss_terms(logits, answers.predicted_iou, answers.object_score, truth, self.weights)
        if record:
            rows = torch.arange(len(truth), device=truth.device)
            iou = terms.actual_iou[rows, answers.predicted_iou.argmax(dim=1)].detach()
            present = (truth > 0).flatten(1).any(dim=1)
            self.ious.append(torch.where(present, iou, torch.nan))
            self.right.append(((answers.object_score[:, 0] > 0) == present).float())
        return terms.total()

    def _remember(
        self, t: int, stride16: Tensor, logits: Tensor, pointer: Tensor, truth: Tensor, present: Tensor, *, binary: bool
    ) -> None:
        """Keep what the frame leaves; some memories are made from the truth, and presence is always the true one."""
        certain = F.avg_pool2d(truth[:, None].float(), truth.shape[-1] // logits.shape[-1]) * 20 - 10
        use_truth = torch.rand(len(truth), generator=self.generator).to(truth.device) < self.plan.truth_in_memory
        seen = torch.where(_per_map(present), logits, -10.0)
        remembered = torch.where(_per_map(use_truth), certain, seen)
        self.maps[t] = self.model.remember(stride16, remembered, present, binary=binary)
        self.pointers[t] = pointer

    def figures(self) -> dict[str, Tensor]:
        """The summed losses per frame, and how good the answers were."""
        later = slice(len(self.ious) - self.frames + 1, None)  # a given mask is no answer
        return {
            "loss": torch.stack(self.losses).sum() / self.frames,
            "tracked_iou": torch.stack(self.ious[later]).nanmean(),
            "presence": torch.stack(self.right[later]).mean(),
        }


def _per_map(flags: Tensor) -> Tensor:
    return flags[:, None, None, None]
