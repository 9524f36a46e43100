"""From a name to a ready model: preset, file, folder, fine-tuning or Hub repo; and back to a file or the Hub.

checkpoints.py reads and writes the files, finetuned.py what a fine-tuning left, hub.py downloads.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitOperationAdd, HfApi
from torch import Tensor

from sam2kit.checkpoints import (
    METADATA_KEY,
    PICTURE_PARTS,
    Weights,
    about_model,
    build,
    in_dtype,
    plain_state_of,
    read_weights,
    without_head,
    write_safetensors,
)
from sam2kit.config import PRESETS
from sam2kit.files import atomic_write, make_folder, write_json
from sam2kit.finetuned import check_base, is_finetuned, read_changes, read_finetuned
from sam2kit.hub import (
    FINETUNED_JSON,
    FINETUNED_WEIGHTS,
    TRANSFORMERS_FILE,
    WEIGHT_SUFFIXES,
    HubError,
    download_weights,
    hub_source,
    is_path,
    uploading,
)
from sam2kit.model.sam2 import SAM2
from sam2kit.model_card import CARD_FILE, model_card
from sam2kit.transformers_format import preprocessor_config, to_transformers_names, transformers_config

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BUNDLED = Path(__file__).parent / "nano"


def load_model(
    source: str | os.PathLike[str] = "sam2.1-hiera-tiny",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    *,
    side: int | None = None,
    trainable: bool = False,
) -> SAM2:
    """Load a model, ready to predict.

    Args:
        source: a preset ("nano", "sam2.1-hiera-tiny", "efficienttam-ti-512", ... see `PRESETS`), a Hub id
            ("facebook/sam2.1-hiera-large", or "owner/repo:file.pt" where a repo holds several files), or a local
            .safetensors or .pt file, or a folder with one. Folder and Hub id may also be those of a fine-tuning, whose
            base is then loaded with it.
        device: "auto" takes a CUDA GPU if there is one, else Apple's if there is one, else the CPU.
        dtype: precision to compute in: "float32", "bfloat16", "float16"; "auto" is bfloat16 on a CUDA GPU
            that computes in it, float16 on an older one (such as T4 and V100), float32 elsewhere.
        side: edge of the model's square in pixels, a multiple of 32; None keeps the model's own. Smaller is faster
            and coarser.
        trainable: keep the weights in float32, to train, save or export them. On a CUDA GPU they are otherwise kept
            in the dtype that is computed in, which is faster and takes half the memory.
    Raises:
        ValueError: if source, device, dtype or the file's content cannot be used.
        FileNotFoundError: if a path does not exist.
        HubError: if the Hub cannot deliver; this function never loads another model instead.
    """
    target = choose_device(device)
    compute_dtype = choose_dtype(dtype, target)
    weights, path = _read(source)
    if side is not None:
        weights = replace(weights, config=replace(weights.config, side=side))
    model = build(weights, path)
    model.compute_dtype = compute_dtype
    return model.to(target, weights_dtype(compute_dtype, target, trainable=trainable)).eval()


def choose_device(device: str | torch.device) -> torch.device:
    """The device to use; "auto" takes the best there is."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; use auto, cpu, cuda or mps") from error
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"unknown device {device!r}; use auto, cpu, cuda or mps")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"this torch sees {torch.cuda.device_count()} CUDA GPUs, so there is no {device!r}; use cpu, or "
            "install a CUDA build of torch"
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("this torch sees no Apple GPU; use device='cpu'")
    return chosen


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The precision to compute in; "auto" takes the fastest that is safe on the device."""
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        if torch.version.hip:
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        # older GPUs only imitate bfloat16, several times slower, and torch counts them too
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in DTYPES.values():
        raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, got {dtype!r}")
    return chosen


def weights_dtype(compute_dtype: torch.dtype, device: torch.device, *, trainable: bool) -> torch.dtype:
    """The dtype to keep weights in: on a CUDA GPU the one that is computed in, unless they are to be trained."""
    return compute_dtype if device.type == "cuda" and not trainable else torch.float32


def find_weights(source: str | os.PathLike[str]) -> Path:
    """The local file behind a source; downloads it if it is on the Hub."""
    name = os.fspath(source)
    if name == "nano":
        return BUNDLED / "nano.safetensors"
    published = hub_source(name)
    if published is not None:
        return download_weights(published)
    path = Path(os.path.expanduser(name))
    if os.path.isfile(path):
        return path.with_name(FINETUNED_WEIGHTS) if path.name == FINETUNED_JSON else path
    if os.path.isdir(path):
        return _only_weights_in(path)
    if is_path(name):
        raise FileNotFoundError(f"there is no weight file at {path}")
    raise ValueError(
        f"unknown model {name!r}; give one of {', '.join(PRESETS)}, a Hub id like facebook/sam2.1-hiera-tiny "
        "or owner/repo:file.pt, or a path"
    )


def _only_weights_in(folder: Path) -> Path:
    if is_finetuned(folder):
        return folder / FINETUNED_WEIGHTS
    if (folder / TRANSFORMERS_FILE).is_file():
        return folder / TRANSFORMERS_FILE
    files = [f for f in sorted(folder.iterdir()) if f.suffix in WEIGHT_SUFFIXES]
    if len(files) != 1:
        raise ValueError(f"{folder} has {len(files)} weight files where one was expected; give the file's path")
    return files[0]


def _read(source: str | os.PathLike[str], opened: tuple[Path, ...] = ()) -> tuple[Weights, Path]:
    """The weights behind a source, and the file that they came from; `opened` are the fine-tunings that led here."""
    path = find_weights(source)
    if path.name != FINETUNED_WEIGHTS:
        return read_weights(path, str(source)), path
    if path.resolve() in opened:
        raise ValueError(f"{path.parent} is its own base, so there is nothing to start from; put the base right")
    return _read_finetuned(path.parent, (*opened, path.resolve())), path


def _read_finetuned(folder: Path, opened: tuple[Path, ...]) -> Weights:
    about, changes = read_finetuned(folder), read_changes(folder)
    try:
        weights, path = _read(_base_of(about.base, folder), opened)
        state = build(weights, path).state_dict()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} was fine-tuned from {about.base!r}, which is not there; put it back, or write where it is now "
            f'as "base" into {FINETUNED_JSON}'
        ) from error
    except HubError as error:
        raise HubError(f"the base of {folder} is missing: {error}") from error
    except ValueError as error:
        raise ValueError(f"the base of {folder} cannot be used: {error}") from error
    check_base(about, state, folder)
    memory = weights.memory_is_trained if changes.memory_is_trained is None else changes.memory_is_trained
    seen = about.seen_after(weights.seen)
    return Weights(changes.applied_to(state, folder), changes.config or weights.config, memory, seen)


def _base_of(base: str, folder: Path) -> str | Path:
    """A path is looked for beside the result first, so that both can move together."""
    beside = folder / os.path.expanduser(base)
    return beside if base not in PRESETS and os.path.exists(beside) else base


def save_model(model: SAM2, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> Path:
    """Write a model as safetensors with its config in the metadata, so that `load_model` needs nothing else.

    Args:
        path: file to write; replaced only when the new one is complete.
        dtype: store in this dtype, such as torch.float16; None keeps the weights' own.
    Raises:
        ValueError: if the weights were rounded when the model was loaded, and would be stored as if they were not.
    """
    return write_safetensors(plain_state_of(model, dtype), Path(path), about_model(model))


def save_official(model: SAM2, path: str | os.PathLike[str]) -> Path:
    """Write the file that the official code loads: a pickle with the weights under "model".

    The official code takes sizes and side from its own configuration, so give it the one of the same size. The file
    also says what model it holds, where that code does not look, so that `load_model` gets every bit back.

    Args:
        path: ending in .pt; replaced only when the new file is complete.
    Raises:
        ValueError: if the ending is another one, the model only knows pictures (the official file holds the memory's
            weights too), it has LoRA layers, or its weights were rounded when it was loaded.
    """
    path = Path(path)
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"the official code reads .pt files, got {path.name!r}; give a name that ends in .pt")
    if not model.memory_is_trained:
        raise ValueError(
            "this model only knows pictures, and the official file must hold the memory's weights too; export it to "
            "transformers instead"
        )
    make_folder(path.parent)
    with atomic_write(path) as unfinished:
        state, about = _without_detection(model)
        torch.save({"model": state, METADATA_KEY: json.dumps(about)}, unfinished)
    return path


def save_transformers(model: SAM2, folder: str | os.PathLike[str]) -> Path:
    """Write a folder for `transformers.Sam2VideoModel.from_pretrained` and `Sam2Model.from_pretrained`.

    A model that only knows pictures is for `Sam2Model` alone, and so is nano: transformers knows no memories of
    other than 64 channels, and takes nano's predicted IoUs from its head alone. The file holds all that the model has.

    Raises:
        ValueError: if `folder` is a file, the model has LoRA layers, its weights were rounded when it was loaded, or
            transformers has no such model.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(f"transformers opens folders, and {folder} is a file; give the name of a folder")
    state, about = _without_detection(model)
    config = transformers_config(model.config, videos=model.memory_is_trained, dtype=model.weight_dtype)
    if not model.memory_is_trained:
        state = {key: value for key, value in state.items() if key.startswith(PICTURE_PARTS)}
    write_safetensors(to_transformers_names(state), folder / TRANSFORMERS_FILE, about)
    write_json(config, folder / "config.json", indent=2)
    for name, kind in (("preprocessor", "image"), ("video_preprocessor", "video")):
        write_json(preprocessor_config(model.config.side, kind), folder / f"{name}_config.json", indent=2)
    return folder


