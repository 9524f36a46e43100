"""What the sizes and versions of SAM 2 and its relatives are: frozen dataclasses and the table PRESETS.

The four published sizes of SAM 2 differ only in the trunk; 2.0 and 2.1 differ only in two memory switches. EfficientTAM
and EdgeTAM have another trunk each, and change what the memory costs. `nano` is this project's own small model.

Source: SAM 2, arXiv:2408.00714, appendix "Architecture"; Hiera, arXiv:2306.00989; EfficientTAM, arXiv:2411.18933;
EdgeTAM, arXiv:2501.07256.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from typing import Any

__version__ = "0.1.0"  # of sam2kit
_LARGEST_SIDE = 8192  # pixels
_MOST_CLASSES = 10_000


def _whole(default: int, least: int, most: int) -> Any:
    """A field that holds a whole number within bounds; `_check_fields` looks at them."""
    return field(default=default, metadata={"bounds": (least, most)})


def _check_fields(part: Any, name: str = "") -> None:
    for entry in fields(part):
        if "bounds" in entry.metadata:
            check_whole(name + entry.name, getattr(part, entry.name), *entry.metadata["bounds"])


def _check_stages(name: str, numbers: object, *, least: int = 1, stages: int | None = 4) -> None:
    if not isinstance(numbers, tuple) or (stages is not None and len(numbers) != stages):
        raise ValueError(f"trunk.{name} must be whole numbers, one for each of 4 stages, got {numbers!r}")
    for number in numbers:
        check_whole(f"trunk.{name}", number, least, 256)


class _Staged:
    """A trunk whose four stages each have twice the channels and half the edge of the one before."""

    embed_dim: int
    blocks_per_stage: tuple[int, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        """Of its maps, strides 4, 8, 16, 32."""
        return tuple(self.embed_dim << stage for stage in range(4))

    @property
    def blocks(self) -> int:
        """How many there are."""
        return sum(self.blocks_per_stage)


@dataclass(frozen=True)
class HieraConfig(_Staged):
    """A hierarchical vision transformer: SAM 2."""

    embed_dim: int = _whole(96, 1, 4096)  # channels of stage 1; doubles at each later stage
    heads: int = _whole(1, 1, 4096)  # attention heads of stage 1; doubles at each later stage
    blocks_per_stage: tuple[int, ...] = (1, 2, 7, 2)
    window_per_stage: tuple[int, ...] = (8, 4, 14, 7)  # edge of the attention windows, in tokens
    global_blocks: tuple[int, ...] = (5, 7, 9)  # blocks (counted over the whole trunk) without windows
    position_grid: int = _whole(7, 1, 256)  # edge of the learned position map that is stretched over the picture

    def __post_init__(self) -> None:
        _check_fields(self, "trunk.")
        if self.embed_dim % self.heads:
            raise ValueError(f"trunk.embed_dim must be a multiple of its {self.heads} heads, got {self.embed_dim}")
        _check_stages("blocks_per_stage", self.blocks_per_stage)
        _check_stages("window_per_stage", self.window_per_stage)
        _check_stages("global_blocks", self.global_blocks, least=0, stages=None)
        if any(window % 2 for window in self.window_per_stage[:3]):
            raise ValueError(
                "trunk.window_per_stage must be even but for the last stage, because the next stage halves them, got "
                f"{self.window_per_stage!r}"
            )


@dataclass(frozen=True)
class ViTConfig:
    """A plain vision transformer with one map, of stride 16: EfficientTAM."""

    embed_dim: int = _whole(192, 1, 4096)  # channels
    heads: int = _whole(3, 1, 4096)
    blocks: int = _whole(12, 1, 256)
    window: int = _whole(14, 1, 256)  # edge of the attention windows, in tokens
    global_every: int = _whole(3, 1, 256)  # of so many blocks the last one has no windows
    position_grid: int = _whole(14, 1, 256)  # edge of the learned position map that is stretched over the picture

    def __post_init__(self) -> None:
        _check_fields(self, "trunk.")
        if self.embed_dim % self.heads:
            raise ValueError(f"trunk.embed_dim must be a multiple of its {self.heads} heads, got {self.embed_dim}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Of its map."""
        return (self.embed_dim,)

    def window_of(self, block: int) -> int:
        """Edge of the windows of a block, in tokens; 0 has none and sees everything."""
        return 0 if block % self.global_every == self.global_every - 1 else self.window


@dataclass(frozen=True)
class RepViTConfig(_Staged):
    """A convolutional network for phones: EdgeTAM."""

    embed_dim: int = _whole(48, 8, 4096)  # channels of stage 1; doubles at each later stage
    blocks_per_stage: tuple[int, ...] = (2, 2, 14, 2)

    def __post_init__(self) -> None:
        _check_fields(self, "trunk.")
        _check_stages("blocks_per_stage", self.blocks_per_stage)


TrunkConfig = HieraConfig | ViTConfig | RepViTConfig
_TRUNK_KINDS: dict[str, type[TrunkConfig]] = {"hiera": HieraConfig, "vit": ViTConfig, "repvit": RepViTConfig}


