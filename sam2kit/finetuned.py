"""What a fine-tuning leaves behind: a small safetensors file and a JSON file, side by side in a folder.

    finetuned.safetensors   tensors that differ from the base, whole; and for layers with LoRA two slim
                            matrices, `<weight name>.lora_down` [r, in] and `.lora_up` [out, r]
    finetuned.json          the base, the recipe, the data, the numbers before and after, the environment

`weights.load_model(folder)` loads the base, and adds what is here by plain matrix addition. The base is known by
a hash of its weights, so that changes never land on a model that they were not made for.

Source: LoRA, arXiv:2106.09685.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from sam2kit.checkpoints import (
    HEAD,
    LORA_BASE,
    LOW_RANK,
    read_about,
    read_safetensors,
    seen_from,
    storable,
    without_head,
    write_safetensors,
)
from sam2kit.config import PRESETS, SAM2Config, __version__
from sam2kit.files import read_json, write_json
from sam2kit.hub import FINETUNED_JSON, FINETUNED_WEIGHTS
from sam2kit.model.sam2 import SAM2

_DOWN, _UP = ".lora_down", ".lora_up"
_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "dict": (dict,), "int | None": (int, NoneType)}


@dataclass(frozen=True)
class LowRank:
    """What LoRA adds to the weight of one linear layer or convolution: scale * up @ down."""

    down: Tensor  # [r, in], or [r, in, h, w] of a convolution
    up: Tensor  # [out, r], or [out, r, 1, 1]
    scale: float  # alpha / r

    def added_to(self, weight: Tensor) -> Tensor:
        """The weight with the addition, in its shape."""
        addition = (self.up.flatten(1) @ self.down.flatten(1)) * self.scale
        return weight + addition.view_as(weight)

    def fits(self, weight: Tensor) -> bool:
        """Whether the shapes go together."""
        if min(self.down.ndim, self.up.ndim, weight.ndim) < 2 or self.down.shape[1:] != weight.shape[1:]:
            return False
        return self.up.flatten(1).shape == (weight.shape[0], self.down.shape[0])


@dataclass(frozen=True)
class FineTuning:
    """How a result came to be: the content of finetuned.json. For `metrics` see model_card.py.

    `data` may say under "seen" which samples were used, see SAM2.
    """

    base: str  # as given to `load_model`; a relative path counts from the result's folder, or else the working one
    base_fingerprint: str = ""  # of the base's weights, see `fingerprint`; filled in by `save_finetuned`
    recipe: dict[str, Any] = field(default_factory=dict)  # how it was trained: the configuration, with its "name"
    data: dict[str, Any] = field(default_factory=dict)  # format, name, fingerprint, counts, samples
    metrics: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)  # versions and device, see `this_environment`
    seed: int | None = None
    time: str = ""  # when it was saved, ISO 8601; filled in by `save_finetuned`

    @classmethod
    def from_dict(cls, values: Any) -> FineTuning:
        """Read what JSON held; entries that this version does not know are left aside.

        Raises:
            ValueError: if it is no mapping, names no base, or an entry has another type.
        """
        if not isinstance(values, dict) or not values.get("base"):
            raise ValueError("it names no base")
        known = {f.name: (values[f.name], str(f.type).partition("[")[0]) for f in fields(cls) if f.name in values}
        for name, (value, kind) in known.items():
            if not isinstance(value, _KINDS[kind]):
                raise ValueError(f"its entry {name!r} is {value!r} where {kind} was expected")
        about = cls(**{name: value for name, (value, _) in known.items()})
        try:
            seen_from(about.data.get("seen"))
        except TypeError as error:
            raise ValueError(f"its entry 'data' cannot be read: {error}") from error
        return about

    def seen_after(self, base: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        """The `seen` of the model that this made of a base: a base's samples count, too."""
        ours = seen_from(self.data.get("seen"))
        union = {use: base.get(use, frozenset()) | ours.get(use, frozenset()) for use in (*base, *ours)}
        return {use: keys for use, keys in union.items() if keys}


