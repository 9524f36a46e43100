"""Files of weights, read and written: tensors under the official names, and which model they belong to.

Two layouts are told apart by their keys: the official one (whose names the modules carry) and that of transformers
(transformers_format.py). Size and version follow from the shapes; files that this project wrote say what they are.
Trainers wrap the same weights in their own ways, which are unwrapped. Pickles are opened for their tensors only, so
they cannot run code.
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam2kit.config import PRESETS, SAM2Config, preset
from sam2kit.files import atomic_write, check_file, make_folder, parse_json
from sam2kit.model.sam2 import SAM2
from sam2kit.transformers_format import is_transformers_layout, to_official_names

METADATA_KEY = "sam2kit"
HEAD = "detection_head."  # start of the names of weights that only models with classes have
PICTURE_PARTS = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed", HEAD)
MEMORY_PARTS = (
    "memory_attention.", "memory_encoder.", "maskmem_tpos_enc", "mask_downsample.", "no_mem_pos_enc", "obj_ptr_",
    "no_obj_", "spatial_perceiver.",
)  # fmt: skip
LORA_BASE = ".base_layer"  # in a weight's name: peft has wrapped its layer
LOW_RANK = "low_rank"  # the entry of the metadata that only fine-tunings have
_CONTAINERS = (
    "model", "state_dict", "model_state_dict", "model_state", "module", "net", "network", "weights", "params",
    "ema_state_dict",
)  # fmt: skip
_ADDED_NAMES = ("module", "_orig_mod")  # by torch's wrappers for several GPUs and by torch.compile
_FIRST_WEIGHTS = (
    "image_encoder.trunk.patch_embed.proj.weight",
    "image_encoder.trunk.body.stem.conv1.c.weight",
    "vision_encoder.backbone.patch_embed.projection.weight",
    "vision_encoder.backbone.timm_model.stem.conv1.c.weight",
)
_ARRAYS, _PATHS = ("numpy.core.multiarray", "numpy._core.multiarray"), ("pathlib", "pathlib._local")  # old and new
_COUNTER = ".num_batches_tracked"  # of batch norms: whole numbers that nobody uses, and some files leave out
_MEDSAM2_SIDE = 512  # pixels: it is SAM 2.1 tiny, fine-tuned at half the side
_MAX_NAME = 200  # characters
_MAX_WEIGHTS = 10**9  # four times those of the largest SAM 2
_DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)


@dataclass(frozen=True)
class Weights:
    """A model as data."""

    state: dict[str, Tensor]  # float32, under official names
    config: SAM2Config
    memory_is_trained: bool  # and there; else `state` may lack the memory's weights
    seen: dict[str, frozenset[str]] = field(default_factory=dict)  # see SAM2


def read_weights(path: Path, name: str) -> Weights:
    """Read a weight file of any known kind.

    Args:
        path: of the file.
        name: what people call it, for messages.
    Raises:
        ValueError: if the file is damaged, or is no SAM 2 model.
        FileNotFoundError: if it is not there.
    """
    state, metadata = read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    strange = next((key for key in state if len(key) > _MAX_NAME), None)
    if strange is not None:
        called = f"{strange[:40]}…, of {len(strange)} characters"
        raise ValueError(f"{path} is no SAM 2 model: it has a weight called {called}")
    if sum(value.numel() * value.element_size() for value in state.values()) > 2 * path.stat().st_size:
        raise ValueError(f"{path} says that it holds more than it does; download it again, or save the weights again")
    state = _without_added_names(state, path)
    if is_transformers_layout(state):
        state = to_official_names(state)
    state = {key: _plain(value, key, path) for key, value in state.items() if not key.endswith(_COUNTER)}
    if METADATA_KEY not in metadata:
        knows_videos = any(not key.startswith(PICTURE_PARTS) for key in state)
        return Weights(state, _config_from_shapes(state, name), knows_videos)
    about = read_about(metadata, path)
    if LOW_RANK in about:
        raise ValueError(f"{path} holds only what a fine-tuning changed; load the folder in which it was written")
    try:
        config, knows_videos = SAM2Config.from_dict(about["config"]), bool(about["memory_is_trained"])
        return Weights(state, config, knows_videos, seen_from(about.get("seen")))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not say what model it is: its sam2kit metadata cannot be read") from error
    except ValueError as error:
        raise ValueError(f"{path} is no model that can be built: {error}") from error


def _without_added_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same under the model's own names: trainers put "module.", "_orig_mod." or the name of an attribute before."""
    named = {".".join(p for p in key.split(".") if p not in _ADDED_NAMES): value for key, value in state.items()}
    begins = {key.removesuffix(first) for key in named for first in _FIRST_WEIGHTS if key.endswith(first)}
    if len(named) < len(state) or len(begins) > 1:
        found = ", ".join(sorted(map(repr, begins))[:3])
        raise ValueError(f"{path} holds more than one model (names begin with {found}); save the weights of one alone")
    begin = next(iter(begins), "")
    return {key.removeprefix(begin): value for key, value in named.items()}