@dataclass(frozen=True)
class DecoderConfig:
    """The prompt encoder and the two-way mask decoder."""

    layers: int = _whole(2, 1, 256)
    heads: int = _whole(8, 1, 256)
    mlp_dim: int = _whole(2048, 1, 2**16)
    cross_attention_downsample: int = _whole(2, 1, 256)  # hidden_dim / width of attention between tokens and image
    replaces_unstable_masks: bool = True  # a single mask with wavering edges gives way to the best of the other three
    takes_detail: bool = True  # features of strides 4 and 8 sharpen the masks
    judges_masks: bool = False  # the predicted IoU also counts how certain a mask is of its own pixels
    ragged_masks: bool = False  # they have specks and holes, which predictors remove unless they are told not to

    def __post_init__(self) -> None:
        _check_fields(self, "decoder.")


@dataclass(frozen=True)
class MemoryConfig:
    """What a frame leaves behind, and how later frames look at it."""

    dim: int = _whole(64, 1, 4096)  # channels of a spatial memory; object pointers are split into pieces of this width
    slots: int = _whole(7, 1, 256)  # one for prompted frames, the others for the latest frames
    attention_layers: int = _whole(4, 1, 256)
    attention_mlp_dim: int = _whole(2048, 1, 2**16)
    fuser_layers: int = _whole(2, 0, 256)
    marks_absent_objects: bool = True  # 2.1: a learned vector is added to memories of an absent object
    dates_object_pointers: bool = True  # 2.1: pointers carry their distance in time
    # edge of the two square maps that a memory is pressed into, one of global, one of local latents; 0 leaves it whole
    latents_edge: int = _whole(0, 0, 64)
    # from two memories on, their keys are averaged over 2x2 places; ln 4, for the four, is then added to the "scores",
    # or twice ln 2 to all channels of the "keys"; "" averages nothing
    pooled: str = ""

    def __post_init__(self) -> None:
        _check_fields(self, "memory.")
        if self.pooled not in ("", "scores", "keys"):
            raise ValueError(f"memory.pooled must be '', 'scores' or 'keys', got {self.pooled!r:.40}")
        if self.pooled and self.latents_edge:
            raise ValueError("memories of latents cannot be pooled, too; memory.pooled or memory.latents_edge must go")


@dataclass(frozen=True)
class SAM2Config:
    """Everything that decides the shape of a SAM 2 network.

    Args:
        side: edge of the square that pictures are resized to, in pixels; any multiple of 32.
        hidden_dim: channels of image embeddings, prompt tokens and object pointers.
    Raises:
        ValueError: if a number cannot be used; files from strangers hold such numbers, too.
    """

    side: int = 1024
    hidden_dim: int = _whole(256, 16, 8192)
    trunk: TrunkConfig = field(default_factory=HieraConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    classes: tuple[str, ...] = ()  # names of what a fine-tuned model finds by itself; without any it has no head for it

    def __post_init__(self) -> None:
        _check_side(self.side)
        _check_fields(self)
        _check_classes(self.classes)
        dim, decoder = self.hidden_dim, self.decoder
        if dim % 16 or dim % self.memory.dim:
            raise ValueError(f"hidden_dim must be a multiple of 16 and of the memory's {self.memory.dim}, got {dim}")
        if dim % (decoder.heads * decoder.cross_attention_downsample):
            raise ValueError(
                f"hidden_dim must be a multiple of the decoder's {decoder.heads} heads times "
                f"{decoder.cross_attention_downsample}, by which its attention is narrower, got {dim}"
            )
        if decoder.takes_detail and len(self.trunk.channels) < 4:
            raise ValueError("decoder.takes_detail needs a trunk with four maps, and this one has one")
        if self.memory.latents_edge and self.embedding_side % self.memory.latents_edge:
            raise ValueError(
                f"side must be a multiple of {16 * self.memory.latents_edge}, as each local latent of the memory sees "
                f"a window of its own, got {self.side}"
            )

    @property
    def embedding_side(self) -> int:
        """Edge of the stride-16 image embedding, in tokens."""
        return self.side // 16

    @property
    def low_res_side(self) -> int:
        """Edge of the low-res mask logits (stride 4), in pixels."""
        return self.side // 4

    @property
    def memory_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what a frame leaves of an object; of two maps of latents, one lies below."""
        dim, edge, side = self.memory.dim, self.memory.latents_edge, self.embedding_side
        return (dim, 2 * edge, edge) if edge else (dim, side, side)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain dict, ready for JSON."""
        kind = next(name for name, kind in _TRUNK_KINDS.items() if isinstance(self.trunk, kind))
        values = asdict(self) | {"trunk": {"kind": kind, **asdict(self.trunk)}}
        return values if self.classes else {name: value for name, value in values.items() if name != "classes"}

    @classmethod
    def from_dict(cls, values: object) -> SAM2Config:
        """The inverse of `as_dict`, also after a round trip through JSON.

        Raises:
            ValueError: if a field is unknown, which means that a newer version wrote the file.
        """
        parts: dict[str, Any] = {"trunk": _trunk, "decoder": DecoderConfig, "memory": MemoryConfig}
        if not isinstance(values, dict) or not all(isinstance(values.get(name, {}), dict) for name in parts):
            raise ValueError(f"a model config is a mapping with {', '.join(parts)}, got {values!r:.80}")
        try:
            built = {name: part(**_tuples(values[name])) for name, part in parts.items() if name in values}
            return cls(**_tuples({**values, **built}))
        except (TypeError, KeyError) as error:
            raise ValueError(f"this model config cannot be read ({error}); update sam2kit") from error


def _trunk(kind: str = "hiera", **values: Any) -> TrunkConfig:
    return _TRUNK_KINDS[kind](**values)


def _check_side(side: object) -> None:
    if not isinstance(side, int) or isinstance(side, bool) or not 32 <= side <= _LARGEST_SIDE or side % 32:
        raise ValueError(f"side must be a multiple of 32 pixels from 32 to {_LARGEST_SIDE}, got {side!r}")


def _check_classes(classes: object) -> None:
    names = classes if isinstance(classes, tuple) else None
    if names is None or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"classes must be names, got {classes!r:.80}")
    if len(set(names)) < len(names) or len(names) > _MOST_CLASSES:
        raise ValueError(f"classes must be at most {_MOST_CLASSES} different names, got {len(names)}")


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def check_number(name: str, value: object, least: float = -math.inf, most: float = math.inf) -> None:
    """Refuse what is no finite number from `least` to `most`."""
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # a whole number of 400 digits
        number = math.nan
    if not math.isfinite(number) or not least <= number <= most:
        bounds = f" from {least:g}" * (least > -math.inf) + f" to {most:g}" * (most < math.inf)
        raise ValueError(f"{name} must be a number{bounds}, got {value!r:.80}")


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Refuse what is no whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, got {value!r}")