@dataclass(frozen=True)
class Changes:
    """What finetuned.safetensors holds."""

    tensors: dict[str, Tensor]
    low_rank: dict[str, LowRank]  # by the name of the weight
    config: SAM2Config | None  # None: the base's
    memory_is_trained: bool | None  # None: as in the base

    def applied_to(self, base: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
        """The base's weights with the changes.

        Raises:
            ValueError: if a change is for a weight that the base has not, or has in another shape.
        """
        base = base if self.config is None else without_head(base)  # which comes whole, if there is one
        whole = without_head(self.tensors)
        odd = [k for k, v in whole.items() if k not in base or v.shape != base[k].shape]
        odd += [k for k, pair in self.low_rank.items() if k not in base or not pair.fits(base[k])]
        if odd:
            raise ValueError(
                f"{folder} does not fit its base: the base has no weight {odd[0]}, or one of another shape; "
                "give it the base that it was trained from"
            )
        state = {**base, **self.tensors}
        return state | {name: pair.added_to(state[name]) for name, pair in self.low_rank.items()}


def is_finetuned(folder: Path) -> bool:
    """Whether a folder holds the result of a fine-tuning."""
    return (folder / FINETUNED_JSON).is_file()


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values of weights: the same for every file format and device."""
    whole = hashlib.sha256()
    for name in sorted(state):
        tensor = _exact(state[name]).contiguous()
        whole.update(f"{name} {list(tensor.shape)}\n".encode())
        whole.update(tensor.numpy().reshape(-1).data.cast("B"))
    return whole.hexdigest()


def this_environment(device: str | torch.device) -> dict[str, str]:
    """Versions and device, for `FineTuning.environment`."""
    chosen = torch.device(device)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else platform.machine()
    return {
        "sam2kit": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{chosen.type} ({name})",
    }


def save_finetuned(
    folder: str | os.PathLike[str],
    trained: SAM2 | Mapping[str, Tensor],
    base_state: Mapping[str, Tensor],
    about: FineTuning,
    low_rank: Mapping[str, LowRank] | None = None,
    *,
    config: SAM2Config | None = None,
    memory_is_trained: bool | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write what training changed, and how it came about; each of the two files is replaced only when it is complete.

    Args:
        folder: where to write; made if needed.
        trained: the model, or its weights under official names, without what LoRA adds
            (`training.lora.plain_state`).
        base_state: all weights of the base as `load_model` gives them: `load_model(base).state_dict()`, of a model
            that is not trained itself.
        about: its fingerprint of the base and its time are filled in here, and a relative path of the base is made to
            count from the folder, so that the working directory does not matter later.
        low_rank: what LoRA adds (`training.lora.lora_pairs`), by the name of the weight.
        config: of the trained model, if `trained` is only weights; None keeps the base's.
        memory_is_trained: likewise.
        dtype: store in this dtype, such as torch.float16, at half the size; None keeps the weights' own.
    Returns:
        The folder.
    Raises:
        ValueError: if the trained weights and the base's are not of the same model.
    """
    folder = Path(folder)
    if isinstance(trained, SAM2):
        config, memory_is_trained, trained = trained.config, trained.memory_is_trained, trained.state_dict()
    pairs = dict(low_rank or {})
    _check_same_model(without_head(trained), without_head(base_state), pairs)
    head = {k: v for k, v in trained.items() if k.startswith(HEAD)}
    changed = head | {
        k: v for k, v in without_head(trained).items() if not torch.equal(_exact(v), _exact(base_state[k]))
    }
    halves = {k + _DOWN: p.down for k, p in pairs.items()} | {k + _UP: p.up for k, p in pairs.items()}
    metadata = {
        "config": None if config is None else config.as_dict(),
        "memory_is_trained": memory_is_trained,
        LOW_RANK: {k: p.scale for k, p in pairs.items()},
    }
    now = about.time or datetime.now(timezone.utc).isoformat(timespec="seconds")
    base = _from_folder(about.base, folder)
    about = replace(about, base=base, base_fingerprint=fingerprint(base_state), time=now)
    write_safetensors(storable(changed | halves, dtype), folder / FINETUNED_WEIGHTS, metadata)
    write_json(asdict(about), folder / FINETUNED_JSON, indent=2)
    return folder


def _from_folder(base: str, folder: Path) -> str:
    path = Path(base).expanduser()
    if base in PRESETS or path.is_absolute() or not path.exists():
        return base
    return f"./{Path(os.path.relpath(path, folder)).as_posix()}"


def _check_same_model(
    trained: Mapping[str, Tensor], base_state: Mapping[str, Tensor], pairs: Mapping[str, LowRank]
) -> None:
    if any(LORA_BASE in key for key in trained):
        raise ValueError("the model has LoRA layers; save plain_state(model) with low_rank=lora_pairs(model)")
    odd = sorted(trained.keys() ^ base_state.keys())
    odd += [k for k in trained if k in base_state and trained[k].shape != base_state[k].shape]
    odd += [k for k, pair in pairs.items() if k not in base_state or not pair.fits(base_state[k])]
    if odd:
        raise ValueError(
            f"the trained model is not of the base's kind: {len(odd)} weights such as {odd[0]} are in one of them only "
            "or have other shapes; give the state of the base that training started from"
        )


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32)


