"""What the sizes and versions of SAM 2 are: frozen dataclasses and the table PRESETS.

The four published sizes differ only in the trunk; 2.0 and 2.1 differ only in two memory switches.
`nano` is this project's own small model, trained from scratch on procedural scenes.

Source: SAM 2, arXiv:2408.00714, appendix "Architecture"; Hiera, arXiv:2306.00989.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from typing import Any

__version__ = "0.1.0"  # of sam2kit
_LARGEST_SIDE = 8192  # pixels


def _whole(default: int, least: int, most: int) -> Any:
    """A field that holds a whole number within bounds; `_check_fields` looks at them."""
    return field(default=default, metadata={"bounds": (least, most)})


def _check_fields(part: Any, name: str = "") -> None:
    for entry in fields(part):
        if "bounds" in entry.metadata:
            check_whole(name + entry.name, getattr(part, entry.name), *entry.metadata["bounds"])


@dataclass(frozen=True)
class TrunkConfig:
    """The hierarchical image encoder (Hiera)."""

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
        for name, least in (("blocks_per_stage", 1), ("window_per_stage", 1), ("global_blocks", 0)):
            numbers = getattr(self, name)
            if not isinstance(numbers, tuple) or (name != "global_blocks" and len(numbers) != 4):
                raise ValueError(f"trunk.{name} must be whole numbers, one for each of 4 stages, got {numbers!r}")
            for number in numbers:
                check_whole(f"trunk.{name}", number, least, 256)
        if any(window % 2 for window in self.window_per_stage[:3]):
            raise ValueError(
                "trunk.window_per_stage must be even but for the last stage, because the next stage halves them, got "
                f"{self.window_per_stage!r}"
            )


@dataclass(frozen=True)
class DecoderConfig:
    """The prompt encoder and the two-way mask decoder."""

    layers: int = _whole(2, 1, 256)
    heads: int = _whole(8, 1, 256)
    mlp_dim: int = _whole(2048, 1, 2**16)
    cross_attention_downsample: int = _whole(2, 1, 256)  # hidden_dim / width of attention between tokens and image
    replaces_unstable_masks: bool = True  # a single mask with wavering edges gives way to the best of the other three
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

    def __post_init__(self) -> None:
        _check_fields(self, "memory.")


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
    trunk: TrunkConfig = field(default_factory=TrunkConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    def __post_init__(self) -> None:
        _check_side(self.side)
        _check_fields(self)
        dim, decoder = self.hidden_dim, self.decoder
        if dim % 16 or dim % self.memory.dim:
            raise ValueError(f"hidden_dim must be a multiple of 16 and of the memory's {self.memory.dim}, got {dim}")
        if dim % (decoder.heads * decoder.cross_attention_downsample):
            raise ValueError(
                f"hidden_dim must be a multiple of the decoder's {decoder.heads} heads times "
                f"{decoder.cross_attention_downsample}, by which its attention is narrower, got {dim}"
            )

    @property
    def embedding_side(self) -> int:
        """Edge of the stride-16 image embedding, in tokens."""
        return self.side // 16

    @property
    def low_res_side(self) -> int:
        """Edge of the low-res mask logits (stride 4), in pixels."""
        return self.side // 4

    def as_dict(self) -> dict[str, Any]:
        """Nested plain dict, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> SAM2Config:
        """The inverse of `as_dict`, also after a round trip through JSON.

        Raises:
            ValueError: if a field is unknown, which means that a newer version wrote the file.
        """
        parts = {"trunk": TrunkConfig, "decoder": DecoderConfig, "memory": MemoryConfig}
        if not isinstance(values, dict) or not all(isinstance(values.get(name, {}), dict) for name in parts):
            raise ValueError(f"a model config is a mapping with {', '.join(parts)}, got {values!r:.80}")
        try:
            built = {name: part(**_tuples(values[name])) for name, part in parts.items() if name in values}
            return cls(**{**values, **built})
        except TypeError as error:
            raise ValueError(f"this model config cannot be read ({error}); update sam2kit") from error


def _check_side(side: object) -> None:
    if not isinstance(side, int) or isinstance(side, bool) or not 32 <= side <= _LARGEST_SIDE or side % 32:
        raise ValueError(f"side must be a multiple of 32 pixels from 32 to {_LARGEST_SIDE}, got {side!r}")


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
    "tiny": TrunkConfig(),
    "small": TrunkConfig(blocks_per_stage=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "base-plus": TrunkConfig(
        embed_dim=112, heads=2, blocks_per_stage=(2, 3, 16, 3), global_blocks=(12, 16, 20), position_grid=14
    ),
    "large": TrunkConfig(144, 2, (2, 6, 36, 4), window_per_stage=(8, 4, 16, 8), global_blocks=(23, 33, 43)),
}
_MEMORY_2_0 = MemoryConfig(marks_absent_objects=False, dates_object_pointers=False)

NANO = SAM2Config(
    side=384,
    hidden_dim=128,
    # all of its last two stages look at the whole picture: their windows would fit few sides
    trunk=TrunkConfig(32, 1, (1, 2, 8, 1), window_per_stage=(8, 4, 16, 8), global_blocks=tuple(range(4, 12))),
    # nano's soft edges would look unstable far too often
    decoder=DecoderConfig(heads=4, mlp_dim=256, replaces_unstable_masks=False, ragged_masks=True),
    memory=MemoryConfig(dim=32, slots=4, attention_layers=2, attention_mlp_dim=256, fuser_layers=1),
)

PRESETS: dict[str, SAM2Config] = {
    **{f"sam2-hiera-{size}": SAM2Config(trunk=trunk, memory=_MEMORY_2_0) for size, trunk in _TRUNKS.items()},
    **{f"sam2.1-hiera-{size}": SAM2Config(trunk=trunk) for size, trunk in _TRUNKS.items()},
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
