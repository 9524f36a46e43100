"""A model for other people's code: the official .pt file, or the folder that transformers opens.

Both also say what model they hold in this project's own words, where the other readers do not look, so that
`load_model` gets every bit back, whatever the size and side.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from sam2kit.config import SAM2Config
from sam2kit.files import make_folder, written_whole
from sam2kit.hub import TRANSFORMERS_FILE
from sam2kit.model.sam2 import SAM2
from sam2kit.transformers_layout import to_transformers_names
from sam2kit.weight_files import (
    METADATA_KEY,
    PICTURE_PARTS,
    about_model,
    plain_state_of,
    write_json,
    write_safetensors,
)

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


def save_official(model: SAM2, path: str | os.PathLike[str]) -> Path:
    """Write the file that the official code loads: a pickle with the weights under "model".

    The official code takes sizes and side from its own configuration, so give it the one of the same size.

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
    with written_whole(path) as unfinished:
        torch.save({"model": plain_state_of(model), METADATA_KEY: json.dumps(about_model(model))}, unfinished)
    return path


def save_transformers(model: SAM2, folder: str | os.PathLike[str]) -> Path:
    """Write a folder for `transformers.Sam2VideoModel.from_pretrained` and `Sam2Model.from_pretrained`.

    A model that only knows pictures is for `Sam2Model` alone, and so is nano: transformers knows no memories of
    other than 64 channels. The file holds all that the model has, all the same.

    Raises:
        ValueError: if `folder` is a file, the model has LoRA layers, or its weights were rounded when it was loaded.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(f"transformers opens folders, and {folder} is a file; give the name of a folder")
    state = plain_state_of(model)
    if not model.memory_is_trained:
        state = {key: value for key, value in state.items() if key.startswith(PICTURE_PARTS)}
    write_safetensors(to_transformers_names(state), folder / TRANSFORMERS_FILE, about_model(model))
    write_json(_transformers_config(model), folder / "config.json")
    for name, kind in (("preprocessor", "image"), ("video_preprocessor", "video")):
        write_json(_preprocessor(model.config.side, kind), folder / f"{name}_config.json")
    return folder


def _transformers_config(model: SAM2) -> dict[str, Any]:
    config, dim = model.config, model.config.hidden_dim
    both = {
        "dtype": str(model.weight_dtype).removeprefix("torch."),
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
    if not model.memory_is_trained or config.memory.dim != _THEIR_MEMORY_DIM:
        return {"architectures": ["Sam2Model"], "model_type": "sam2", **both}
    return {"architectures": ["Sam2VideoModel"], "model_type": "sam2_video", **both, **_memory(config)}


def _vision(config: SAM2Config) -> dict[str, Any]:
    trunk, side = config.trunk, config.side
    dims = [trunk.embed_dim << stage for stage in range(4)]
    return {
        "model_type": "sam2_vision_model",
        "fpn_hidden_size": config.hidden_dim,
        "backbone_channel_list": dims[::-1],
        "backbone_feature_sizes": [[side // stride] * 2 for stride in (4, 8, 16)],
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "image_size": [side, side],
            "hidden_size": trunk.embed_dim,
            "num_attention_heads": trunk.heads,
            "blocks_per_stage": list(trunk.blocks_per_stage),
            "embed_dim_per_stage": dims,
            "num_attention_heads_per_stage": [trunk.heads << stage for stage in range(4)],
            "window_size_per_stage": list(trunk.window_per_stage),
            "global_attention_blocks": list(trunk.global_blocks),
            "window_positional_embedding_background_size": [trunk.position_grid] * 2,
        },
    }


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


def _preprocessor(side: int, kind: str) -> dict[str, Any]:
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
    mask_side = side // 4
    return {
        "image_processor_type": "Sam2ImageProcessorFast",  # as in the published repos; every version knows it
        "mask_size": {"height": mask_side, "width": mask_side},
        **shared,
    }
