"""How wrong a prediction is: the four losses of SAM 2 and a gentler start for training from scratch.

Masks are compared as logits against the truth; predicted IoU against the IoU that the mask really has;
the object score against whether there is anything to see. Of several candidates only the best is pulled
towards the truth, so that the others stay free to mean something else.

Source: SAM 2, arXiv:2408.00714, appendix "Training"; focal loss arXiv:1708.02002; dice loss arXiv:1606.04797.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts. The defaults are the published ones."""

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    object_score: float = 1.0
    balanced: float = 0.0  # class-balanced cross-entropy; focal loss alone collapses to empty masks from scratch
    others: float = 0.0  # share of the mask losses that goes to all candidates, so that none dies
    squared_iou: bool = False  # squared instead of absolute error: predicts the mean, not the median
    all_ious: bool = True  # supervise the predicted IoU of every candidate, not only of the best
    # of the errors' variance among the candidates, beside the errors: which one is better matters more than how good
    iou_differences: float = 0.0

    def towards(self, other: LossWeights, share: float) -> LossWeights:
        """Between this (share 0) and other (share 1); switches are taken from other when share > 0."""
        mixed = {}
        for f in fields(self):
            a, b = getattr(self, f.name), getattr(other, f.name)
            mixed[f.name] = (b if share > 0 else a) if isinstance(a, bool) else a + (b - a) * share
        return LossWeights(**mixed)


@dataclass(frozen=True)
class LossTerms:
    """One decoder pass on N objects with M candidates, before weighting."""

    focal: Tensor  # [N, M]
    dice: Tensor  # [N, M]
    balanced: Tensor  # [N, M]
    iou: Tensor  # [N, M] absolute or squared error of the predicted IoU
    iou_differences: Tensor  # [N] variance of that error among the candidates
    actual_iou: Tensor  # [N, M]
    object_score: Tensor  # [N]
    supervised: Tensor  # [N] float: 1 where mask and IoU count, 0 for an absent object
    best: Tensor  # [N] candidate with the lowest mask loss
    weights: LossWeights

    def per_object(self) -> Tensor:
        """[N] weighted sum of the terms of each object."""
        w = self.weights
        mask = w.focal * self.focal + w.dice * self.dice
        if w.balanced:
            mask = mask + w.balanced * self.balanced
        mask = (1 - w.others) * self._of_best(mask) + w.others * mask.mean(dim=1)
        iou = self._iou() + w.iou_differences * self.iou_differences
        return self.supervised * (mask + w.iou * iou) + w.object_score * self.object_score

    def unweighted(self) -> dict[str, Tensor]:
        """What each term adds for each object, [N]: "focal" and "dice" of the best candidate, "iou", "object_score"."""
        terms = {"focal": self._of_best(self.focal), "dice": self._of_best(self.dice), "iou": self._iou()}
        return {name: self.supervised * value for name, value in terms.items()} | {"object_score": self.object_score}

    def _iou(self) -> Tensor:
        return self.iou.mean(dim=1) if self.weights.all_ious else self._of_best(self.iou)

    def _of_best(self, values: Tensor) -> Tensor:
        return values.gather(1, self.best[:, None]).squeeze(1)


def loss_terms(
    mask_logits: Tensor, predicted_iou: Tensor, object_score: Tensor, truth: Tensor, weights: LossWeights
) -> LossTerms:
    """Compare one decoder pass with the truth.

    Args:
        mask_logits: [N, M, H, W], at the truth's size.
        predicted_iou: [N, M] in 0..1.
        object_score: [N, 1] logits.
        truth: [N, H, W] bool, or float in 0..1 where pixels of a smaller size cover parts.
        weights: what counts how much; also decides which candidate is the best.
    """
    logits, target = mask_logits.float(), truth.float()[:, None].expand_as(mask_logits)
    focal, dice = focal_loss(logits, target), dice_loss(logits, target)
    balanced = balanced_loss(logits, target) if weights.balanced else torch.zeros_like(focal)
    actual = mask_iou(logits > 0, target >= 0.5)
    error = predicted_iou.float() - actual
    present = (truth > 0).flatten(1).any(dim=1).float()
    mask = weights.focal * focal + weights.dice * dice + weights.balanced * balanced
    return LossTerms(
        focal=focal,
        dice=dice,
        balanced=balanced,
        iou=error.square() if weights.squared_iou else error.abs(),
        iou_differences=error.var(dim=1, correction=0),
        actual_iou=actual,
        object_score=F.binary_cross_entropy_with_logits(object_score.float()[:, 0], present, reduction="none"),
        # without a score to say that the object is absent, its mask has to be empty
        supervised=present if weights.object_score else torch.ones_like(present),
        best=mask.argmin(dim=1),
        weights=weights,
    )


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """[..., H, W] logits and targets -> [...] mean over pixels; easy pixels count little."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    missed = 1 - (p * target + (1 - p) * (1 - target))
    alpha = _FOCAL_ALPHA * target + (1 - _FOCAL_ALPHA) * (1 - target)
    return (alpha * missed**_FOCAL_GAMMA * cross_entropy).flatten(-2).mean(-1)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """[..., H, W] logits and targets -> [...]: 1 minus the smoothed overlap."""
    p, t = logits.sigmoid().flatten(-2), target.flatten(-2)
    return 1 - (2 * (p * t).sum(-1) + 1) / (p.sum(-1) + t.sum(-1) + 1)


def balanced_loss(logits: Tensor, target: Tensor) -> Tensor:
    """[..., H, W] -> [...]: cross-entropy in which object and background weigh the same, whatever their size."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(-2)
    t = target.flatten(-2)
    inside = (cross_entropy * t).sum(-1) / t.sum(-1).clamp(min=1)
    outside = (cross_entropy * (1 - t)).sum(-1) / (1 - t).sum(-1).clamp(min=1)
    return (inside + outside) / 2


def mask_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """[..., H, W] bools -> [...] float32 intersection over union; 0 where both are empty, as published."""
    both = (masks & truth).flatten(-2).sum(-1)
    either = (masks | truth).flatten(-2).sum(-1)
    return both / either.clamp(min=1)
