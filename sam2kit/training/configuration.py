"""Everything about a fine-tuning besides base model, data and folder, in one dataclass; and ready-made configurations.

    decoder   pictures   prompts and mask decoder only; the encoder's features are computed once and kept
    lora      pictures   the decoder, and LoRA in the image encoder; for pictures unlike everyday photos
    full      both       everything that the data can train
    memory    clips      memory and decoder; the encoder's features are kept
    official  both       the published prompts, losses and rates, as they are (without drop path and dropout)

Source: SAM 2, arXiv:2408.00714, training appendix; practice surveyed in "How to build the best medical image
segmentation algorithm using foundation models", arXiv:2404.09957 (adapters in encoder and decoder).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import nn

from sam2kit.config import SAM2Config
from sam2kit.data.sample import Dataset
from sam2kit.model.sam2 import SAM2
from sam2kit.training.interaction import SupervisionOptions
from sam2kit.training.sampling import MIRRORED, NOTHING_CHANGED, PUBLISHED, VARIED, Augmentation, PromptSampling
from sam2kit.training.trained_parameters import ShareOf, add_lora, layer_decay
from sam2kit.training.trainer import LoopOptions
from sam2kit.weights import DTYPES

_DECODER = ("sam_mask_decoder.", "sam_prompt_encoder.")
_DETAIL = ("sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")  # belong to the features that are kept
_MEMORY = (
    "memory_attention.",
    "memory_encoder.",
    "spatial_perceiver.",
    "maskmem_tpos_enc",
    "mask_downsample.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "no_obj_ptr",
    "no_obj_embed_spatial",
)
_PUBLISHED_WIDTH = 256
_SAVE_EVERY = 200  # steps, besides the end of each epoch
# may differ when a run goes on: how long, where, and what is only measured
_FREE = ("epochs", "patience", "minutes", "device", "forgetting_check", "pictures")
_POSITIVE = ("epochs", "minutes", "rate", "batch", "objects", "frames", "evaluated_samples")


@dataclass(frozen=True)
class TrainingConfig:
    """How to fine-tune. Take one of RECIPES, and `changed(epochs=3, ...)` it."""

    name: str
    # what is trained
    trains: tuple[str, ...]  # starts of parameter names; "" is everything
    keeps: tuple[str, ...] = ()  # exceptions from `trains`
    needs_clips: bool = False
    lora_rank: int = 0  # LoRA in the image encoder's linear layers, arXiv:2106.09685; 0 for none
    lora_alpha: float = 16.0
    # how fast
    rate: float | None = None  # highest learning rate; None takes `published_rate`, more for narrow models
    published_rate: float = 1e-4  # highest learning rate, of a published model
    encoder_share: float = 1.0  # of the rate
    layer_decay: float = 1.0  # rate of a trunk block / rate of the block above
    decoder_share: float = 1.0  # of the rate
    final_share: float = 0.05  # of the rate, at the end
    warmup: float = 0.05  # share of all steps
    weight_decay: float = 0.01
    clip: float = 1.0  # global L2 norm of the gradient
    # how long
    epochs: int = 20  # at most
    patience: int = 6  # epochs without a better score until training stops
    minutes: float | None = None  # training and all evaluations, which take a part of it; instead of epochs
    # how much at once
    batch: int = 4  # samples per step, over all processes
    objects: int = 8  # per sample and epoch, at most
    frames: int = 8  # per clip, at most
    side: int | None = None  # of the model's square, in pixels; None keeps the model's own
    # samples, prompts and losses
    prompts: PromptSampling = field(default_factory=lambda: PromptSampling(corrections=4))
    supervision: SupervisionOptions = field(default_factory=lambda: SupervisionOptions(loss_stride=2))
    augmentation: Augmentation = VARIED
    overfit: int = 0  # train and evaluate on this many samples only, to see that everything works
    # evaluation
    held_out: float = 0.2  # share of the samples, where the data has no split of its own
    evaluated_samples: int = 64  # held-out samples that each evaluation uses, at most
    forgetting_check: bool = True  # also evaluate, before and after, on scenes unlike the data; takes its time
    pictures: int = 6  # held-out samples that predictions.jpg shows; 0 writes none
    # afterwards
    detect: bool | None = None  # learn to find the objects without a click; None: if they have classes, or are several
    # where
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"  # "float32", "bfloat16", "float16"

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        counts = {name: getattr(self, name) for name in ("overfit", "seed", "pictures")}
        for name, value in (counts | {"corrections": self.prompts.corrections}).items():
            if value < 0:
                raise ValueError(f"{name} must be 0 or more, got {value}")
        if self.precision not in ("auto", *DTYPES):
            raise ValueError(f"precision must be auto, {', '.join(DTYPES)}, got {self.precision!r}")

    def changed(self, **overrides: Any) -> TrainingConfig:
        """This configuration with some fields set anew; None leaves a field as it is.

        Args:
            overrides: fields; and `corrections`, the corrective clicks of `prompts`. With `epochs`, it lasts exactly so
                many: `patience` no longer ends it.
        Raises:
            ValueError: if a value cannot be used, or epochs and minutes are both given.
            TypeError: if there is no such field.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        if "epochs" in given and "minutes" in given:
            raise ValueError("give either epochs or minutes: how long should the training last?")
        if "epochs" in given:
            given.setdefault("patience", given["epochs"])
        if "corrections" in given:
            given["prompts"] = replace(given.get("prompts", self.prompts), corrections=given.pop("corrections"))
        if given.get("overfit"):
            given.setdefault("augmentation", NOTHING_CHANGED)
        return replace(self, **given)

    def check_fit(self, train: Dataset, model: SAM2) -> None:
        """Raise ValueError if this, data and model do not go together."""
        if self.needs_clips and not train.clips:
            raise ValueError(f"the {self.name} recipe needs clips, and {train.path} has pictures; take lora or decoder")
        if train.clips and not model.memory_is_trained:
            raise ValueError("these weights only know pictures, and the data has clips; take weights that can track")

    def prepare(self, model: SAM2) -> None:
        """Freeze what is not trained, and add LoRA."""
        self.freeze(model)
        if self.lora_rank:
            add_lora(model, rank=self.lora_rank, alpha=self.lora_alpha)

    def freeze(self, model: nn.Module) -> None:
        """Let only the parameters of this configuration be trained. LoRA layers are not made here."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(self.trains) and not name.startswith(self.keeps))

    def share_of(self, config: SAM2Config) -> ShareOf:
        """The share of the learning rate that each parameter gets."""
        share_of = layer_decay(config, self.layer_decay, self.encoder_share)
        return lambda name: share_of(name) * (self.decoder_share if name.startswith(_DECODER) else 1.0)

    def loop_options(self, config: SAM2Config, steps_per_epoch: int, minutes: float | None) -> LoopOptions:
        """The options of the loop for a model of this configuration; minutes take the place of epochs.

        The narrower a model is, the larger its steps may be (arXiv:2203.03466).
        """
        return LoopOptions(
            steps=None if minutes else steps_per_epoch * self.epochs,
            minutes=minutes,
            learning_rate=self.rate or self.published_rate * _PUBLISHED_WIDTH / config.hidden_dim,
            final_share=self.final_share,
            warmup_share=self.warmup,
            warmup_steps=0,
            betas=(0.9, 0.999),
            weight_decay=self.weight_decay,
            share_of=self.share_of(config),
            clip=self.clip,
            average=0.0,
            save_every=_SAVE_EVERY,
            log_every=1,
        )

    def identity(self) -> dict[str, Any]:
        """What has to be the same for a run to go on."""
        fixed = {name: value for name, value in asdict(self).items() if name not in _FREE}
        return {"recipe": fixed.pop("name"), **fixed}


_FINER: dict[str, Any] = {"encoder_share": 0.6, "layer_decay": 0.9}
_OFFICIAL_SUPERVISION = SupervisionOptions(shown_only=True, inverted_boxes=True, sum_passes=True)
RECIPES: dict[str, TrainingConfig] = {
    config.name: config
    for config in (
        TrainingConfig("decoder", trains=_DECODER, keeps=_DETAIL, augmentation=MIRRORED),
        TrainingConfig("lora", trains=_DECODER, lora_rank=16),
        TrainingConfig("full", trains=("",), published_rate=5e-5, **_FINER),
        TrainingConfig(
            "memory", trains=_MEMORY + _DECODER, keeps=_DETAIL, needs_clips=True, augmentation=MIRRORED,
            published_rate=5e-5, batch=2, objects=4,
            decoder_share=0.1,  # what it knows of pictures is not to be forgotten
        ),
        TrainingConfig(
            "official", trains=("",), augmentation=PUBLISHED, supervision=_OFFICIAL_SUPERVISION,
            prompts=PromptSampling(plans=1), published_rate=5e-6, final_share=0.1, warmup=0.0, weight_decay=0.1,
            clip=0.1, epochs=40, patience=40, objects=3, batch=8, **_FINER,
        ),
    )
}  # fmt: skip


def recipe_named(name: str) -> TrainingConfig:
    """A configuration of the table.

    Raises:
        ValueError: with the names that there are.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; known are {', '.join(RECIPES)}")
    return RECIPES[name]
