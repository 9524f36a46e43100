"""SAM 2 as the paper's figure: the boxes, and the verbs that connect them.

    encode_image   pixels -> features of three strides                     (once per picture or frame)
    recall         features + memories -> image embedding                  (frames of a video)
    segment        image embedding + prompts -> candidate masks            (milliseconds per prompt)
    remember       features + mask -> memory                               (frames of a video)

A picture is a video of one frame: it has nothing to remember, so a learned "no memory" vector stands in
for the memories (`without_memory`). In a video, `answer` wraps `segment`: one mask per object, nothing at all
where the object is absent, and an object pointer. The module holds parameters and constant buffers only; what
belongs to one picture or video lives in the predictors' data, and memory_bank.py chooses what is recalled.

Parameter names are those of the published checkpoints, so that they load without a table of renames.

Source: SAM 2: Segment Anything in Images and Videos, arXiv:2408.00714 (ICLR 2025), figure 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

from sam2kit.config import SAM2Config
from sam2kit.hardware import fit_threads
from sam2kit.model.attention import exact_convolutions, quick_products
from sam2kit.model.detection_head import DetectionHead
from sam2kit.model.image_encoder import ImageEncoder
from sam2kit.model.layers import MLP, resize_smoothly, within_range
from sam2kit.model.mask_decoder import Candidates, MaskDecoder, choose_candidates
from sam2kit.model.memory_attention import MemoryAttention
from sam2kit.model.memory_bank import Memories
from sam2kit.model.memory_encoder import MemoryEncoder
from sam2kit.model.positions import rotary_table, sine_map, sine_of_time
from sam2kit.model.prompt_encoder import NOT_A_POINT, PromptEncoder
from sam2kit.model.spatial_perceiver import SpatialPerceiver, latent_places, latent_rotary

ABSENT_LOGIT = -1024.0  # mask logit everywhere on a frame where the object is not
_PROMPTS = 2  # that are decoded at once on a CPU
_CERTAIN = 10.0  # logit of a mask that a person gave, and the largest value that the memory encoder sees


@dataclass(frozen=True)
class ImageFeatures:
    """What the image encoder knows of B pictures."""

    stride16: Tensor  # [B, dim, S/16, S/16] raw features, not yet told about memory
    stride8: Tensor | None = None  # [B, dim/4, S/8, S/8] for the mask decoder, if it takes detail
    stride4: Tensor | None = None  # [B, dim/8, S/4, S/4] for the mask decoder, if it takes detail

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """Those that there are."""
        return tuple(t for t in (self.stride16, self.stride8, self.stride4) if t is not None)

    @property
    def detail(self) -> tuple[Tensor, Tensor] | None:
        """Strides 4 and 8."""
        return None if self.stride4 is None or self.stride8 is None else (self.stride4, self.stride8)

    def __getitem__(self, index: slice | Tensor) -> ImageFeatures:
        """Some of the pictures, in the given order."""
        return ImageFeatures(*(t[index] for t in self.maps))

    def clone(self) -> ImageFeatures:
        """The same in memory of its own."""
        return ImageFeatures(*(t.clone() for t in self.maps))

    def to(self, device_or_dtype: torch.device | torch.dtype | str) -> ImageFeatures:
        """The same on another device, or in another dtype."""
        return ImageFeatures(*(t.to(device_or_dtype) for t in self.maps))


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

    def __getitem__(self, some: slice) -> PromptTensors:
        """Some of the prompts."""
        return PromptTensors(*(None if t is None else t[some] for t in vars(self).values()))

    @classmethod
    def nothing_asked(cls, batch: int, device: torch.device, mask_logits: Tensor | None = None) -> PromptTensors:
        """What a frame of a video gets that nobody clicked on: one explicit "not a point"."""
        points = torch.zeros(batch, 1, 2, device=device)
        return cls(points, torch.full((batch, 1), NOT_A_POINT, device=device), mask_logits)


@dataclass(frozen=True)
class FrameAnswer:
    """One mask for each of B objects on a frame of a video."""

    mask_logits: Tensor  # [B, 1, h, w] float32 low-res mask logits; ABSENT_LOGIT all over where the object is absent
    predicted_iou: Tensor  # [B] float32 in 0..1
    object_score: Tensor  # [B] float32 logit; > 0 means that the object is in the picture
    pointer: Tensor  # [B, dim] float32 object pointer: what later frames recall of the object itself
    candidates: Candidates | None = None  # among which the model chose, as decoded


class SAM2(nn.Module):
    """The whole network, memory included.

    Args:
        config: sizes and version, see `sam2kit.config.preset`.
        drop_path: stochastic depth of the trunk in training; the published models used 0.1 to 0.3.

    `compute_dtype` is the precision that `precision()` runs the network in: float32 (the weights' own),
    bfloat16 or float16; None leaves it to the caller's autocast. `memory_is_trained` is False for weights that
    only know pictures. `seen` recognises the samples that a fine-tuning used (content_keys of datasets/fingerprint.py):
    under "training" those that it was trained on, under "validation" those on which its best epoch was chosen.
    """

    def __init__(self, config: SAM2Config, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype: torch.dtype | None = torch.float32
        self.memory_is_trained = True
        self.seen: dict[str, frozenset[str]] = {}
        dim, memory = config.hidden_dim, config.memory
        self.image_encoder = ImageEncoder(config.trunk, dim, drop_path=drop_path)
        self.sam_prompt_encoder = PromptEncoder(dim)
        self.sam_mask_decoder = MaskDecoder(config.decoder, dim)
        self.memory_attention = MemoryAttention(memory, dim)
        self.memory_encoder = MemoryEncoder(memory, dim)
        if memory.latents_edge:
            self.spatial_perceiver = SpatialPerceiver(memory)
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
        if config.classes:
            self.set_classes(config.classes)

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Take a new detection head, untrained, for these classes; none for none."""
        self.config = replace(self.config, classes=classes)
        if classes:
            takes_detail = self.config.decoder.takes_detail
            head = DetectionHead(self.config.hidden_dim, len(classes), takes_detail=takes_detail)
            self.detection_head = head.to(self.device, self.weight_dtype)
        elif hasattr(self, "detection_head"):
            del self.detection_head

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.no_mem_embed.device

    @property
    def weight_dtype(self) -> torch.dtype:
        """dtype of the weights."""
        return self.no_mem_embed.dtype

    def cast_weights(self, dtype: torch.dtype) -> SAM2:
        """Keep the weights in half precision, and compute in it; returns itself.

        They take half the memory and need no casts, but what flows between the layers is rounded, too: masks differ
        a little more from float32's than with weights of float32. Such a model cannot be trained, and is not saved
        unless its dtype is named. `load_model` does this on CUDA GPUs.
        """
        self.to(dtype)
        self.compute_dtype = dtype
        return self

    @contextmanager
    def precision(self, *, keep_casts: bool = True) -> Iterator[None]:
        """Autocast to `compute_dtype`, whatever the calling thread had switched on before; on a CPU, fit its threads.

        Args:
            keep_casts: cast each weight once, and free it at the end; False where a CUDA graph is recorded.
        """
        kind = self.device.type
        if kind == "cpu":
            fit_threads()
        if self.compute_dtype is None:
            yield
            return
        lower = self.compute_dtype != torch.float32 and self.weight_dtype == torch.float32
        float32: AbstractContextManager[None] = nullcontext()  # what it is to mean
        if kind == "cpu" and not lower:
            float32 = quick_products()
        if kind == "cuda" and self.compute_dtype == torch.float32:
            float32 = exact_convolutions()
        dtype = self.compute_dtype if lower else None
        with torch.autocast(kind, dtype=dtype, enabled=lower, cache_enabled=keep_casts), float32:
            yield

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """Run the image encoder, the expensive part of the model.

        Args:
            pixels: [B, 3, S, S] RGB, normalised with ImageNet's mean and deviation; S a multiple of 32.
        """
        *detail, stride16 = self.image_encoder(pixels.to(self.weight_dtype))
        if not self.config.decoder.takes_detail:
            return ImageFeatures(stride16)
        fine, coarse = self.sam_mask_decoder.project_detail(*detail)
        return ImageFeatures(stride16=stride16, stride8=coarse, stride4=fine)

    def detect(self, features: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Depth and boxes of the classes' things in B pictures, see `DetectionHead`; only models with classes can."""
        return self.detection_head(features.stride16, features.stride8)

    def without_memory(self, stride16: Tensor) -> Tensor:
        """[B, dim, h, w] raw features -> the image embedding of a frame that remembers nothing."""
        return within_range(stride16 + self.no_mem_embed.to(stride16.dtype).permute(0, 2, 1)[..., None])

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
        dense = encoder.no_mask(side) if prompts.mask_logits is None else encoder.mask(prompts.mask_logits, side)
        return self.sam_mask_decoder(image, encoder.pe_layer.grid(side), features.detail, sparse, dense)

    def segment(self, image: Tensor, features: ImageFeatures, prompts: PromptTensors, *, multimask: bool) -> Candidates:
        """Decode prompts and choose what to answer; arguments as `decode`.

        Args:
            multimask: three candidates for an ambiguous prompt, else one.
        Returns:
            Candidates with M = 3 or 1 in float32.
        """
        replace_unstable = self.config.decoder.replaces_unstable_masks and not self.training
        chosen = []
        for some in self._pieces(max(len(prompts), len(image)), _PROMPTS):
            detail = features if len(features.stride16) == 1 else features[some]
            all_four = self.decode(_of(image, some), detail, _of(prompts, some)).float()
            chosen.append(choose_candidates(all_four, multimask=multimask, replace_unstable=replace_unstable))
        return chosen[0] if len(chosen) == 1 else Candidates.joined(chosen)

    def _pieces(self, batch: int, at_once: int) -> Iterator[slice]:
        """A batch in pieces whose maps stay near the processor; all of it at once on a GPU, and in training."""
        at_once = at_once if self.device.type == "cpu" and not torch.is_grad_enabled() else max(batch, 1)
        return (slice(start, start + at_once) for start in range(0, batch, at_once))

    def answer(
        self,
        image: Tensor,
        features: ImageFeatures,
        prompts: PromptTensors | None = None,
        *,
        present: Tensor | None = None,
        multimask: bool | None = None,
        blanks_absent: bool = True,
    ) -> FrameAnswer:
        """Segment B objects on a frame of a video.

        Args:
            image: [B, dim, h, w] image embedding of each object, from `recall` or `without_memory`.
            features: of the frame, batched like `image`, or of one frame that serves all objects.
            prompts: B prompts with the same number of points; None on a frame that is only tracked.
            present: [B] bool, whether each object is in the picture, where that is known; else its score decides.
            multimask: choose among three candidates; None does where there is one click at most.
            blanks_absent: answer ABSENT_LOGIT all over where an object is absent.
        """
        clicks = 0 if prompts is None or prompts.points_xy is None else prompts.points_xy.shape[1]
        if prompts is None or not clicks:
            mask = None if prompts is None else prompts.mask_logits
            prompts = PromptTensors.nothing_asked(len(image), image.device, mask)
        multimask = clicks <= 1 if multimask is None else multimask
        candidates = self.segment(image, features, prompts, multimask=multimask)
        best = candidates.predicted_iou.argmax(dim=1)
        rows = torch.arange(len(best), device=best.device)
        score = candidates.object_score[:, 0]
        present = score > 0 if present is None else present
        logits = candidates.mask_logits[rows, best][:, None]
        return FrameAnswer(
            mask_logits=torch.where(present[:, None, None, None], logits, ABSENT_LOGIT) if blanks_absent else logits,
            predicted_iou=candidates.predicted_iou[rows, best],
            object_score=score,
            pointer=self.pointer(candidates.mask_tokens[rows, best], present),
            candidates=candidates,
        )

    def answer_mask(self, features: ImageFeatures, masks: Tensor) -> FrameAnswer:
        """Take masks that a person gave as the answer; the decoder only makes their pointers.

        Args:
            features: of the frame, batched like `masks`, or of one frame that serves all objects.
            masks: [B, 1, S, S] float, 0 or 1, at the model's side.
        """
        certain = 2 * _CERTAIN * masks.float() - _CERTAIN
        low_res = resize_smoothly(certain, (masks.shape[-2] // 4, masks.shape[-1] // 4))
        hint = self.mask_downsample(masks.to(self.weight_dtype))
        prompts = PromptTensors.nothing_asked(len(masks), masks.device, hint)
        decoded = self.segment(features.stride16, features, prompts, multimask=False)
        given = masks.flatten(1).amax(dim=1) > 0
        seen = self.pointer(decoded.mask_tokens[:, 0], decoded.object_score[:, 0] > 0)
        return FrameAnswer(
            mask_logits=low_res,
            predicted_iou=torch.ones(len(masks), device=masks.device),
            object_score=torch.where(given, _CERTAIN, -_CERTAIN),
            pointer=torch.where(given[:, None], seen, self.no_obj_ptr.float()),
        )

    def pointer(self, mask_tokens: Tensor, present: Tensor) -> Tensor:
        """[B, dim] mask tokens -> [B, dim] float32 object pointers; a learned one where the object is absent."""
        pointers = self.obj_ptr_proj(mask_tokens.to(self.weight_dtype)).float()
        return torch.where(present[:, None], pointers, self.no_obj_ptr.float())

    def remember(self, stride16: Tensor, mask_logits: Tensor, present: Tensor, *, binary: bool) -> Tensor:
        """Make the memory that a frame leaves of B objects.

        Args:
            stride16: [B or 1, dim, h, w] raw features of the frame.
            mask_logits: [B, 1, 4h, 4w] low-res mask logits.
            present: [B] bool, whether each object is in the picture.
            binary: remember a hard mask (frames that a person prompted), else a soft one.
        Returns:
            [B, memory dim, h, w], or a smaller map, see `SAM2Config.memory_shape`.
        """
        pieces = self._pieces(len(mask_logits), 1)
        made = [self._memory(_of(stride16, i), mask_logits[i], present[i], binary=binary) for i in pieces]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _memory(self, stride16: Tensor, mask_logits: Tensor, present: Tensor, *, binary: bool) -> Tensor:
        side = [16 * n for n in stride16.shape[-2:]]
        logits = F.interpolate(mask_logits.float(), size=side, mode="bilinear", align_corners=False)
        mask = (logits > 0).float() if binary else logits.sigmoid()
        mask = (2 * _CERTAIN * mask - _CERTAIN).to(stride16.dtype)
        memory = self.memory_encoder(stride16, mask)
        if self.config.memory.marks_absent_objects:
            marked = within_range(memory + self.no_obj_embed_spatial.to(memory.dtype)[..., None, None])
            memory = torch.where(present[:, None, None, None], memory, marked)
        return self.spatial_perceiver(memory) if self.config.memory.latents_edge else memory

    def recall(self, stride16: Tensor, memories: Memories) -> Tensor:
        """Condition a frame's features on memories of B objects.

        Args:
            stride16: [B or 1, dim, h, w] raw features of the frame.
            memories: of the objects.
        Returns:
            [B, dim, h, w] image embedding.
        """
        batch, _, channels, height, width = memories.maps.shape
        dtype = stride16.dtype
        places, rotary = self._places(height, width)
        seen = memories.maps.to(dtype).flatten(3).transpose(2, 3).flatten(1, 2)  # [B, M, C, h, w] -> [B, M*h*w, C]
        seen_at = (places + self.maskmem_tpos_enc[memories.slots, 0]).flatten(0, 1)
        known_as = memories.pointers.to(dtype).reshape(batch, -1, channels)  # each in several pieces
        known_at = self._pointer_positions(memories.distances)
        map_keys, kept, embeddings = None, memories.keys, self.maskmem_tpos_enc
        if kept is not None:
            map_keys = self.memory_attention.map_keys(kept, memories.slots, embeddings, rotary)
        return self.memory_attention(
            stride16,
            torch.cat([seen, known_as], dim=1),
            torch.cat([seen_at, known_at]).to(dtype)[None],
            map_rotary=rotary,
            pointer_tokens=known_as.shape[1],
            map_keys=map_keys,
        )

    def keys_of(self, memory: Tensor) -> Tensor:
        """What memory attention makes of a memory's places on every frame that recalls it; kept, it is made once.

        Args:
            memory: [B, memory dim, h, w], from `remember`.
        Returns:
            [B, layers, h * w, dim].
        """
        places, rotary = self._places(*memory.shape[2:])
        placed = memory.to(self.weight_dtype).flatten(2).transpose(1, 2) + places.to(self.weight_dtype)
        return self.memory_attention.keys_of(placed, rotary)

    def _places(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """What tells a memory's tokens apart: their positions [h*w, C], and the turns of their keys [h*w, dim/2, 2]."""
        channels, dim, device = self.config.memory.dim, self.config.hidden_dim, self.device
        if self.config.memory.latents_edge:
            return latent_places(width, channels, device=device), latent_rotary(width, dim, device=device)
        places = sine_map(height, width, channels, device=device).flatten(1).T
        return places, rotary_table(height, width, dim, device=device)

    def _pointer_positions(self, distances: Tensor) -> Tensor:
        """[P * dim / memory dim, memory dim]: the pieces of one pointer share their position."""
        pieces = self.config.hidden_dim // self.config.memory.dim
        if not self.config.memory.dates_object_pointers:
            return self.maskmem_tpos_enc.new_zeros(len(distances) * pieces, self.config.memory.dim)
        encoded = self.obj_ptr_tpos_proj(sine_of_time(distances, self.config.hidden_dim).to(self.weight_dtype))
        return encoded.repeat_interleave(pieces, dim=0)


def _learned(*shape: int) -> nn.Parameter:
    return nn.Parameter(trunc_normal_(torch.empty(shape), std=0.02))


def _of(whole: Tensor | PromptTensors, some: slice) -> Any:
    """Some of a batch; what is there once serves all."""
    return whole if len(whole) == 1 else whole[some]