def read_finetuned(folder: str | os.PathLike[str]) -> FineTuning:
    """What finetuned.json says.

    Raises:
        ValueError: if the folder is no result of a fine-tuning, or the file cannot be read.
    """
    path = Path(folder) / FINETUNED_JSON
    if not path.is_file():
        raise ValueError(f"{folder} holds no fine-tuning: there is no {FINETUNED_JSON} in it")
    try:
        return FineTuning.from_dict(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path} cannot be used ({error}); copy or download the folder again") from error


def read_changes(folder: Path) -> Changes:
    """What finetuned.safetensors holds, in float32.

    Raises:
        ValueError: if the file is damaged, or is none of this kind.
        FileNotFoundError: if it is not there.
    """
    path = folder / FINETUNED_WEIGHTS
    tensors, metadata = read_safetensors(path)
    about = read_about(metadata, path)
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    try:
        pairs = {
            name: LowRank(tensors.pop(name + _DOWN), tensors.pop(name + _UP), float(scale))
            for name, scale in about[LOW_RANK].items()
        }
        config = None if about["config"] is None else SAM2Config.from_dict(about["config"])
        return Changes(tensors, pairs, config, about["memory_is_trained"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} was not written by a fine-tuning, or not wholly; copy the folder again") from error


def check_base(about: FineTuning, base_state: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse a base with other weights than those that training started from."""
    found = fingerprint(base_state)
    if found != about.base_fingerprint:
        raise ValueError(
            f"{folder} was fine-tuned from other weights than {about.base!r} holds now (fingerprint {found[:12]}, "
            f"wanted {about.base_fingerprint[:12] or 'one'}); give it the base that it was trained from"
        )


def add_detection_head(folder: str | os.PathLike[str], model: SAM2) -> None:
    """Put a model's detection head into a result that is already saved, in place of any that is there."""
    path = Path(folder) / FINETUNED_WEIGHTS
    tensors, metadata = read_safetensors(path)
    head = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(HEAD)}
    about = read_about(metadata, path) | {"config": model.config.as_dict()}
    write_safetensors(storable(without_head(tensors) | head), path, about)


def with_metrics(folder: str | os.PathLike[str], metrics: dict[str, Any]) -> FineTuning:
    """Complete the numbers of a result that is already saved; returns what its finetuned.json now says."""
    about = replace(read_finetuned(folder), metrics=metrics)
    write_json(asdict(about), Path(folder) / FINETUNED_JSON, indent=2)
    return about
