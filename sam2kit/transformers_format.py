"""What Hugging Face transformers writes of a SAM 2 model: its names of the weights, read both ways, and its configs.

Covers `Sam2VideoModel` and its image-only subset `Sam2Model`, and the same of EdgeTAM; there is no EfficientTAM. No
tensor is transposed; the point embeddings are one table there and four here, the Fourier matrix appears twice there,
and EdgeTAM's perceiver has keys and values apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from sam2kit.config import HieraConfig, RepViTConfig, SAM2Config, ViTConfig

_POINTS = "prompt_encoder.point_embed.weight"
_OUR_POINTS = "sam_prompt_encoder.point_embeddings."  # 0.weight to 3.weight
_FOURIER = "prompt_encoder.shared_embedding.positional_embedding"
_FOURIER_COPY = "shared_image_embedding.positional_embedding"
_TRUNK, _PROMPTS, _DECODER = "image_encoder.trunk.", "sam_prompt_encoder.", "sam_mask_decoder."
_DOWNSAMPLER, _FUSER = "memory_encoder.mask_downsampler.", "memory_encoder.fuser.layers.#."

# Theirs, ours; "*" stands for any text and "#" for a number. From theirs to ours all are applied downwards, each
# to what the ones above it left; from ours to theirs upwards. So no pair may reach what another one made.
_PAIRS: tuple[tuple[str, str], ...] = (
    # trunk and neck
    ("vision_encoder.backbone.*", _TRUNK + "*"),
    (_TRUNK + "timm_model.*", _TRUNK + "body.*"),
    (_TRUNK + "patch_embed.projection.*", _TRUNK + "patch_embed.proj.*"),
    (_TRUNK + "*.mlp.proj_in.*", _TRUNK + "*.mlp.layers.0.*"),
    (_TRUNK + "*.mlp.proj_out.*", _TRUNK + "*.mlp.layers.1.*"),
    ("vision_encoder.neck.convs.#.*", "image_encoder.neck.convs.#.conv.*"),
    # prompt encoder
    ("prompt_encoder.*", _PROMPTS + "*"),
    (_PROMPTS + "shared_embedding.positional_embedding", _FOURIER_COPY),
    (_FOURIER_COPY, _PROMPTS + "pe_layer.positional_encoding_gaussian_matrix"),
    *((f"{_PROMPTS}mask_embed.conv{i + 1}.*", f"{_PROMPTS}mask_downscaling.{3 * i}.*") for i in range(3)),
    *((f"{_PROMPTS}mask_embed.layer_norm{i + 1}.*", f"{_PROMPTS}mask_downscaling.{3 * i + 1}.*") for i in range(2)),
    # mask decoder
    ("mask_decoder.*", _DECODER + "*"),
    (_DECODER + "upscale_conv1.*", _DECODER + "output_upscaling.0.*"),
    (_DECODER + "upscale_layer_norm.*", _DECODER + "output_upscaling.1.*"),
    (_DECODER + "upscale_conv2.*", _DECODER + "output_upscaling.3.*"),
    (_DECODER + "transformer.*.mlp.proj_in.*", _DECODER + "transformer.*.mlp.layers.0.*"),
    (_DECODER + "transformer.*.mlp.proj_out.*", _DECODER + "transformer.*.mlp.layers.1.*"),
    (_DECODER + "transformer.layer_norm_final_attn.*", _DECODER + "transformer.norm_final_attn.*"),
    # memory
    *((f"{_DOWNSAMPLER}layers.{i}.conv.*", f"{_DOWNSAMPLER}encoder.{3 * i}.*") for i in range(4)),
    *((f"{_DOWNSAMPLER}layers.{i}.layer_norm.*", f"{_DOWNSAMPLER}encoder.{3 * i + 1}.*") for i in range(4)),
    (_DOWNSAMPLER + "final_conv.*", _DOWNSAMPLER + "encoder.12.*"),
    ("memory_encoder.feature_projection.*", "memory_encoder.pix_feat_proj.*"),
    ("memory_encoder.projection.*", "memory_encoder.out_proj.*"),
    ("memory_encoder.memory_fuser.*", "memory_encoder.fuser.*"),
    (_FUSER + "depthwise_conv.*", _FUSER + "dwconv.*"),
    (_FUSER + "layer_norm.*", _FUSER + "norm.*"),
    (_FUSER + "pointwise_conv#.*", _FUSER + "pwconv#.*"),
    (_FUSER + "scale", _FUSER + "gamma"),
    ("memory_attention.layer_norm.*", "memory_attention.norm.*"),
    ("memory_temporal_positional_encoding", "maskmem_tpos_enc"),
    ("no_memory_embedding", "no_mem_embed"),
    ("no_memory_positional_encoding", "no_mem_pos_enc"),
    ("no_object_pointer", "no_obj_ptr"),
    ("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
    ("object_pointer_proj.*", "obj_ptr_proj.*"),
    ("temporal_positional_encoding_projection_layer.*", "obj_ptr_tpos_proj.*"),
    # three-layer MLPs: their middle layer is "layers.0" there
    *(
        (f"{mlp}.{theirs}.*", f"{mlp}.{ours}.*")
        for mlp in ("*hypernetworks_mlps.#", "*_head", "obj_ptr_proj")
        for theirs, ours in (("layers.0", "layers.1"), ("proj_in", "layers.0"), ("proj_out", "layers.2"))
    ),
    # common
    ("*.layer_norm#.*", "*.norm#.*"),
    ("*attn*.o_proj.*", "*attn*.out_proj.*"),
)

_LAYER = "spatial_perceiver.layers.#."
_EDGETAM_PAIRS: tuple[tuple[str, str], ...] = (
    *(
        (f"memory_attention.layers.#.mlp.{t}.*", f"memory_attention.layers.#.{o}.*")
        for t, o in (("up_proj", "linear1"), ("down_proj", "linear2"))
    ),
    ("spatial_perceiver.latents_1d", "spatial_perceiver.latents"),
    ("spatial_perceiver.layer_norm.*", "spatial_perceiver.norm.*"),
    (_LAYER + "layer_norm_input.*", _LAYER + "attn.norm_x.*"),
    (_LAYER + "layer_norm_latents.*", _LAYER + "attn.norm_latents.*"),
    (_LAYER + "layer_norm_self.*", _LAYER + "self_attn.norm.*"),
    *(
        (f"{_LAYER}{attention}.{t}.*", f"{_LAYER}{ours}.{o}.*")
        for attention, ours in (("cross_attention", "attn"), ("self_attention", "self_attn"))
        for t, o in (("q_proj", "to_q"), ("kv_proj", "to_kv"), ("o_proj", "to_out"))
    ),
    *(
        (f"{_LAYER}{mlp}.{t}.*", f"{_LAYER}{ours}.{o}.*")
        for mlp, ours in (("mlp", "ff"), ("self_mlp", "self_ff"))
        for t, o in (("layer_norm", "0"), ("up_proj", "1"), ("down_proj", "3"))
    ),
)
_KEYS, _VALUES, _BOTH = ".k_proj.weight", ".v_proj.weight", ".kv_proj.weight"  # of the perceiver

_MEAN, _DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet's channels
_BILINEAR = 2  # Pillow's number
_THEIR_MEMORY_DIM = 64  # fixed in their memory attention
# of their mask decoder: transformers 5.17 misses these in video models if the file does not say them
_THEIR_DEFAULTS = {
    "num_multimask_outputs": 3,
    "iou_head_depth": 3,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}


def is_transformers_layout(state: Mapping[str, Tensor]) -> bool:
    """True if the weights carry transformers' names."""
    return any(key.startswith("vision_encoder.") for key in state)