def _plain(tensor: Tensor, name: str, path: Path) -> Tensor:
    """In float32; a pickle can hold tensors that say to be far larger than the file."""
    is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.dtype in _DTYPES
    if not is_plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{path} holds {name!r}, which is no plain tensor of numbers; save the weights again")
    return tensor.float()


def about_model(model: SAM2) -> dict[str, Any]:
    """What a file says of the model in it, so that `read_weights` needs nothing else."""
    about = {"config": model.config.as_dict(), "memory_is_trained": model.memory_is_trained}
    return about | ({"seen": {use: sorted(keys) for use, keys in model.seen.items()}} if model.seen else {})


def seen_from(content: Any) -> dict[str, frozenset[str]]:
    """The `seen` of a model, as a file says it; nothing where it says nothing. TypeError for another shape."""
    if content is None:
        return {}
    uses = content.items() if isinstance(content, dict) else [(None, None)]
    if not all(isinstance(keys, list) and all(isinstance(key, str) for key in keys) for _, keys in uses):
        raise TypeError(f"lists of samples were expected, got {str(content)[:40]}")
    return {use: frozenset(keys) for use, keys in content.items()}


def read_about(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """This project's part of a file's metadata."""
    try:
        return dict(**parse_json(metadata[METADATA_KEY], str(path)))  # a TypeError if it is no mapping
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not say what it is: its sam2kit metadata cannot be read") from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; a ValueError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            return tensors, file.metadata() or {}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no weight file at {path}") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as weights ({error}); it may be cut off: download it again") from error


def write_safetensors(state: Mapping[str, Tensor], path: Path, about: Mapping[str, Any]) -> Path:
    """Write tensors and metadata; an older file is replaced only when the new one is complete."""
    make_folder(path.parent)
    with atomic_write(path) as unfinished:
        save_file(dict(state), unfinished, metadata={"format": "pt", METADATA_KEY: json.dumps(about)})
    return path


def in_dtype(path: Path, target: Path, dtype: torch.dtype) -> Path:
    """Copy a safetensors file of this project with its tensors in another dtype."""
    tensors, metadata = read_safetensors(path)
    return write_safetensors(storable(tensors, dtype), target, read_about(metadata, path))


