"""Ready-made ways to fine-tune: what learns, how fast, and what the simulated user does. Pick one by name.

    decoder   pictures   prompts and mask decoder only; the encoder's features are computed once and kept
    lora      pictures   the decoder, and low-rank changes of the image encoder; for pictures unlike everyday photos
    full      both       everything that the data can teach
    memory    clips      memory and decoder; the encoder's features are kept
    official  both       the published prompts, losses and rates, as they are (without drop path and dropout)

Rates are for the published models, whose hidden size is 256; `rate_for` raises them for narrower ones.

Source: SAM 2, arXiv:2408.00714, training appendix; practice surveyed in "How to build the best medical image
segmentation algorithm using foundation models", arXiv:2404.09957 (adapters in encoder and decoder).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from sam2kit.config import SAM2Config
from sam2kit.training.lessons import MIRRORED, PUBLISHED, VARIED, Augmentation
from sam2kit.training.lora import TRUNK_LINEAR
from sam2kit.training.losses import LossWeights
from sam2kit.training.parameters import ShareOf, everything_alike, layer_decay
from sam2kit.training.session import OFFICIAL, Rules
from sam2kit.training.simulated_user import Habits

_DECODER = ("sam_mask_decoder.", "sam_prompt_encoder.")
_DETAIL = ("sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")  # belong to the features that are kept
_MEMORY = (
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "mask_downsample.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "no_obj_ptr",
    "no_obj_embed_spatial",
)
_PUBLISHED_WIDTH = 256


@dataclass(frozen=True)
class LowRankChange:
    """LoRA, arXiv:2106.09685: rank, strength, and the layers that get one."""

    rank: int = 16
    alpha: float = 16.0
    layers: tuple[str, ...] = TRUNK_LINEAR


@dataclass(frozen=True)
class Recipe:
    """Everything that a fine-tuning needs to know besides model, data and time."""

    name: str
    trains: tuple[str, ...]  # starts of parameter names; "" is everything
    keeps: tuple[str, ...] = ()  # exceptions from `trains`
    needs_clips: bool = False
    low_rank: LowRankChange | None = None  # changes of the image encoder
    rate: float = 1e-4  # highest learning rate, of a published model
    encoder_share: float = 1.0  # of the rate
    layer_decay: float = 1.0  # rate of a trunk block / rate of the block above
    decoder_share: float = 1.0  # of the rate
    final_share: float = 0.05  # of the rate, at the end
    warmup: float = 0.05  # share of all steps
    weight_decay: float = 0.01
    clip: float = 1.0  # global L2 norm of the gradient
    epochs: int = 20
    patience: int = 6  # epochs without a better score until training stops
    batch: int = 4  # samples per step, over all processes
    objects: int = 8  # per sample and epoch, at most
    frames: int = 8  # per clip, at most
    habits: Habits = field(default_factory=lambda: Habits(corrections=4))
    rules: Rules = field(default_factory=lambda: Rules(loss_stride=2))
    weights: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = VARIED

    def freeze(self, model: nn.Module) -> None:
        """Let only this recipe's parameters learn. Low-rank changes are not made here."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(self.trains) and not name.startswith(self.keeps))

    def rate_for(self, config: SAM2Config) -> float:
        """The learning rate of a model: the narrower it is, the larger its steps may be (arXiv:2203.03466)."""
        return self.rate * _PUBLISHED_WIDTH / config.hidden_dim

    def share_of(self, config: SAM2Config) -> ShareOf:
        """How fast each parameter learns."""
        share_of: ShareOf = everything_alike
        if self.encoder_share != 1 or self.layer_decay != 1:
            share_of = layer_decay(config, self.layer_decay, self.encoder_share)
        return lambda name: share_of(name) * (self.decoder_share if name.startswith(_DECODER) else 1.0)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain dict, ready for JSON."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """What has to be the same for a run to go on: all but how long."""
        return {name: value for name, value in asdict(self).items() if name not in ("epochs", "patience")}


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("decoder", trains=_DECODER, keeps=_DETAIL, augmentation=MIRRORED),
        Recipe("lora", trains=_DECODER, low_rank=LowRankChange()),
        Recipe("full", trains=("",), rate=5e-5, encoder_share=0.6, layer_decay=0.9),
        Recipe(
            "memory",
            trains=_MEMORY + _DECODER,
            keeps=_DETAIL,
            needs_clips=True,
            rate=5e-5,
            decoder_share=0.1,  # what it knows of pictures is not to be forgotten
            batch=2,
            objects=4,
            augmentation=MIRRORED,
        ),
        Recipe(
            "official",
            trains=("",),
            rate=5e-6,
            encoder_share=0.6,
            layer_decay=0.9,
            final_share=0.1,
            warmup=0.0,
            weight_decay=0.1,
            clip=0.1,
            epochs=40,
            patience=40,
            objects=3,
            batch=8,
            habits=Habits(plans=1),
            rules=OFFICIAL,
            augmentation=PUBLISHED,
        ),
    )
}


def recipe_named(name: str) -> Recipe:
    """A recipe of the table.

    Raises:
        ValueError: with the names that there are.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; known are {', '.join(RECIPES)}")
    return RECIPES[name]
