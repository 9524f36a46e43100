"""The mask decoder and the memory attention, watched while they answer: small results for figures and for thinking.

Above inside.py, which records modules; beside the predictors, which stay as they are.

    look_at_decoder   one prompt on one picture: tokens, their attention, what the masks are multiplied from
    look_back         one object on one frame of a tracked video: which memories it recalls, and what it sees in them
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sam2kit.model.mask_decoder import CANDIDATES, Candidates
from sam2kit.model.memory_bank import Recollection, choose_memories
from sam2kit.model.sam2 import SAM2, FrameAnswer
from sam2kit.predict.image import ImageEmbedding, ImagePredictor
from sam2kit.predict.inside import Call, attention_weights, recorded
from sam2kit.predict.pace import Pace
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session import Step, VideoSession
from sam2kit.predict.tracker import Tracker
from sam2kit.predict.video import VideoPredictor

_LABELS = {-1: "not a point", 0: "click: not this", 1: "click: this", 2: "box, top left", 3: "box, bottom right"}
_DECODER, _LAYERS = "sam_mask_decoder", "sam_mask_decoder.transformer.layers.*"
_FINAL = "sam_mask_decoder.transformer.final_attn_token_to_image"
_LOOKS = "memory_attention.layers.*.cross_attn_image"


@dataclass(frozen=True, eq=False)
class DecoderLook:
    """How the mask decoder came to its answer to one prompt. N tokens, M = 4 candidates; all float32 on the CPU."""

    token_names: tuple[str, ...]  # N
    looking: Tensor  # [layers + 1, N, h, w] where each token looks, mean of the heads; every map sums to 1
    listening: Tensor  # [layers, N, h, w] which token each place listens to; sums to 1 over the tokens
    upscaled: Tensor  # [dim/8, 4h, 4w] features at stride 4
    weights: Tensor  # [M, dim/8] that the hypernetworks made; times `upscaled`, they are the mask logits
    candidates: Candidates  # B = 1


def look_at_decoder(predictor: ImagePredictor, embedding: ImageEmbedding, prompt: Prompt) -> DecoderLook:
    """Answer one prompt, and watch the mask decoder.

    Args:
        embedding: of the picture, from `predictor.encode`.
        prompt: a single one.
    Raises:
        ValueError: if there are several prompts, or one lies outside the picture.
    """
    if len(prompt) != 1:
        raise ValueError(f"one prompt can be looked at at a time, got {len(prompt)}")
    model = predictor.model
    networks = f"{_DECODER}.output_hypernetworks_mlps.?"
    names = (f"{_LAYERS}.cross_attn_*", _FINAL, f"{_DECODER}.output_upscaling.4", networks, _DECODER)
    with recorded(model, *names) as calls:
        predictor.predict(embedding, prompt)
    side = embedding.image.shape[-1]
    tokens_look = [n for n in calls if n.endswith("token_to_image")]
    image_looks = [n for n in calls if n.endswith("image_to_token")]
    looking = torch.stack([_mean_weights(model, n, calls[n]) for n in tokens_look])  # [layers + 1, N, h * w]
    listening = torch.stack([_mean_weights(model, n, calls[n]).T for n in image_looks])
    made = [calls[f"{_DECODER}.output_hypernetworks_mlps.{i}"][0].output[0] for i in range(CANDIDATES)]
    return DecoderLook(
        _token_names(prompt, embedding, model),
        looking.unflatten(-1, (side, side)),
        listening.unflatten(-1, (side, side)),
        calls[f"{_DECODER}.output_upscaling.4"][0].output[0].float().cpu(),
        torch.stack(made).float().cpu(),
        Candidates(*(t.float().cpu() for t in vars(calls[_DECODER][0].output).values())),
    )


def _mean_weights(model: SAM2, name: str, calls: list[Call]) -> Tensor:
    """[L, S] weights of the only call, mean of the heads."""
    return attention_weights(model.get_submodule(name), calls[0])[0].mean(dim=0).cpu()


def _token_names(prompt: Prompt, embedding: ImageEmbedding, model: SAM2) -> tuple[str, ...]:
    labels = prompt.to_square(embedding.size_hw, model.config.side, model.device).labels
    asked = () if labels is None else tuple(_LABELS[label] for label in [*labels[0].tolist(), -1])
    return "object score", "predicted IoU", *(f"mask {i}" for i in range(CANDIDATES)), *asked


@dataclass(frozen=True, eq=False)
class RecallLook:
    """What a frame recalled of one object, and what some of its places saw there. K points, M maps, P pointers."""

    frame: int
    recalled: Recollection  # which frames lent maps and pointers, in the order of M and P
    maps: Tensor  # [K, layers, M, h, w] float32: share of a point's attention that each place of each memory gets
    pointers: Tensor  # [K, layers, P] float32: share of each pointer; together with the maps it sums to 1
    before: Tensor  # [dim, h, w] float32 image embedding of the frame when nothing is recalled
    after: Tensor  # [dim, h, w] float32 image embedding with what it recalled
    answer: FrameAnswer  # B = 1, with memory
    without_memory: FrameAnswer  # B = 1: what the decoder says about the frame when nobody asks and nothing is recalled

    @property
    def map_shares(self) -> Tensor:
        """[K, M] share of each point's attention that goes to each map, mean of the layers."""
        return self.maps.sum(dim=(-2, -1)).mean(dim=1)

    @property
    def pointer_shares(self) -> Tensor:
        """[K, P] share of each point's attention that goes to each pointer, mean of the layers."""
        return self.pointers.mean(dim=1)


