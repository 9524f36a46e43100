"""Attention maps of the mask decoder and of the memory attention, noted while they answer; for figures.

decoder_attention_maps   one prompt on one picture: the tokens, their attention, what the masks are multiplied from
memory_attention_maps    one object on one frame of a tracked clip: its selected memories, and the attention to them
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sam2kit.model.mask_decoder import CANDIDATES, Candidates
from sam2kit.model.memory_bank import SelectedMemories, choose_memories
from sam2kit.model.sam2 import SAM2, FrameAnswer
from sam2kit.notebook.activations import attention_weights, record_calls
from sam2kit.predict.image import ImageEmbedding, ImagePredictor
from sam2kit.predict.objects import Step, checked_id
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session import Session
from sam2kit.predict.tracker import Tracker
from sam2kit.predict.video import VideoPredictor

_LABELS = {-1: "not a point", 0: "click: not this", 1: "click: this", 2: "box, top left", 3: "box, bottom right"}
_DECODER, _LAYERS = "sam_mask_decoder", "sam_mask_decoder.transformer.layers.*"
_FINAL = "sam_mask_decoder.transformer.final_attn_token_to_image"
_CROSS_ATTENTION = "memory_attention.layers.*.cross_attn_image"


@dataclass(frozen=True, eq=False)
class DecoderAttentionMaps:
    """How the mask decoder came to its answer to one prompt. N tokens, M = 4 candidates; all float32 on the CPU."""

    token_names: tuple[str, ...]  # N
    token_to_image: Tensor  # [layers + 1, N, h, w] attention of each token, mean of the heads; every map sums to 1
    image_to_token: Tensor  # [layers, N, h, w] attention of each place; sums to 1 over the tokens
    upscaled: Tensor  # [dim/8, 4h, 4w] features at stride 4
    weights: Tensor  # [M, dim/8] that the hypernetworks made; times `upscaled`, they are the mask logits
    candidates: Candidates  # B = 1


def decoder_attention_maps(
    predictor: ImagePredictor, embedding: ImageEmbedding, prompt: Prompt
) -> DecoderAttentionMaps:
    """Answer one prompt, and note the attention in the mask decoder.

    Args:
        embedding: of the picture, from `predictor.encode`.
        prompt: a single one.
    Raises:
        ValueError: if there are several prompts, or one lies outside the picture.
    """
    if len(prompt) != 1:
        raise ValueError(f"one prompt has attention maps at a time, got {len(prompt)}")
    model = predictor.model
    hypernetworks = f"{_DECODER}.output_hypernetworks_mlps"
    names = (f"{_LAYERS}.cross_attn_*", _FINAL, f"{_DECODER}.output_upscaling.4", f"{hypernetworks}.?", _DECODER)
    with record_calls(model, *names) as calls:
        predictor.predict(embedding, prompt)
    side = embedding.image.shape[-1]

    def maps(ending: str) -> list[Tensor]:
        """[L, S] weights of each layer, mean of the heads."""
        found = [name for name in calls if name.endswith(ending)]
        weights = [attention_weights(model.get_submodule(n), calls[n][0])[0].mean(dim=0) for n in found]
        return [w.cpu() for w in weights]

    made = [calls[f"{hypernetworks}.{i}"][0].output[0] for i in range(CANDIDATES)]
    return DecoderAttentionMaps(
        _token_names(prompt, embedding, model),
        torch.stack(maps("token_to_image")).unflatten(-1, (side, side)),
        torch.stack([weights.T for weights in maps("image_to_token")]).unflatten(-1, (side, side)),
        calls[f"{_DECODER}.output_upscaling.4"][0].output[0].float().cpu(),
        torch.stack(made).float().cpu(),
        Candidates(*(t.float().cpu() for t in vars(calls[_DECODER][0].output).values())),
    )


def _token_names(prompt: Prompt, embedding: ImageEmbedding, model: SAM2) -> tuple[str, ...]:
    labels = prompt.to_square(embedding.size_hw, model.config.side, model.device).labels
    asked = () if labels is None else tuple(_LABELS[label] for label in [*labels[0].tolist(), -1])
    return "object score", "predicted IoU", *(f"mask {i}" for i in range(CANDIDATES)), *asked


@dataclass(frozen=True, eq=False)
class MemoryAttentionMaps:
    """The memories selected for a frame, and the attention of K points to them. M maps, P pointers."""

    frame: int
    selected: SelectedMemories  # the frames of the maps and pointers, in the order of M and P
    # [K, layers, M, h, w] float32: share of a point's attention that each place of each memory gets; of latents, see
    # `SAM2Config.memory_shape`
    maps: Tensor
    pointers: Tensor  # [K, layers, P] float32: share of each pointer; together with the maps it sums to 1
    before: Tensor  # [dim, h, w] float32 image embedding of the frame without memory
    after: Tensor  # [dim, h, w] float32 image embedding with the selected memories
    answer: FrameAnswer  # B = 1, with memory
    without_memory: FrameAnswer  # B = 1: the decoder's answer without prompt and memory

    @property
    def map_shares(self) -> Tensor:
        """[K, M] share of each point's attention that goes to each map, mean of the layers."""
        return self.maps.sum(dim=(-2, -1)).mean(dim=1)

    @property
    def pointer_shares(self) -> Tensor:
        """[K, P] share of each point's attention that goes to each pointer, mean of the layers."""
        return self.pointers.mean(dim=1)


