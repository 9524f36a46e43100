"""What people change about a recipe: how long, how much at once, where."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from sam2kit.training.lessons import Augmentation
from sam2kit.training.recipes import Recipe
from sam2kit.weights import DTYPES

_FREE = ("epochs", "minutes", "device", "general", "pictures")  # may differ when a run goes on


@dataclass(frozen=True)
class Budget:
    """What people change about a recipe. None leaves it to the recipe, the model and the device."""

    epochs: int | None = None  # exactly so many; without, training stops when nothing gets better any more
    minutes: float | None = None  # training and all evaluations, which take a part of it; instead of epochs
    rate: float | None = None  # highest learning rate
    batch: int | None = None  # samples per step, over all processes
    objects: int | None = None  # per sample
    frames: int | None = None  # per clip
    corrections: int | None = None  # clicks that correct an answer
    side: int | None = None  # of the model's square, in pixels
    held_out: float = 0.2  # share of the samples, where the data has no split of its own
    exam_samples: int = 64  # held-out samples that each exam uses, at most
    general: bool = True  # also examine, before and after, what is known of everything else; takes its time
    pictures: int = 6  # held-out samples that predictions.jpg shows; 0 writes none
    overfit: int = 0  # learn this many samples by heart, to see that everything works
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"  # "float32", "bfloat16", "float16"

    def __post_init__(self) -> None:
        for name in ("epochs", "minutes", "rate", "batch", "objects", "frames", "exam_samples"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        for name in ("corrections", "overfit", "seed", "pictures"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.epochs is not None and self.minutes is not None:
            raise ValueError("give either epochs or minutes: how long should the training last?")
        if self.precision not in ("auto", *DTYPES):
            raise ValueError(f"precision must be auto, {', '.join(DTYPES)}, got {self.precision!r}")

    def identity(self) -> dict[str, Any]:
        """What has to be the same for a run to go on: all but where and how long, and what is only asked about it."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}

    def changed(self, recipe: Recipe) -> Recipe:
        """The recipe with these wishes."""
        wishes = {n: getattr(self, n) for n in ("batch", "objects", "frames") if getattr(self, n) is not None}
        if self.epochs is not None:
            wishes["epochs"] = wishes["patience"] = self.epochs
        if self.corrections is not None:
            wishes["habits"] = replace(recipe.habits, corrections=self.corrections)
        if self.overfit:
            wishes["augmentation"] = Augmentation(flip=0, reverse=0)
        return replace(recipe, **wishes)