def _without_detection(model: SAM2) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, and what is said of them, for programs that know no detection head."""
    about = about_model(model)
    about["config"].pop("classes", None)
    return without_head(plain_state_of(model)), about


def push_to_hub(
    model_or_folder: SAM2 | str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    dtype: torch.dtype | None = None,
) -> str:
    """Upload a model or a fine-tuning to the Hub; `load_model(repo_id)` gets it back anywhere.

    Needs a login with write access (`hf auth login`). A fine-tuning goes with its model card, see
    `model_card.write_model_card`.

    Args:
        model_or_folder: a model, or the folder of a fine-tuning.
        repo_id: "you/name"; made if needed.
        private: whether a new repo is only for you.
        dtype: store in this dtype, such as torch.float16; None keeps the weights' own.
    Returns:
        Address of the commit.
    Raises:
        ValueError: if the folder holds no fine-tuning, or one whose base others cannot get; or if the weights of the
            model are rounded, as for `save_model`.
        HubError: if the Hub cannot be reached or refuses.
    """
    api = HfApi()
    with tempfile.TemporaryDirectory() as temporary:
        parts: dict[str, Path | bytes]
        if isinstance(model_or_folder, SAM2):
            parts = {TRANSFORMERS_FILE: save_model(model_or_folder, Path(temporary, TRANSFORMERS_FILE), dtype=dtype)}
        else:
            parts = _finetuned_parts(Path(model_or_folder), repo_id, dtype, Path(temporary))
        with uploading(repo_id):
            api.create_repo(repo_id, private=private, exist_ok=True)
            if TRANSFORMERS_FILE not in parts and api.file_exists(repo_id, TRANSFORMERS_FILE):
                raise ValueError(f"{repo_id} holds a whole model, which would be loaded instead; choose another name")
            added = [CommitOperationAdd(name, content) for name, content in parts.items()]
            return str(api.create_commit(repo_id, added, commit_message="Upload by sam2kit").commit_url)


def _finetuned_parts(folder: Path, repo_id: str, dtype: torch.dtype | None, temporary: Path) -> dict[str, Path | bytes]:
    base = read_finetuned(folder).base
    if base != "nano" and (isinstance(_base_of(base, folder), Path) or hub_source(base) is None):
        raise ValueError(
            f"{folder} was fine-tuned from the local {base!r}, which others do not have; push the base and name its "
            f'Hub id as "base" in {FINETUNED_JSON}, or merge both and push the model'
        )
    weights = folder / FINETUNED_WEIGHTS
    return {
        FINETUNED_WEIGHTS: weights if dtype is None else in_dtype(weights, temporary / FINETUNED_WEIGHTS, dtype),
        FINETUNED_JSON: folder / FINETUNED_JSON,
        CARD_FILE: model_card(folder, repo_id).encode(),
    }