def plain_state_of(model: SAM2, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """A model's weights, ready to be stored.

    Raises:
        ValueError: if LoRA's layers are between them; or if they are rounded to 16 bits, and `dtype` does not say so.
    """
    if model.weight_dtype not in (torch.float32, dtype):
        rounded = str(model.weight_dtype).removeprefix("torch.")
        raise ValueError(
            f"the model's weights are rounded to {rounded}, and the file is to be {dtype or 'as exact as the original'}"
            f"; load the model with trainable=True, or say dtype={model.weight_dtype}"
        )
    state = model.state_dict()
    if any(LORA_BASE in key for key in state):
        raise ValueError("the model has LoRA layers; merge_lora(model) makes them part of its weights first")
    return storable(state, dtype)


def without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights but for those of the detection head."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}


def storable(state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The same on the CPU, each tensor in memory of its own, in another dtype if one is given."""
    return {
        key: value.detach().to("cpu", dtype if dtype and value.is_floating_point() else value.dtype).contiguous()
        for key, value in state.items()
    }


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    check_file(path, "weight file")
    if _may_unpack_to_more(path):
        raise ValueError(
            f"{path} is a compressed archive, which could unpack to any size; torch.save writes none, so save it again"
        )
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused is None:
            raise ValueError(f"{path} is no plain weight file, or is damaged; get it again") from error
        raise ValueError(
            f"{path} holds more than weights: {refused[1]}, and such objects could run code. If you trust its source, "
            f"save the weights alone: torch.save({_weights_in(path)}, 'plain.pt')"
        ) from error
    except Exception as error:  # an unreadable pickle fails in many ways
        raise ValueError(f"{path} cannot be read as weights; it may be cut off: download it again") from error
    about = content.get(METADATA_KEY) if isinstance(content, Mapping) else None
    state = content
    for _ in _CONTAINERS:  # trainers keep the weights beside other things, some of them twice over
        if isinstance(state, Mapping):
            state = next((state[name] for name in _CONTAINERS if isinstance(state.get(name), Mapping)), state)
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
    ):
        held = ", ".join(str(key)[:40] for key in list(content)[:6]) if isinstance(content, Mapping) else "no mapping"
        raise ValueError(
            f"{path} holds no weights: a mapping of names to tensors was expected, perhaps under one of "
            f"{', '.join(_CONTAINERS)}; it holds {held or 'nothing'}"
        )
    return dict(state), {} if about is None else {METADATA_KEY: about}


def _weights_in(path: Path) -> str:
    """What to write in Python for the weights alone of a pickle that holds more.

    Its layout is read with a dict in place of whatever it names, so that nothing of it runs.
    """

    class Unknown(dict[Any, Any]):  # of this call alone
        def __init__(self, *_: Any) -> None:
            super().__init__()

    class Named(Unknown):
        pass

    class Reader(pickle.Unpickler):
        def find_class(self, _: str, name: str) -> type:
            return Named if name in ("OrderedDict", "defaultdict") else Unknown

        def persistent_load(self, _: Any) -> None:
            return None

    said = f"torch.load({path.name!r}, weights_only=False)"
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
            part = Reader(io.BytesIO(archive.read(name))).load()
        for _ in _CONTAINERS:
            if type(part) in (dict, Named):
                key = next((k for k in _CONTAINERS if isinstance(part.get(k), dict)), None)
                part, said = (part, said) if key is None else (part[key], f"{said}[{key!r}]")
    except Exception:  # of an older kind, or damaged
        return f"{said}['model']"
    if type(part) is Unknown:
        return f"{said}.state_dict()"
    return said if "[" in said else f"{{k: v for k, v in {said}.items() if isinstance(v, torch.Tensor)}}"


class _TextType:
    """In place of NumPy's type of texts, in which a made-up file could set any size, even one below 0."""

    def __setstate__(self, _: Any) -> None:
        pass


def _array_type(name: str, *_: Any) -> np.dtype | _TextType:
    return _TextType() if name[:1] == "U" else np.dtype(name)


def _scalar(kind: np.dtype | _TextType, data: bytes) -> Any:
    made: Any = np.float64(0).__reduce__()[0]
    return data.decode("utf-32") if isinstance(kind, _TextType) else made(kind, data)


def _plain_dict(*_: Any) -> dict[Any, Any]:
    return {}


@cache
def _safe_globals() -> list[Any]:
    """What trainers keep beside weights, and cannot run code: numbers, texts and arrays of NumPy, arguments, paths."""
    # what NumPy's own pickles call; files name them as the version that wrote them did
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    listed = [argparse.Namespace, SimpleNamespace, np.ndarray, *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}]
    if [*map(int, torch.__version__.split(".")[:2])] < [2, 6]:  # knows them under one name only
        return [*listed, np.dtype, scalar, array]
    named = {f"{m}.scalar": _scalar for m in _ARRAYS} | {f"{m}._reconstruct": array for m in _ARRAYS}
    named |= {f"{m}.{kind}": getattr(pathlib, f"Pure{kind}") for m in _PATHS for kind in ("PosixPath", "WindowsPath")}
    named |= {"numpy.dtype": _array_type, "collections.defaultdict": _plain_dict}
    return [*listed, _TextType, list, int, float, dict, *((thing, name) for name, thing in named.items())]


def _may_unpack_to_more(path: Path) -> bool:
    """Whether a file is a zip with packed entries."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError):  # an older kind of pickle, or a damaged file
        return False


def _config_from_shapes(state: Mapping[str, Tensor], name: str) -> SAM2Config:
    """Tell family, size and version from the trunk's weights and the switches' own; see `_variant` for what remains."""
    trunk = "image_encoder.trunk."
    if "spatial_perceiver.latents" in state:
        return PRESETS["edgetam"]
    patch, places = state.get(trunk + "patch_embed.proj.weight"), state.get(trunk + "pos_embed")
    if patch is None or patch.ndim != 4:
        known = ", ".join(sorted(state)[:3])
        raise ValueError(f"{name} is not a SAM 2 model: its weights have names like {known}")
    blocks = [key.removeprefix(trunk + "blocks.").split(".")[0] for key in state if key.startswith(trunk + "blocks.")]
    depth = 1 + max((int(number) for number in blocks if number.isdecimal()), default=0)
    if places is not None and places.ndim == 3:
        family = "efficienttam-"
    else:
        is_2_0 = "maskmem_tpos_enc" in state and "obj_ptr_tpos_proj.weight" not in state
        family = "sam2-" if is_2_0 else "sam2.1-"
    for key, config in PRESETS.items():
        if key.startswith(family) and (config.trunk.embed_dim, config.trunk.blocks) == (patch.shape[0], depth):
            return _variant(key, name)
    raise ValueError(
        f"{name} is a SAM 2 model of unknown size (width {patch.shape[0]}, {depth} blocks); only tiny, small, "
        "base-plus and large, and EfficientTAM's ti and s can be told from their shapes"
    )


def _variant(preset_name: str, name: str) -> SAM2Config:
    """What weights do not tell, and names do: EfficientTAM's side and kind of memory, and the side of MedSAM2."""
    if "medsam2" in name.lower():
        return preset(preset_name, side=_MEDSAM2_SIDE)
    if not preset_name.startswith("efficienttam"):
        return PRESETS[preset_name]
    ending = re.search(r"_(512x512|1|2)(?=\.\w+$)|-(512|1|2)$", name)
    if ending is None:
        if not re.search(r"efficienttam[_-](ti|s)(\.\w+)?$", name):
            warnings.warn(
                f"{name} does not say which {preset_name} it is; it is taken for the plain one at side 1024. Say "
                "side=512 if it was trained so; pooled kinds are told by a file name that ends in _1 or _2",
                stacklevel=2,
            )
        return PRESETS[preset_name]
    return PRESETS[f"{preset_name}-{(ending[1] or ending[2]).removesuffix('x512')}"]


def build(weights: Weights, path: Path) -> SAM2:
    """A model with exactly these weights; says what is missing, left over or of another shape."""
    state, complete = weights.state, weights.memory_is_trained
    with torch.device("meta"):
        model = SAM2(weights.config)
    wanted = model.state_dict()
    if sum(v.numel() for v in wanted.values()) > _MAX_WEIGHTS:
        raise ValueError(f"{path} describes a model that is far larger than any SAM 2; get the file again")
    problems = {
        "missing": [
            k
            for k in wanted
            if k not in state and (complete or k.startswith(PICTURE_PARTS)) and not k.endswith(_COUNTER)
        ],
        "unknown": [k for k in state if k not in wanted],
        "of another shape": [k for k in wanted if k in state and state[k].shape != wanted[k].shape],
    }
    if any(problems.values()):
        said = [f"{len(keys)} {what} (such as {keys[0]})" for what, keys in problems.items() if keys]
        raise ValueError(f"{path} does not fit the model: weights {', '.join(said)}")
    infinite = next((k for k, v in state.items() if not bool(v.isfinite().all())), None)
    if infinite is not None:
        raise ValueError(
            f"{path} is damaged: the weight {infinite} has values that are no finite numbers; get it again"
        )
    untrained = {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in wanted.items() if k not in state}
    model.load_state_dict(state | untrained, assign=True)
    model.memory_is_trained, model.seen = complete, weights.seen
    return model