def to_official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename all weights; names that are not known pass unchanged, for the strict check to find."""
    keys = [k for k in state if k.startswith("spatial_perceiver.") and k.endswith(_KEYS)]
    apart = {k: k.removesuffix(_KEYS) + _VALUES for k in keys}
    joined = {k.removesuffix(_KEYS) + _BOTH: torch.cat([state[k], state[v]]) for k, v in apart.items() if v in state}
    whole = {k: v for k, v in state.items() if k not in apart and k not in apart.values()} | joined
    renamed = {official_name(key): value for key, value in whole.items() if key != _POINTS}
    return renamed | {f"{_OUR_POINTS}{i}.weight": row[None] for i, row in enumerate(state.get(_POINTS, ()))}


def to_transformers_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_official_names`, for a state that has all four point embeddings."""
    points = [key for key in sorted(state) if key.startswith(_OUR_POINTS)]
    is_edgetam = "image_encoder.trunk.body.stem.conv1.c.weight" in state
    renamed = {transformers_name(key, is_edgetam): value for key, value in state.items() if key not in points}
    for key in [key for key in renamed if key.endswith(_BOTH)]:
        before = key.removesuffix(_BOTH)
        renamed[before + _KEYS], renamed[before + _VALUES] = (part.clone() for part in renamed.pop(key).chunk(2))
    renamed[_POINTS] = torch.cat([state[key] for key in points])
    renamed[_FOURIER_COPY] = renamed[_FOURIER].clone()
    return renamed


