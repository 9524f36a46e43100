"""The official builders: config names, Hub ids, hydra overrides and keywords to models and predictors' settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from sam2kit.compat.internals import settings_of, with_official_calls
from sam2kit.config import PRESETS
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import load_model

Predictor = TypeVar("Predictor")
_CONFIG_SIZES = {"t": "tiny", "s": "small", "b+": "base-plus", "l": "large"}
BUILDER_KEYWORDS = ("device", "mode", "hydra_overrides_extra", "apply_postprocessing")
_FALLBACK = "sam_mask_decoder_extra_args.dynamic_multimask_via_stability"
_MODEL_OVERRIDES = {"image_size": int, _FALLBACK: bool}
_VIDEO_OVERRIDES = {
    "fill_hole_area": int,
    "non_overlap_masks": bool,
    "add_all_frames_to_correct_as_cond": bool,
    "clear_non_cond_mem_around_input": bool,
    "binarize_mask_from_pts_for_mem_enc": bool,
}
_ALWAYS_ON = (
    "use_mask_input_as_output_without_sam", "directly_add_no_mem_embed", "use_high_res_features_in_sam",
    "multimask_output_in_sam", "multimask_output_for_tracking", "use_multimask_token_for_obj_ptr",
    "iou_prediction_use_sigmoid", "use_obj_ptrs_in_encoder", "only_obj_ptrs_in_the_past_for_eval", "pred_obj_scores",
    "pred_obj_scores_mlp", "fixed_no_obj_ptr", "use_mlp_for_obj_ptr_proj",
)  # fmt: skip
_FIXED_OVERRIDES: dict[str, tuple[object, ...]] = {  # one value is built in; or all give the same results
    "_target_": (
        "sam2.sam2_video_predictor.SAM2VideoPredictor",
        "sam2.sam2_video_predictor.SAM2VideoPredictorVOS",
    ),
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": (0.05,),
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": (0.98,),
    "memory_temporal_stride_for_eval": (1,),
    "max_cond_frames_in_attn": (-1,),
    "non_overlap_masks_for_mem_enc": (True, False),  # objects are remembered one by one
    "compile_image_encoder": (True, False),
    "num_maskmem": (7,),
    "sigmoid_scale_for_mem_enc": (20,),
    "sigmoid_bias_for_mem_enc": (-10,),
    "multimask_min_pt_num": (0,),
    "multimask_max_pt_num": (1,),
    "max_obj_ptrs_in_encoder": (16,),
    **dict.fromkeys(_ALWAYS_ON, (True,)),
}


def build_sam2(
    config_file: str,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = "auto",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: Any,
) -> SAM2:
    """Load a model by the official config name ("configs/sam2.1/sam2.1_hiera_l.yaml") or a preset name.

    Args:
        config_file: only tells which size and version is wanted; no such file is read.
        ckpt_path: weights on disk; None takes the published ones from the Hub.
        device: as `load_model`.
        mode: "eval" or "train".
        hydra_overrides_extra: "++model.image_size=512" and the switch of the fall-back for unstable masks.
        apply_postprocessing: a single mask with wavering edges gives way to the best of the other three.
    Raises:
        ValueError: if a config, override or keyword is unknown; says which are taken.
    """
    _refuse(kwargs, "build_sam2")
    overrides = _model_overrides(hydra_overrides_extra)
    name = preset_of_config(config_file)
    return load_official(
        name if ckpt_path is None else ckpt_path, device, mode, overrides, apply_postprocessing=apply_postprocessing
    )


def build_sam2_hf(model_id: str, **kwargs: Any) -> SAM2:
    """Load a model from the Hub by its repo id; keywords as `build_sam2`."""
    _refuse(kwargs, "build_sam2_hf")
    kwargs["overrides"] = _model_overrides(kwargs.pop("hydra_overrides_extra", ()))
    return load_official(model_id, **kwargs)


def from_pretrained(predictor: Callable[..., Predictor], model_id: str, keywords: Mapping[str, Any]) -> Predictor:
    """A predictor on the model of a repo; keywords are of `build_sam2_hf` and its own."""
    own = settings_of(predictor)
    _refuse(keywords, f"{predictor.__name__}.from_pretrained", own)
    builder = {name: value for name, value in keywords.items() if name in BUILDER_KEYWORDS}
    settings = {name: value for name, value in keywords.items() if name in own}
    return predictor(build_sam2_hf(model_id, **builder), **settings)


def _model_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """As `read_overrides`; a ValueError for those that belong to the video predictor."""
    read = read_overrides(overrides)
    misplaced = next((name for name in read if name not in _MODEL_OVERRIDES), None)
    if misplaced is not None:
        raise ValueError(f"model.{misplaced} belongs to the video predictor: give it to build_sam2_video_predictor")
    return read


def _refuse(given: Iterable[str], what: str, own: Sequence[str] = ()) -> None:
    """Raises ValueError if a keyword is neither a builder's nor among its own."""
    known = (*BUILDER_KEYWORDS, *own)
    for name in given:
        if name not in known:
            raise ValueError(f"{what} does not take {name!r}; it takes {', '.join(known)}")