def look_back(
    predictor: VideoPredictor,
    session: VideoSession,
    frame: int,
    object_id: Hashable,
    points_xy: Sequence[Sequence[float]],
) -> RecallLook:
    """Track one frame once more, and watch what it recalls; the session stays as it is.

    Args:
        session: a tracked video.
        frame: one that tracking has reached, without a prompt for this object.
        points_xy: [K, 2] places (x, y) whose looks are wanted, in pixels of the clip.
    Raises:
        KeyError, IndexError: if there is no such object or frame.
        ValueError: if the frame was prompted or not tracked, or a point lies outside the clip.
    """
    model, frame = predictor.model, session.checked_frame(frame)
    cells = model.config.embedding_side
    queries = [_cell(point, session.clip.size_hw, cells) for point in points_xy]
    recalled, reverse = _recalled(model, session, frame, object_id)
    alone = {object_id: session.track(object_id).without_memories()}
    again = replace(session, tracks=alone, plan=deque(), features=session.features.copy())
    with recorded(model, _LOOKS, "memory_attention") as calls:
        Tracker(model, predictor.lock, Pace(keys=False)).track(again, Step(frame, reverse, (object_id,)))
    looks = [attention_weights(model.get_submodule(n), calls[n][0], queries)[0, 0] for n in calls if "cross" in n]
    placed, pieces = len(recalled.maps) * cells * cells, model.config.hidden_dim // model.config.memory.dim
    maps, pointers = torch.stack(looks, dim=1).cpu().tensor_split([placed], dim=-1)
    features, after = again.features[frame], calls["memory_attention"][0].output
    with predictor.lock, torch.inference_mode(), model.precision():
        before = model.without_memory(features.stride16)
        answer, without = model.answer(after, features), model.answer(before, features)
    return RecallLook(
        frame,
        recalled,
        maps.unflatten(-1, (len(recalled.maps), cells, cells)),
        pointers.unflatten(-1, (len(recalled.pointers), pieces)).sum(dim=-1),
        before[0].float().cpu(),
        after[0].float().cpu(),
        _on_cpu(answer),
        _on_cpu(without),
    )


def _on_cpu(answer: FrameAnswer) -> FrameAnswer:
    return FrameAnswer(*(t.cpu() for t in vars(answer).values()))


def _recalled(model: SAM2, session: VideoSession, frame: int, object_id: Hashable) -> tuple[Recollection, bool]:
    """What a tracked frame recalls, and whether time ran backwards when it was tracked."""
    track = session.track(object_id)
    result = track.result(frame)
    if result is None or result.prompted:
        what = "was not tracked yet" if result is None else "was prompted, so it recalls nothing"
        raise ValueError(f"frame {frame} {what}; choose a frame that propagate() has answered")
    if not track.prompted:
        raise ValueError(f"object {object_id!r} has no prompt left, so nothing is recalled of it; prompt it again")
    reverse = track.directions[frame]
    recalled = choose_memories(
        frame,
        track.prompted,
        track.tracked,
        slots=model.config.memory.slots,
        pointer_frames=session.pointer_reach,
        reverse=reverse,
    )
    return recalled, reverse


def _cell(point_xy: Sequence[float], size_hw: tuple[int, int], cells: int) -> int:
    """Number of the cell of the image embedding that a pixel of the clip falls into."""
    (x, y), (height, width) = point_xy, size_hw
    if not (0 <= x <= width and 0 <= y <= height):
        raise ValueError(f"point ({x:g}, {y:g}) lies outside the {width}x{height} clip; give (x, y) in its pixels")
    return min(int(y / height * cells), cells - 1) * cells + min(int(x / width * cells), cells - 1)
