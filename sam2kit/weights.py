"""From a name to a ready model: preset, file, folder or Hub repo; and back to a file.

Two layouts are told apart by their keys: the official one (whose names the modules carry) and that of
transformers (transformers_layout.py). Size and version follow from the shapes; files that this project saved
say what they are in their metadata. Pickles are opened for their tensors only, so they cannot run code.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub import HfApi
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam2kit.config import PRESETS, SAM2Config
from sam2kit.hub import TRANSFORMERS_FILE, download_weights
from sam2kit.model.sam2 import SAM2
from sam2kit.transformers_layout import is_transformers_layout, to_official_names

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BUNDLED = Path(__file__).parent / "bundled"
_METADATA_KEY = "sam2kit"
_WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin")
_PICTURE_PARTS = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed")


def load_model(
    source: str | os.PathLike = "sam2.1-hiera-tiny",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    *,
    side: int | None = None,
) -> SAM2:
    """Load a model, ready to predict.

    Args:
        source: a preset ("nano", "sam2.1-hiera-tiny", ... see `PRESETS`), a Hub id ("facebook/sam2.1-hiera-large"),
            or a local .safetensors or .pt file, or a folder with one.
        device: "auto" takes a CUDA GPU if there is one, else Apple's if there is one, else the CPU.
        dtype: precision to compute in: "float32", "bfloat16", "float16"; "auto" is bfloat16 on a CUDA GPU
            that has it, float16 on an older one, float32 elsewhere. Weights are kept in float32.
        side: edge of the model's square in pixels, a multiple of 32; None keeps the model's own. Smaller is faster
            and coarser.
    Raises:
        ValueError: if source, device, dtype or the file's content cannot be used.
        FileNotFoundError: if a path does not exist.
        HubError: if the Hub cannot deliver; this function never loads another model instead.
    """
    target = choose_device(device)
    compute_dtype = choose_dtype(dtype, target)
    path = find_weights(source)
    state, config, complete = _read(path, str(source))
    if side is not None:
        config = SAM2Config.from_dict(config.as_dict() | {"side": side})
    model = _build(config, state, complete, path)
    model.compute_dtype = compute_dtype
    return model.to(target).eval()


def choose_device(device: str | torch.device) -> torch.device:
    """The device to use; "auto" takes the best there is."""
    if device != "auto":
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
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The precision to compute in; "auto" takes the fastest that is safe on the device."""
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in DTYPES.values():
        raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, got {dtype!r}")
    return chosen


def find_weights(source: str | os.PathLike) -> Path:
    """The local file behind a source; downloads it if it is on the Hub."""
    name = os.fspath(source)
    if name == "nano":
        return BUNDLED / "nano.safetensors"
    repo = hub_repo(name)
    if repo is not None:
        return download_weights(repo)
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _only_weights_in(path)
    if path.suffix in _WEIGHT_FILES or name.startswith((".", "/", "~")):
        raise FileNotFoundError(f"there is no weight file at {path}")
    raise ValueError(
        f"unknown model {name!r}; give one of {', '.join(PRESETS)}, a Hub id like facebook/sam2.1-hiera-tiny, or a path"
    )


def hub_repo(name: str) -> str | None:
    """The Hub repo that a source means; None for nano and for paths. A file that is there comes first."""
    if name in PRESETS:
        return None if name == "nano" else f"facebook/{name}"
    path = Path(name).expanduser()
    is_path = path.exists() or path.suffix in _WEIGHT_FILES or name.startswith((".", "/", "~"))
    return name if name.count("/") == 1 and not is_path else None


def _only_weights_in(folder: Path) -> Path:
    if (folder / TRANSFORMERS_FILE).is_file():
        return folder / TRANSFORMERS_FILE
    files = [f for f in sorted(folder.iterdir()) if f.suffix in _WEIGHT_FILES]
    if len(files) != 1:
        raise ValueError(f"{folder} has {len(files)} weight files where one was expected; give the file's path")
    return files[0]


