"""SAM 2 as the paper's figure: the boxes, and the verbs that connect them.

    encode_image   pixels -> features of three strides                     (once per picture or frame)
    segment        features + prompts -> candidate masks                   (milliseconds per prompt)

A picture is a video of one frame: it has nothing to remember, so a learned "no memory" vector stands in
for the memories (`without_memory`). The module holds parameters and constant buffers only; what belongs to
one picture lives in the predictors' data.

Parameter names are those of the published checkpoints, so that they load without a table of renames.

Source: SAM 2: Segment Anything in Images and Videos, arXiv:2408.00714 (ICLR 2025), figure 3.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

from sam2kit.config import SAM2Config
from sam2kit.model.image_encoder import ImageEncoder
from sam2kit.model.layers import MLP
from sam2kit.model.mask_decoder import Candidates, MaskDecoder, choose_candidates
from sam2kit.model.memory_attention import MemoryAttention
from sam2kit.model.memory_encoder import MemoryEncoder
from sam2kit.model.prompt_encoder import PromptEncoder


@dataclass(frozen=True)
class ImageFeatures:
    """What the image encoder knows of B pictures."""

    stride16: Tensor  # [B, dim, S/16, S/16] raw features, not yet told about memory
    stride8: Tensor  # [B, dim/4, S/8, S/8] for the mask decoder
    stride4: Tensor  # [B, dim/8, S/4, S/4] for the mask decoder

    def __getitem__(self, index: slice | Tensor) -> ImageFeatures:
        """Some of the pictures, in the given order."""
        return ImageFeatures(self.stride16[index], self.stride8[index], self.stride4[index])

    def to(self, device: torch.device | str) -> ImageFeatures:
        """The same on another device."""
        return ImageFeatures(*(t.to(device) for t in (self.stride16, self.stride8, self.stride4)))


@dataclass(frozen=True)
class PromptTensors:
    """B prompts in the model's square, ready for the prompt encoder.

    With neither points nor masks it asks for "the most salient thing".
    """

    points_xy: Tensor | None = None  # [B, N, 2] pixels of the square; a box is two points
    labels: Tensor | None = None  # [B, N] -1 none, 0 negative, 1 positive, 2 top left, 3 bottom right
    mask_logits: Tensor | None = None  # [B, 1, h, w] low-res logits of an earlier answer

    def __len__(self) -> int:
        given = [t for t in (self.points_xy, self.mask_logits) if t is not None]
        return len(given[0]) if given else 1


class SAM2(nn.Module):
    """The whole network, memory included.

    Args:
        config: sizes and version, see `sam2kit.config.preset`.
        drop_path: stochastic depth of the trunk in training; the published models used 0.1 to 0.3.

    `compute_dtype` is the precision that `precision()` runs the network in: float32 (the weights' own),
    bfloat16 or float16; None leaves it to the caller's autocast. `memory_is_trained` is False for weights that
    only know pictures.
    """

    def __init__(self, config: SAM2Config, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype: torch.dtype | None = torch.float32
        self.memory_is_trained = True
        dim, memory = config.hidden_dim, config.memory
        self.image_encoder = ImageEncoder(config.trunk, dim, drop_path=drop_path)
        self.sam_prompt_encoder = PromptEncoder(dim)
        self.sam_mask_decoder = MaskDecoder(config.decoder, dim)
        self.memory_attention = MemoryAttention(memory, dim)
        self.memory_encoder = MemoryEncoder(memory, dim)
        self.maskmem_tpos_enc = _learned(memory.slots, 1, 1, memory.dim)
        self.no_mem_embed = _learned(1, 1, dim)
        self.no_mem_pos_enc = _learned(1, 1, dim)  # in the published files, used by no published model
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.obj_ptr_proj = MLP(dim, dim, dim, layers=3)
        self.no_obj_ptr = _learned(1, dim)
        if memory.marks_absent_objects:
            self.no_obj_embed_spatial = _learned(1, memory.dim)
        if memory.dates_object_pointers:
            self.obj_ptr_tpos_proj = nn.Linear(dim, memory.dim)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.no_mem_embed.device

    @property
    def weight_dtype(self) -> torch.dtype:
        """dtype of the weights."""
        return self.no_mem_embed.dtype

    def precision(self) -> AbstractContextManager:
        """Autocast to `compute_dtype`, whatever the calling thread had switched on before."""
        if self.compute_dtype is None:
            return nullcontext()
        lower = self.compute_dtype != torch.float32 and self.weight_dtype == torch.float32
        return torch.autocast(self.device.type, dtype=self.compute_dtype if lower else None, enabled=lower)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """Run the image encoder, the expensive part of the model.

        Args:
            pixels: [B, 3, S, S] RGB, normalised with ImageNet's mean and deviation; S a multiple of 32.
        """
        stride4, stride8, stride16 = self.image_encoder(pixels.to(self.weight_dtype))
        fine, coarse = self.sam_mask_decoder.project_detail(stride4, stride8)
        return ImageFeatures(stride16=stride16, stride8=coarse, stride4=fine)

    def without_memory(self, stride16: Tensor) -> Tensor:
        """[B, dim, h, w] raw features -> the image embedding of a frame that remembers nothing."""
        return stride16 + self.no_mem_embed.to(stride16.dtype).permute(0, 2, 1)[..., None]

    def decode(self, image: Tensor, features: ImageFeatures, prompts: PromptTensors) -> Candidates:
        """Decode prompts into all four candidates, in the precision of the network.

        Args:
            image: [B or 1, dim, h, w] image embedding, from `without_memory` (or memory attention).
            features: of the same pictures; only strides 8 and 4 are read.
            prompts: B prompts; with one picture it serves them all.
        """
        encoder, side = self.sam_prompt_encoder, image.shape[-1]
        batch = max(len(prompts), len(image))
        if prompts.points_xy is None or prompts.labels is None:
            sparse = encoder.no_points(batch)
        else:
            sparse = encoder.points(prompts.points_xy, prompts.labels, side=16 * side)
        dense = encoder.no_mask(batch, side) if prompts.mask_logits is None else encoder.mask(prompts.mask_logits, side)
        return self.sam_mask_decoder(
            image, encoder.pe_layer.grid(side), (features.stride4, features.stride8), sparse, dense
        )

    def segment(self, image: Tensor, features: ImageFeatures, prompts: PromptTensors, *, multimask: bool) -> Candidates:
        """Decode prompts and choose what to answer; arguments as `decode`.

        Args:
            multimask: three candidates for an ambiguous prompt, else one.
        Returns:
            Candidates with M = 3 or 1 in float32.
        """
        all_four = self.decode(image, features, prompts).float()
        replace_unstable = self.config.decoder.replaces_unstable_masks and not self.training
        return choose_candidates(all_four, multimask=multimask, replace_unstable=replace_unstable)


def _learned(*shape: int) -> nn.Parameter:
    return nn.Parameter(trunc_normal_(torch.empty(shape), std=0.02))
