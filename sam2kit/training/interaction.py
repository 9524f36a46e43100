"""A simulated user: click or box, look at the answer, correct it, again.

Pictures with true masks in, one loss out. The image encoder runs once per picture; every object then goes
through its own rounds on the same features. Objects whose prompts have the same form go through the decoder
together, so that each sees exactly the tokens it would see alone.

Source: SAM 2, arXiv:2408.00714, appendix "Training"; SAM, arXiv:2304.02643, appendix "Training algorithm".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2kit.model.mask_decoder import Candidates
from sam2kit.model.sam2 import SAM2, ImageFeatures, PromptTensors
from sam2kit.training.clicks import noisy_boxes, uniform_clicks
from sam2kit.training.losses import LossWeights, loss_terms

PROMPT_KINDS = ("click", "box", "mask")


@dataclass(frozen=True)
class PromptPlan:
    """What the simulated user does. Drawn per object, not per batch."""

    click: float = 0.5  # chance that an object is first prompted by one click
    box: float = 0.5  # ... by a box
    mask: float = 0.0  # ... by a spoiled version of its true mask
    corrections: int = 7  # corrective clicks after the first prompt
    from_truth: float = 0.1  # chance that a corrective click ignores the answer and falls on the object
    supervise_single: bool = False  # also train candidate 0 on a first click

    def __post_init__(self) -> None:
        if abs(self.click + self.box + self.mask - 1) > 1e-6:
            raise ValueError(f"click, box and mask must add up to 1, got {self.click} + {self.box} + {self.mask}")


@dataclass(frozen=True)
class PictureBatch:
    """B pictures with O objects each."""

    pixels: Tensor  # [B, 3, S, S] float32, normalised
    masks: Tensor  # [B, O, S, S] bool

    def to(self, device: torch.device) -> PictureBatch:
        """The same on another device."""
        return PictureBatch(self.pixels.to(device), self.masks.to(device))


@dataclass(frozen=True)
class _Group:
    """Objects that were prompted in the same form, on their way through the rounds."""

    image: Tensor  # [N, dim, h, w]
    features: ImageFeatures
    truth: Tensor  # [N, S, S] bool
    small: Tensor  # [N, L, L] float in 0..1: the truth at the size where losses are computed


class InteractiveTraining(nn.Module):
    """SAM 2 with the simulated user around it: a batch in, losses and figures out.

    A module of its own, so that distributed training can wrap it.

    Args:
        model: the network that learns.
        loss_stride: pixels of the model's square per pixel of the compared masks; 1 is the published choice,
            4 compares at the decoder's own size and costs a sixteenth.
    """

    def __init__(self, model: SAM2, *, loss_stride: int = 1) -> None:
        super().__init__()
        self.model = model
        self.loss_stride = loss_stride

    def forward(
        self, batch: PictureBatch, plan: PromptPlan, weights: LossWeights, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Simulate one session on every object.

        Returns:
            "loss", a scalar to run backward from (the mean over objects, summed over the rounds), and detached
            figures: "first_iou" of the answer to the first prompt and "last_iou" after all corrections.
        """
        model = self.model
        objects = batch.masks.shape[1]
        features = model.encode_image(batch.pixels)
        image = model.without_memory(features.stride16)
        picture = torch.arange(len(batch.pixels), device=image.device).repeat_interleave(objects)
        truth = batch.masks.flatten(0, 1)
        small = F.avg_pool2d(truth[:, None].float(), self.loss_stride)[:, 0]
        kinds = _draw_kinds(plan, len(truth), generator).to(truth.device)
        losses, first, last = [], [], []
        for number, kind in enumerate(PROMPT_KINDS):
            rows = (kinds == number).nonzero()[:, 0]
            if not len(rows):
                continue
            group = _Group(image[picture[rows]], features[picture[rows]], truth[rows], small[rows])
            of_group, ious = self._session(group, kind, plan, weights, generator)
            losses += of_group
            first.append(ious[0])
            last.append(ious[-1])
        return {
            "loss": torch.stack(losses).sum() / len(truth),
            "first_iou": torch.cat(first).mean(),
            "last_iou": torch.cat(last).mean(),
        }

    def _session(
        self,
        group: _Group,
        kind: str,
        plan: PromptPlan,
        weights: LossWeights,
        generator: torch.Generator,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """All rounds of one group: the summed loss of every pass, and the IoU [N] of every round's answer."""
        points, labels, mask = first_prompt(kind, group.truth, generator)
        losses, ious = [], []
        for correction in range(plan.corrections + 1):
            prompts = PromptTensors(points, labels, mask)
            four = self.model.decode(group.image, group.features, prompts)
            ambiguous = correction == 0 and kind == "click"
            answers = four.keep(slice(1, None)) if ambiguous else four.keep(slice(0, 1))
            loss, shown, iou = self._supervise(answers, group.small, weights)
            losses.append(loss)
            ious.append(iou)
            if ambiguous and plan.supervise_single:
                losses.append(self._supervise(four.keep(slice(0, 1)), group.small, weights)[0])
            if correction < plan.corrections:
                mask = shown.detach()
                clicked, label = corrective_click(
                    mask, group.small, generator, stride=self.loss_stride, from_truth=plan.from_truth
                )
                points = clicked if points is None else torch.cat([points, clicked], dim=1)
                labels = label if labels is None else torch.cat([labels, label], dim=1)
        return losses, ious

    def _supervise(self, answers: Candidates, truth: Tensor, weights: LossWeights) -> tuple[Tensor, Tensor, Tensor]:
        """The summed loss of one pass, the shown low-res logits [N, 1, h, w] and their IoU [N]."""
        answers = answers.float()
        logits = F.interpolate(answers.mask_logits, size=truth.shape[1:], mode="bilinear", align_corners=False)
        terms = loss_terms(logits, answers.predicted_iou, answers.object_score, truth, weights)
        rows = torch.arange(len(truth), device=truth.device)
        shown = answers.predicted_iou.argmax(dim=1)
        loss = terms.total() * len(truth)
        return loss, answers.mask_logits[rows, shown][:, None], terms.actual_iou[rows, shown].detach()


def _draw_kinds(plan: PromptPlan, n: int, generator: torch.Generator) -> Tensor:
    chances = torch.tensor([plan.click, plan.box, plan.mask])
    return torch.multinomial(chances, n, replacement=True, generator=generator)


def corrective_click(
    mask_logits: Tensor, truth: Tensor, generator: torch.Generator, *, stride: int, from_truth: float = 0.1
) -> tuple[Tensor, Tensor]:
    """A click in the error of shown masks: [N, 1, 2] pixels of the square, [N, 1] labels.

    Args:
        mask_logits: [N, 1, h, w] low-res logits.
        truth: [N, L, L] float in 0..1, one pixel for `stride` pixels of the square.
        from_truth: as in `uniform_clicks`.
    """
    logits = F.interpolate(mask_logits, size=truth.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    clicks, labels = uniform_clicks(truth >= 0.5, logits > 0, generator, from_truth=from_truth)
    centred = (clicks + 0.5) * stride - 0.5
    return centred[:, None], labels[:, None]


def first_prompt(
    kind: str, truth: Tensor, generator: torch.Generator
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """points [N, n, 2], labels [N, n] and low-res mask logits [N, 1, h, w]; None where not given."""
    if kind == "click":
        clicks, labels = uniform_clicks(truth, torch.zeros_like(truth), generator)
        return clicks[:, None], labels[:, None], None
    if kind == "box":
        corners = noisy_boxes(truth, generator).unflatten(1, (2, 2))
        return corners, torch.tensor([[2, 3]], device=truth.device).expand(len(truth), -1), None
    return None, None, _spoiled_mask(truth, generator)


def _spoiled_mask(truth: Tensor, generator: torch.Generator) -> Tensor:
    """True masks at low resolution with a wavy error at the edge, as logits: [N, 1, S/4, S/4]."""
    soft = F.avg_pool2d(truth[:, None].float(), 4)
    soft = F.avg_pool2d(soft, 5, stride=1, padding=2)
    waves = torch.rand(len(truth), 1, 6, 6, generator=generator).to(truth.device) - 0.5
    waves = F.interpolate(waves, size=soft.shape[-2:], mode="bicubic", align_corners=False)
    return (20 * (soft - 0.5 + 0.7 * waves)).clamp(-10, 10)