def official_name(key: str) -> str:
    """The official name of one weight."""
    for theirs, ours in (*_EDGETAM_PAIRS, *_PAIRS):
        key = _renamed(key, theirs, ours)
    return key


def transformers_name(key: str, is_edgetam: bool = False) -> str:
    """The name in transformers of one weight; of the two for the Fourier matrix, that in the prompt encoder."""
    for theirs, ours in reversed((*(_EDGETAM_PAIRS if is_edgetam else ()), *_PAIRS)):
        key = _renamed(key, ours, theirs)
    return key


def _renamed(key: str, before: str, after: str) -> str:
    """The key, moved from one pattern to the other if it has the form of the first."""
    match = _matcher(before).fullmatch(key)
    if match is None:
        return key
    parts = iter(match.groups())
    return re.sub(r"[*#]", lambda _: next(parts), after)


@cache
def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", "(.*)").replace(r"\#", r"(\d+)"))


def transformers_config(config: SAM2Config, *, videos: bool, dtype: torch.dtype) -> dict[str, Any]:
    """The content of config.json for weights of a dtype; without `videos` it is for their image model alone.

    Raises:
        ValueError: if transformers has no such model.
    """
    if isinstance(config.trunk, ViTConfig):
        raise ValueError("transformers has no EfficientTAM; export the official format instead, a .pt file")
    kind, name = ("edgetam", "EdgeTam") if isinstance(config.trunk, RepViTConfig) else ("sam2", "Sam2")
    dim = config.hidden_dim
    both = {
        "dtype": str(dtype).removeprefix("torch."),
        "vision_config": _vision(config),
        "prompt_encoder_config": {"hidden_size": dim, "image_size": config.side},
        "mask_decoder_config": {
            "hidden_size": dim,
            "iou_head_hidden_dim": dim,
            "mlp_dim": config.decoder.mlp_dim,
            "num_hidden_layers": config.decoder.layers,
            "num_attention_heads": config.decoder.heads,
            "attention_downsample_rate": config.decoder.cross_attention_downsample,
            "dynamic_multimask_via_stability": config.decoder.replaces_unstable_masks,
            **_THEIR_DEFAULTS,
        },
    }
    if not videos or config.memory.dim != _THEIR_MEMORY_DIM:
        return {"architectures": [f"{name}Model"], "model_type": kind, **both}
    memory = _edgetam_memory(config) if kind == "edgetam" else _memory(config)
    return {"architectures": [f"{name}VideoModel"], "model_type": f"{kind}_video", **both, **memory}


