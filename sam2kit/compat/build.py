"""The official builders: config names and Hub ids to models."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sam2kit.config import PRESETS
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import load_model

_CONFIG_SIZES = {"t": "tiny", "s": "small", "b+": "base-plus", "l": "large"}


def build_sam2(
    config_file: str,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: str = "auto",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
) -> SAM2:
    """Load a model by the official config name ("configs/sam2.1/sam2.1_hiera_l.yaml") or a preset name.

    Args:
        config_file: only tells which size and version is wanted; no such file is read.
        ckpt_path: weights on disk; None takes the published ones from the Hub.
        device: as `load_model`.
        mode: "eval" or "train".
        hydra_overrides_extra, apply_postprocessing: must be left as they are; there are no config files here.
    """
    if hydra_overrides_extra or not apply_postprocessing:
        raise ValueError("there are no config files to override here; set options on the predictors instead")
    name = preset_of_config(config_file)
    return load_official(name if ckpt_path is None else ckpt_path, device).train(mode == "train")


def build_sam2_hf(model_id: str, device: str = "auto") -> SAM2:
    """Load a model from the Hub by its repo id."""
    return load_official(model_id, device)


def load_official(source: str | os.PathLike[str], device: str) -> SAM2:
    """As the official builders: the script's own autocast, if it enters one, decides the precision."""
    model = load_model(source, device)
    model.compute_dtype = None
    return model


def preset_of_config(config_file: str) -> str:
    """ "configs/sam2.1/sam2.1_hiera_b+.yaml" -> "sam2.1-hiera-base-plus"."""
    if config_file in PRESETS:
        return config_file
    version, _, size = os.path.basename(config_file).removesuffix(".yaml").partition("_hiera_")
    name = f"{version}-hiera-{_CONFIG_SIZES.get(size, size)}"
    if name not in PRESETS:
        raise ValueError(f"unknown config {config_file!r}; give one of {', '.join(PRESETS)}")
    return name
