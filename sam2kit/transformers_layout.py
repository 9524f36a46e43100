"""The names that Hugging Face transformers gives to SAM 2's weights, and the official ones: one table, read both ways.

Covers `Sam2VideoModel` and its image-only subset `Sam2Model`. No tensor is transposed or split; the point
embeddings are one table there and four here, and the Fourier matrix appears twice there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

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
    (_TRUNK + "patch_embed.projection.*", _TRUNK + "patch_embed.proj.*"),
    (_TRUNK + "*.mlp.proj_in.*", _TRUNK + "*.mlp.layers.0.*"),
    (_TRUNK + "*.mlp.proj_out.*", _TRUNK + "*.mlp.layers.1.*"),
    ("vision_encoder.neck.convs.#.*", "image_encoder.neck.convs.#.conv.*"),
    # prompt encoder
    ("prompt_encoder.*", _PROMPTS + "*"),
    (_PROMPTS + "shared_embedding.positional_embedding", _FOURIER_COPY),
    (_FOURIER_COPY, _PROMPTS + "pe_layer.positional_encoding_gaussian_matrix"),
    (_PROMPTS + "mask_embed.conv1.*", _PROMPTS + "mask_downscaling.0.*"),
    (_PROMPTS + "mask_embed.layer_norm1.*", _PROMPTS + "mask_downscaling.1.*"),
    (_PROMPTS + "mask_embed.conv2.*", _PROMPTS + "mask_downscaling.3.*"),
    (_PROMPTS + "mask_embed.layer_norm2.*", _PROMPTS + "mask_downscaling.4.*"),
    (_PROMPTS + "mask_embed.conv3.*", _PROMPTS + "mask_downscaling.6.*"),
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


def is_transformers_layout(state: Mapping[str, Tensor]) -> bool:
    """True if the weights carry transformers' names."""
    return any(key.startswith("vision_encoder.") for key in state)


def to_official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename all weights; names that are not known pass unchanged, for the strict check to find."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key == _POINTS:
            for i, row in enumerate(value):
                renamed[f"{_OUR_POINTS}{i}.weight"] = row[None]
        else:
            renamed[official_name(key)] = value
    return renamed


def to_transformers_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_official_names`, for a state that has all four point embeddings."""
    points = [key for key in sorted(state) if key.startswith(_OUR_POINTS)]
    renamed = {transformers_name(key): value for key, value in state.items() if key not in points}
    renamed[_POINTS] = torch.cat([state[key] for key in points])
    renamed[_FOURIER_COPY] = renamed[_FOURIER].clone()
    return renamed


def official_name(key: str) -> str:
    """The official name of one weight."""
    for theirs, ours in _PAIRS:
        key = _renamed(key, theirs, ours)
    return key


def transformers_name(key: str) -> str:
    """The name in transformers of one weight; of the two for the Fourier matrix, that in the prompt encoder."""
    for theirs, ours in reversed(_PAIRS):
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