def _vision(config: SAM2Config) -> dict[str, Any]:
    trunk, side = config.trunk, config.side
    dims = list(trunk.channels)
    both = {
        "fpn_hidden_size": config.hidden_dim,
        "backbone_channel_list": dims[::-1],
        "backbone_feature_sizes": [[side // stride] * 2 for stride in (4, 8, 16)],
    }
    if not isinstance(trunk, HieraConfig):
        layers = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
        labels = {"num_classes": 1, "label_names": ["none"]}  # without, they look for those of ImageNet
        backbone = {"model_type": "timm_wrapper", "architecture": "repvit_m1", "model_args": layers, **labels}
        return {"model_type": "edgetam_vision_model", **both, "backbone_config": backbone}
    windows, looks_everywhere = _windows(trunk, side)
    return {
        "model_type": "sam2_vision_model",
        **both,
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "image_size": [side, side],
            "hidden_size": trunk.embed_dim,
            "num_attention_heads": trunk.heads,
            "blocks_per_stage": list(trunk.blocks_per_stage),
            "embed_dim_per_stage": dims,
            "num_attention_heads_per_stage": [trunk.heads << stage for stage in range(4)],
            "window_size_per_stage": windows,
            "global_attention_blocks": looks_everywhere,
            "window_positional_embedding_background_size": [trunk.position_grid] * 2,
        },
    }


def _windows(trunk: HieraConfig, side: int) -> tuple[list[int], list[int]]:
    """Their windows by stage, and blocks without.

    A block that opens a stage cannot go without there: a window as large as its map is the same, where no other block
    has the windows of the stage before.
    """
    windows, everywhere = list(trunk.window_per_stage), list(trunk.global_blocks)
    ends = list(accumulate(trunk.blocks_per_stage))
    for stage in (1, 2, 3):
        opener, begins = ends[stage - 1], ends[stage - 2] if stage > 1 else 0
        if opener in everywhere and set(range(begins + (stage > 1), opener)) <= set(everywhere):
            windows[stage - 1] = side // (4 << (stage - 1))
            everywhere.remove(opener)
    return windows, everywhere


def _memory(config: SAM2Config) -> dict[str, Any]:
    memory, dim = config.memory, config.hidden_dim
    return {
        "image_size": config.side,
        "num_maskmem": memory.slots,
        "enable_occlusion_spatial_embedding": memory.marks_absent_objects,
        "enable_temporal_pos_encoding_for_object_pointers": memory.dates_object_pointers,
        "memory_attention_hidden_size": dim,
        "memory_attention_num_layers": memory.attention_layers,
        "memory_attention_feed_forward_hidden_size": memory.attention_mlp_dim,
        "memory_attention_rope_feat_sizes": [config.embedding_side] * 2,
        "memory_encoder_hidden_size": dim,
        "memory_encoder_output_channels": memory.dim,
        "mask_downsampler_embed_dim": dim,
        "memory_fuser_num_layers": memory.fuser_layers,
        "memory_fuser_embed_dim": dim,
        "memory_fuser_intermediate_dim": 4 * dim,
    }


def _edgetam_memory(config: SAM2Config) -> dict[str, Any]:
    memory, latents = config.memory, config.memory.latents_edge**2
    return {
        **{key: value for key, value in _memory(config).items() if key != "memory_attention_feed_forward_hidden_size"},
        "memory_attention_mlp_hidden_size": memory.attention_mlp_dim,
        "memory_attention_rope_k_sizes": [memory.latents_edge] * 2,
        "perceiver_resampler_num_latents": latents,
        "perceiver_resampler_num_latents_2d": latents,
        "perceiver_resampler_hidden_size": memory.dim,
        "perceiver_resampler_mlp_intermediate_size": 4 * memory.dim,
        "perceiver_resampler_attention_head_dim": memory.dim,
    }


def preprocessor_config(side: int, kind: str) -> dict[str, Any]:
    """How transformers turns pictures or videos into the square that the model sees."""
    shared = {
        "processor_class": "Sam2VideoProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": _BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _MEAN,
        "image_std": _DEVIATION,
    }
    if kind == "video":
        return {"video_processor_type": "Sam2VideoVideoProcessor", **shared}
    mask_size = {"height": side // 4, "width": side // 4}
    # as in the published repos; every version knows it
    return {"image_processor_type": "Sam2ImageProcessorFast", "mask_size": mask_size, **shared}