def _read(path: Path, name: str) -> tuple[dict[str, Tensor], SAM2Config, bool]:
    """Weights under official names, the config, and whether the memory's weights are trained and there."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        else:
            metadata, state = {}, _read_pickle(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no weight file at {path}") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as weights ({error}); it may be cut off: download it again") from error
    if _METADATA_KEY in metadata:
        try:
            saved = json.loads(metadata[_METADATA_KEY])
            return _floats(state), SAM2Config.from_dict(saved["config"]), saved["memory_is_trained"]
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} does not say what model it is: its sam2kit metadata cannot be read") from error
    if is_transformers_layout(state):
        state = to_official_names(state)
    state = _floats(state)
    knows_videos = any(not key.startswith(_PICTURE_PARTS) for key in state)
    return state, _config_from_shapes(state, name), knows_videos


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{path} is no plain weight file: it is damaged, or it holds objects that could run code, which are refused"
        ) from error
    except Exception as error:  # an unreadable pickle fails in many ways
        raise ValueError(f"{path} cannot be read as weights; it may be cut off: download it again") from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]  # the official files keep the weights there, trainers add other things beside
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no weights: a mapping of names to tensors, perhaps under 'model', was expected")
    return dict(content)


def _floats(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.float() for key, value in state.items()}


def _config_from_shapes(state: Mapping[str, Tensor], name: str) -> SAM2Config:
    """Tell size and version from the trunk's width and depth and from the 2.1-only weights."""
    trunk = "image_encoder.trunk."
    patch = state.get(trunk + "patch_embed.proj.weight")
    if patch is None:
        known = ", ".join(sorted(state)[:3])
        raise ValueError(f"{name} is not a SAM 2 model: its weights have names like {known}")
    depth = 1 + max(int(key.split(".")[3]) for key in state if key.startswith(trunk + "blocks."))
    is_2_0 = "maskmem_tpos_enc" in state and "obj_ptr_tpos_proj.weight" not in state
    for key, config in PRESETS.items():
        shape = (config.trunk.embed_dim, sum(config.trunk.blocks_per_stage))
        if key.startswith("sam2-" if is_2_0 else "sam2.1-") and shape == (patch.shape[0], depth):
            return config
    raise ValueError(
        f"{name} is a SAM 2 model of unknown size (width {patch.shape[0]}, {depth} blocks); only tiny, small, "
        "base-plus and large can be told from their shapes"
    )


def _build(config: SAM2Config, state: dict[str, Tensor], complete: bool, path: Path) -> SAM2:
    """A model with exactly these weights; says what is missing, left over or of another shape."""
    with torch.device("meta"):
        model = SAM2(config)
    wanted = model.state_dict()
    missing = [k for k in wanted if k not in state and (complete or k.startswith(_PICTURE_PARTS))]
    extra = [k for k in state if k not in wanted]
    wrong = [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    if missing or extra or wrong:
        problems = [
            f"{len(keys)} {what} (such as {keys[0]})"
            for what, keys in (("missing", missing), ("unknown", extra), ("of another shape", wrong))
            if keys
        ]
        raise ValueError(f"{path} does not fit the model: weights {', '.join(problems)}")
    untrained = {k: torch.zeros(v.shape) for k, v in wanted.items() if k not in state}
    model.load_state_dict(state | untrained, assign=True)
    model.memory_is_trained = complete
    return model


def save_model(model: SAM2, path: str | os.PathLike, *, dtype: torch.dtype | None = None) -> Path:
    """Write a model as safetensors with its config in the metadata, so that `load_model` needs nothing else.

    Args:
        path: file to write; replaced only when the new one is complete.
        dtype: store in this dtype, such as torch.float16; None keeps the weights' own.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"config": model.config.as_dict(), "memory_is_trained": model.memory_is_trained}
    state = {k: v.detach().to("cpu", dtype or v.dtype).contiguous() for k, v in model.state_dict().items()}
    unfinished = path.with_name(path.name + ".part")
    save_file(state, unfinished, metadata={"format": "pt", _METADATA_KEY: json.dumps(about)})
    os.replace(unfinished, path)
    return path


def push_to_hub(model: SAM2, repo_id: str, *, private: bool = False, dtype: torch.dtype | None = None) -> str:
    """Upload a model to the Hub; `load_model(repo_id)` gets it back anywhere. Needs a login with write access.

    Returns:
        Address of the commit.
    """
    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        file = save_model(model, Path(folder) / TRANSFORMERS_FILE, dtype=dtype)
        commit = api.upload_file(path_or_fileobj=file, path_in_repo=TRANSFORMERS_FILE, repo_id=repo_id)
    return str(commit.commit_url)
