"""The names that Hugging Face transformers gives to SAM 2's weights, turned into the official ones.

Covers `Sam2VideoModel` and its image-only subset `Sam2Model`. No tensor is transposed or split; the point
embeddings are one table there and four here, and the Fourier matrix appears twice there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_FOURIER = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_POINTS = "prompt_encoder.point_embed.weight"

# applied in this order, each wherever it matches
_RENAMES: tuple[tuple[str, str], ...] = (
    # trunk and neck
    (r"^vision_encoder\.backbone\.patch_embed\.projection\.", "image_encoder.trunk.patch_embed.proj."),
    (r"^vision_encoder\.backbone\.(.*)\.mlp\.proj_in\.", r"image_encoder.trunk.\1.mlp.layers.0."),
    (r"^vision_encoder\.backbone\.(.*)\.mlp\.proj_out\.", r"image_encoder.trunk.\1.mlp.layers.1."),
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv."),
    # prompt encoder
    (r"^(prompt_encoder\.shared_embedding|shared_image_embedding)\.positional_embedding$", _FOURIER),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "sam_prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "sam_prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "sam_prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "sam_prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "sam_prompt_encoder.mask_downscaling.6."),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    # mask decoder
    (r"^mask_decoder\.upscale_conv1\.", "sam_mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "sam_mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "sam_mask_decoder.output_upscaling.3."),
    (r"^mask_decoder\.transformer\.(.*)\.mlp\.proj_in\.", r"sam_mask_decoder.transformer.\1.mlp.layers.0."),
    (r"^mask_decoder\.transformer\.(.*)\.mlp\.proj_out\.", r"sam_mask_decoder.transformer.\1.mlp.layers.1."),
    (r"^mask_decoder\.transformer\.layer_norm_final_attn\.", "sam_mask_decoder.transformer.norm_final_attn."),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    # memory
    (r"^memory_encoder\.mask_downsampler\.layers\.0\.conv\.", "memory_encoder.mask_downsampler.encoder.0."),
    (r"^memory_encoder\.mask_downsampler\.layers\.1\.conv\.", "memory_encoder.mask_downsampler.encoder.3."),
    (r"^memory_encoder\.mask_downsampler\.layers\.2\.conv\.", "memory_encoder.mask_downsampler.encoder.6."),
    (r"^memory_encoder\.mask_downsampler\.layers\.3\.conv\.", "memory_encoder.mask_downsampler.encoder.9."),
    (r"^memory_encoder\.mask_downsampler\.layers\.0\.layer_norm\.", "memory_encoder.mask_downsampler.encoder.1."),
    (r"^memory_encoder\.mask_downsampler\.layers\.1\.layer_norm\.", "memory_encoder.mask_downsampler.encoder.4."),
    (r"^memory_encoder\.mask_downsampler\.layers\.2\.layer_norm\.", "memory_encoder.mask_downsampler.encoder.7."),
    (r"^memory_encoder\.mask_downsampler\.layers\.3\.layer_norm\.", "memory_encoder.mask_downsampler.encoder.10."),
    (r"^memory_encoder\.mask_downsampler\.final_conv\.", "memory_encoder.mask_downsampler.encoder.12."),
    (r"^memory_encoder\.feature_projection\.", "memory_encoder.pix_feat_proj."),
    (r"^memory_encoder\.projection\.", "memory_encoder.out_proj."),
    (r"^memory_encoder\.memory_fuser\.", "memory_encoder.fuser."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"^(memory_encoder\.fuser\.layers\.\d+)\.layer_norm\.", r"\1.norm."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"^(memory_encoder\.fuser\.layers\.\d+)\.scale$", r"\1.gamma"),
    (r"^memory_attention\.layer_norm\.", "memory_attention.norm."),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
    # three-layer MLPs: their middle layer is "layers.0" there
    (r"^(.*(?:hypernetworks_mlps\.\d|_head|obj_ptr_proj))\.layers\.0\.", r"\1.layers.1."),
    (r"^(.*(?:hypernetworks_mlps\.\d|_head|obj_ptr_proj))\.proj_in\.", r"\1.layers.0."),
    (r"^(.*(?:hypernetworks_mlps\.\d|_head|obj_ptr_proj))\.proj_out\.", r"\1.layers.2."),
    # common
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.o_proj\.", ".out_proj."),
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
                renamed[f"sam_prompt_encoder.point_embeddings.{i}.weight"] = row[None]
        else:
            renamed[official_name(key)] = value
    return renamed


def official_name(key: str) -> str:
    """The official name of one weight."""
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key