def load_official(
    source: str | os.PathLike[str],
    device: str | torch.device | None = "auto",
    mode: str = "eval",
    overrides: Mapping[str, Any] | None = None,
    *,
    apply_postprocessing: bool = True,
) -> SAM2:
    """As the official builders: the script's own autocast, if it enters one, decides the precision."""
    if mode not in ("eval", "train"):
        raise ValueError(f'mode must be "eval" or "train", got {mode!r}')
    changes = overrides or {}
    side = changes.get("image_size")
    model = load_model(source, "cpu" if device is None else device, side=side, trainable=True)  # scripts train them
    model.compute_dtype = None
    decoder = model.config.decoder
    falls_back = changes.get(_FALLBACK, decoder.replaces_unstable_masks and apply_postprocessing)
    model.config = replace(model.config, decoder=replace(decoder, replaces_unstable_masks=falls_back))
    return with_official_calls(model).train(mode == "train")


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Hydra's "++model.fill_hole_area=0" as {"fill_hole_area": 0}; a ValueError if it cannot be followed."""
    known = {**_MODEL_OVERRIDES, **_VIDEO_OVERRIDES}
    read = {}
    if isinstance(overrides, str):
        raise ValueError(
            f'hydra_overrides_extra is a list such as ["++model.image_size=512"], got the text {overrides!r}'
        )
    for text in overrides:
        name, found, value = str(text).lstrip("+").partition("=")
        name = name.removeprefix("model.")
        if not found or (name not in known and name not in _FIXED_OVERRIDES):
            taken = ", ".join(f"model.{other}" for other in known)
            raise ValueError(f"the override {text!r} is not known; there are no config files here. Taken are: {taken}")
        given = _value(value)
        if isinstance(given, float) and given.is_integer():
            given = int(given)
        if name in _FIXED_OVERRIDES:
            if given not in _FIXED_OVERRIDES[name]:
                wanted = " or ".join(map(str, _FIXED_OVERRIDES[name]))
                raise ValueError(f"the override {text!r} cannot be followed: model.{name} is {wanted}; leave it out")
        elif isinstance(given, bool) != (known[name] is bool) or not isinstance(given, (bool, int)):
            raise ValueError(f"the override {text!r} needs {'true or false' if known[name] is bool else 'a number'}")
        else:
            read[name] = given
    return read


def _value(text: str) -> object:
    try:
        return json.loads(text.strip().lower())
    except ValueError:
        return text.strip()


def preset_of_config(config_file: str) -> str:
    """ "configs/sam2.1/sam2.1_hiera_b+.yaml" -> "sam2.1-hiera-base-plus"."""
    if config_file in PRESETS:
        return config_file
    version, _, size = os.path.basename(config_file).removesuffix(".yaml").partition("_hiera_")
    name = f"{version}-hiera-{_CONFIG_SIZES.get(size, size)}"
    if name not in PRESETS:
        raise ValueError(f"unknown config {config_file!r}; give one of {', '.join(PRESETS)}")
    return name