_TRUNKS = {
    "tiny": HieraConfig(),
    "small": HieraConfig(blocks_per_stage=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "base-plus": HieraConfig(
        embed_dim=112, heads=2, blocks_per_stage=(2, 3, 16, 3), global_blocks=(12, 16, 20), position_grid=14
    ),
    "large": HieraConfig(144, 2, (2, 6, 36, 4), window_per_stage=(8, 4, 16, 8), global_blocks=(23, 33, 43)),
}
_MEMORY_2_0 = MemoryConfig(marks_absent_objects=False, dates_object_pointers=False)

NANO = SAM2Config(
    side=384,
    hidden_dim=128,
    # all blocks of its last two stages but one see the whole picture: windows would fit few sides
    trunk=HieraConfig(32, 1, (1, 2, 8, 1), window_per_stage=(8, 4, 16, 8), global_blocks=tuple(range(4, 12))),
    # nano's soft edges would look unstable far too often
    decoder=DecoderConfig(heads=4, mlp_dim=256, replaces_unstable_masks=False, judges_masks=True, ragged_masks=True),
    memory=MemoryConfig(dim=32, slots=4, attention_layers=2, attention_mlp_dim=256, fuser_layers=1),
)

_NO_DETAIL = DecoderConfig(takes_detail=False)
_EFFICIENT = {
    "ti": SAM2Config(trunk=ViTConfig(), decoder=_NO_DETAIL, memory=_MEMORY_2_0),
    "s": SAM2Config(trunk=ViTConfig(384, 6), decoder=_NO_DETAIL, memory=_MEMORY_2_0),
}
_POOLED = {"1": replace(_MEMORY_2_0, pooled="scores"), "2": replace(_MEMORY_2_0, pooled="keys")}

PRESETS: dict[str, SAM2Config] = {
    **{f"sam2-hiera-{size}": SAM2Config(trunk=trunk, memory=_MEMORY_2_0) for size, trunk in _TRUNKS.items()},
    **{f"sam2.1-hiera-{size}": SAM2Config(trunk=trunk) for size, trunk in _TRUNKS.items()},
    **{f"efficienttam-{size}": config for size, config in _EFFICIENT.items()},
    **{f"efficienttam-{size}-512": replace(config, side=512) for size, config in _EFFICIENT.items()},
    **{f"efficienttam-{size}-{n}": replace(c, memory=m) for size, c in _EFFICIENT.items() for n, m in _POOLED.items()},
    "edgetam": SAM2Config(trunk=RepViTConfig(), memory=replace(_MEMORY_2_0, attention_layers=2, latents_edge=16)),
    "nano": NANO,
}


def preset(name: str, *, side: int | None = None) -> SAM2Config:
    """The config of a preset, at another picture side if one is given.

    Args:
        name: a key of `PRESETS`.
        side: edge of the model's square in pixels, a multiple of 32; None keeps the preset's own.
    Raises:
        ValueError: if the name or the side is unknown.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name] if side is None else replace(PRESETS[name], side=side)