def memory_attention_maps(
    predictor: VideoPredictor,
    session: Session,
    frame: int,
    object_id: Hashable,
    points_xy: Sequence[Sequence[float]],
) -> MemoryAttentionMaps:
    """Track one frame once more, and note its attention to memories; the session stays as it is.

    Args:
        session: a tracked video.
        frame: one that tracking has reached, without a prompt for this object.
        points_xy: [K, 2] places (x, y) whose attention is wanted, in pixels of the clip.
    Raises:
        KeyError, IndexError: if there is no such object or frame.
        ValueError: if the frame was prompted or not tracked, a point lies outside the clip, or memories are pooled.
    """
    if predictor.model.config.memory.pooled:
        raise ValueError("this model averages what it remembers over 2x2 places, which is not shown; take another one")
    model, frame = predictor.model, session.checked_frame(frame)
    cells = model.config.embedding_side
    queries = [_cell(point, session.clip.size_hw, cells) for point in points_xy]
    selected, reverse = _selected(model, session, frame, object_id)
    alone = {checked_id(object_id): session.object(object_id).without_memories()}
    again = replace(session, objects=alone, plan=deque(), features=session.features.copy())
    with record_calls(model, _CROSS_ATTENTION, "memory_attention") as calls:
        Tracker(model, predictor.lock).track(again, Step(frame, reverse, (checked_id(object_id),)))
    weights = [attention_weights(model.get_submodule(n), calls[n][0], queries)[0, 0] for n in calls if "cross" in n]
    shape_hw = model.config.memory_shape[1:]
    placed, pieces = len(selected.maps) * shape_hw[0] * shape_hw[1], model.config.hidden_dim // model.config.memory.dim
    maps, pointers = torch.stack(weights, dim=1).cpu().tensor_split([placed], dim=-1)
    features, after = again.features[frame], calls["memory_attention"][0].output
    with predictor.lock, torch.inference_mode(), model.precision():
        before = model.without_memory(features.stride16)
        answer, without = model.answer(after, features), model.answer(before, features)
    return MemoryAttentionMaps(
        frame,
        selected,
        maps.unflatten(-1, (len(selected.maps), *shape_hw)),
        pointers.unflatten(-1, (len(selected.pointers), pieces)).sum(dim=-1),
        before[0].float().cpu(),
        after[0].float().cpu(),
        *map(_on_cpu, (answer, without)),
    )


def _on_cpu(answer: FrameAnswer) -> FrameAnswer:
    iou, score, pointer = answer.predicted_iou.cpu(), answer.object_score.cpu(), answer.pointer.cpu()
    return FrameAnswer(answer.mask_logits.cpu(), iou, score, pointer)


def _selected(model: SAM2, session: Session, frame: int, object_id: Hashable) -> tuple[SelectedMemories, bool]:
    """The memories selected for a tracked frame, and whether time ran backwards when it was tracked."""
    track = session.object(object_id)
    result = track.result(frame)
    if result is None or result.prompted:
        what = "was not tracked yet" if result is None else "was prompted, so it uses no memories"
        raise ValueError(f"frame {frame} {what}; choose a frame that propagate() has answered")
    if not track.prompted:
        raise ValueError(f"object {object_id!r} has no prompt left, so it has no memories; prompt it again")
    reverse = track.directions[frame]
    selected = choose_memories(
        frame,
        track.prompted,
        track.tracked,
        slots=model.config.memory.slots,
        pointer_frames=session.pointer_reach,
        reverse=reverse,
    )
    return selected, reverse


def _cell(point_xy: Sequence[float], size_hw: tuple[int, int], cells: int) -> int:
    """Number of the cell of the image embedding that a pixel of the clip falls into."""
    (x, y), (height, width) = point_xy, size_hw
    if not (0 <= x <= width and 0 <= y <= height):
        raise ValueError(f"point ({x:g}, {y:g}) lies outside the {width}x{height} clip; give (x, y) in its pixels")
    return min(int(y / height * cells), cells - 1) * cells + min(int(x / width * cells), cells - 1)
