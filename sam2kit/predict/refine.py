"""Finer edges for masks of large pictures: the boundary is looked at again, at the picture's own resolution.

    masks = refine_masks(predictor, "large photo.jpg", masks)

The model sees a picture squeezed into its square, and its masks are a quarter of that, so that in a photo of 4000
pixels one of theirs is fifteen wide. Here square tiles of the picture, as large as the model's own square, go along the
boundaries:

    boundary -> tiles, half over each other -> encoded once for all masks -> asked with the part of each mask in it:
    as mask prompt, its box and its most interior place; the answer twice again -> taken near the old boundary

Where tiles lie over each other, those count more that see further around. A tile whose answer is another thing than the
part that was asked for changes nothing; neither does anything far from the boundary, or in a picture that the model
sees as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import ceil

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2kit.media.drawing import edge_distances
from sam2kit.media.mask_files import RunLengths, mask_to_runs, runs_to_mask
from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.model.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, POSITIVE
from sam2kit.model.sam2 import PromptTensors
from sam2kit.predict.automatic import Box, Progress, Steps, run_steps
from sam2kit.predict.frame_masks import CompactLogits, FrameMasks, FrameResult
from sam2kit.predict.geometry import SURE_LOGIT, mask_to_logits, masks_to_image
from sam2kit.predict.image import ENCODED_AT_ONCE, ImageEmbedding, ImagePredictor
from sam2kit.predict.objects import ObjectId
from sam2kit.predict.prompts import FramePrompt
from sam2kit.predict.session import Session

_AT_A_TIME = 16  # prompts
_ROUNDS = 3  # answers of a tile, each of which is the next one's mask prompt
_PROMPT_LOGIT = 2.0  # of the mask prompt: a hint, as the mask is to be improved
_MIN_IOU = 0.5  # of a tile's answer with what was asked for
_REACH = 3.0  # how far an edge may move, in pixels of the first answer
_MOST_LOGIT = 8.0  # of one tile, where several are averaged


@dataclass
class _Part:
    """The part of a mask in a tile."""

    mask: int  # which
    tile: Box
    runs: RunLengths
    logits: Tensor | None = None  # [h, w] float16 low-res mask logits of the tile; None where they are of no use

    @property
    def pixels(self) -> np.ndarray:
        """bool [H, W]."""
        return runs_to_mask(self.runs)


def refine_masks(
    predictor: ImagePredictor, picture: PictureSource, masks: np.ndarray, *, progress: Progress | None = None
) -> np.ndarray:
    """Draw the edges of masks anew, at the size of the picture.

    Args:
        predictor: asks the model.
        picture: whatever `read_picture` takes.
        masks: bool [H, W] or [N, H, W] in it; all of one picture together take less time than one by one.
        progress: called with (steps done, steps in all); may raise to stop.
    Returns:
        the masks in the same shape; as they were if the picture is not larger than what the model sees.
    Raises:
        ValueError: if the masks are not of the picture's size.
    """
    image, given = read_picture(picture), np.asarray(masks)
    if given.dtype != bool or given.ndim not in (2, 3) or given.shape[-2:] != image.shape[:2]:
        height, width = image.shape[:2]
        raise ValueError(f"masks must be bool [N, {height}, {width}] as the picture, got {given.dtype} {given.shape}")
    runs = [mask_to_runs(mask) for mask in given.reshape(-1, *image.shape[:2])]
    finer = run_steps(refining_steps(predictor, image, runs), progress)
    return np.array([runs_to_mask(one) for one in finer], bool).reshape(given.shape)


def refining_steps(
    predictor: ImagePredictor, image: np.ndarray, masks: Sequence[RunLengths]
) -> Steps[list[RunLengths]]:
    """As `refine_masks`, step by step, of masks as run lengths, since hundreds may be asked for."""
    side = predictor.model.config.side
    if max(image.shape[:2]) <= side:
        return list(masks)
    by_tile: dict[Box, list[_Part]] = {}
    for number, runs in enumerate(masks):
        for part in _parts(number, runs_to_mask(runs), side):
            by_tile.setdefault(part.tile, []).append(part)
    together = ENCODED_AT_ONCE[predictor.model.device.type]
    tiles = sorted(by_tile)
    done, total = count(1), ceil(len(tiles) / together) + len(masks)
    for start in range(0, len(tiles), together):
        some = tiles[start : start + together]
        pictures = [np.ascontiguousarray(image[y0:y1, x0:x1]) for x0, y0, x1, y1 in some]
        for tile, embedding in zip(some, predictor.encode_batch(pictures), strict=True):
            _answer(predictor, embedding, by_tile[tile])
        yield next(done), total
    answered: list[list[_Part]] = [[] for _ in masks]
    for part in (part for parts in by_tile.values() for part in parts if part.logits is not None):
        answered[part.mask].append(part)
    reach = _REACH * max(image.shape[:2]) / predictor.model.config.low_res_side
    finer = []
    for runs, parts in zip(masks, answered, strict=True):
        finer.append(_taken(runs, parts, reach) if parts else runs)
        yield next(done), total
    return finer


def coarse_answers(session: Session) -> dict[ObjectId, FrameResult]:
    """The answers on a picture that can be refined, and have not been; none on a video."""
    found = {i: item.result(0) for i, item in session.objects.items()} if session.is_picture else {}
    return {i: one for i, one in found.items() if one is not None and not isinstance(one.logits, CompactLogits)}


def masks_to_refine(session: Session, answers: Mapping[ObjectId, FrameResult]) -> list[RunLengths]:
    """Their masks, cleaned, but neither grown nor without what others have; one by one, as they are large."""
    options = replace(session.options, grow=0.0, exclusive=False)
    alone = (FrameMasks(0, (i,), (one,), (1,), session.clip.size_hw, options) for i, one in answers.items())
    return [mask_to_runs(masks.masks[0]) for masks in alone]


def take_refined(
    session: Session, answers: Mapping[ObjectId, FrameResult], masks: Sequence[RunLengths]
) -> list[ObjectId]:
    """Let refined masks take the place of answers that are still there, one step for undo; of which objects they are.

    A later click goes on from such a mask, and its answer is as coarse as any.
    """
    finer = {i: runs for (i, one), runs in zip(answers.items(), masks, strict=True)
             if i in session.objects and session.objects[i].result(0) is one}  # fmt: skip
    if finer:
        session.remember()
    for object_id, runs in finer.items():
        item, mask = session.objects[object_id].without_memories(), runs_to_mask(runs)  # undo brings the old one back
        if answers[object_id].given is not None:  # by a brush, perhaps
            item.prompts[0] = FramePrompt(mask=mask)
            item.prompted[0] = replace(answers[object_id], prompt=item.prompts[0])
        else:
            item.prompted[0] = answers[object_id].refined(mask)
        session.objects[object_id] = item
    return list(finer)


def tiles_along(mask: np.ndarray, side: int) -> list[Box]:
    """Tiles of a grid, half over each other, in which each pixel at the edge of a mask is far from the tile's border.

    Args:
        mask: bool [H, W].
        side: of the tiles, in pixels; in a picture that is less high or wide, they are so, too.
    Returns:
        (x0, y0, x1, y1); a quarter of the side is between any edge pixel and the border of a tile, unless that is the
        picture's. None for a mask that is empty or everything.
    """
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    rows_columns = np.nonzero(mask & (inner == 0))
    starts = [_starts(length, side) for length in mask.shape]
    nearest = [
        np.searchsorted((places[1:] + places[:-1] + min(side, length)) / 2, pixels)
        for places, pixels, length in zip(starts, rows_columns, mask.shape, strict=True)
    ]
    height, width = (min(side, length) for length in mask.shape)
    corners = ((int(starts[1][x]), int(starts[0][y])) for y, x in np.unique(np.stack(nearest, axis=1), axis=0))
    return [(x0, y0, x0 + width, y0 + height) for x0, y0 in corners]


def _starts(length: int, side: int) -> np.ndarray:
    """int [K] where tiles begin, evenly, at most half a side from each other."""
    if length <= side:
        return np.zeros(1, int)
    return np.linspace(0, length - side, 1 + ceil((length - side) / (side / 2))).round().astype(int)


def _parts(number: int, mask: np.ndarray, side: int) -> Iterator[_Part]:
    for x0, y0, x1, y1 in tiles_along(mask, side):
        yield _Part(number, (x0, y0, x1, y1), mask_to_runs(mask[y0:y1, x0:x1]))


def _answer(predictor: ImagePredictor, embedding: ImageEmbedding, parts: Sequence[_Part]) -> None:
    """Ask a tile for the parts of masks in it."""
    for start in range(0, len(parts), _AT_A_TIME):
        some = parts[start : start + _AT_A_TIME]
        prompts = _prompts([part.pixels for part in some], predictor)
        asked = low_res = prompts.mask_logits
        assert asked is not None and low_res is not None, "each part is a mask prompt"
        for _ in range(_ROUNDS):
            answer = predictor.predict_square(embedding, replace(prompts, mask_logits=low_res), multimask=False)
            low_res = answer.low_res
        logits = predictor.options.cleaned(low_res) - predictor.options.threshold
        ours, theirs = logits.flatten(1) > 0, asked.flatten(1) > 0
        ious = (ours & theirs).sum(dim=1) / (ours | theirs).sum(dim=1).clamp(min=1)
        for part, of_part, iou in zip(some, logits[:, 0].half().cpu(), ious.tolist(), strict=True):
            part.logits = of_part if iou >= _MIN_IOU else None


def _prompts(parts: Sequence[np.ndarray], predictor: ImagePredictor) -> PromptTensors:
    """Parts of masks bool [H, W] of one tile as mask prompts, each with its box and a click at its most inner place."""
    config, device = predictor.model.config, predictor.model.device
    low_res = torch.stack([mask_to_logits(part, config.low_res_side) for part in parts]) * (_PROMPT_LOGIT / SURE_LOGIT)
    height, width = parts[0].shape
    to_square = torch.tensor([config.side / width, config.side / height])
    points = torch.tensor([_box_and_click(part) for part in parts], dtype=torch.float32) * to_square
    labels = torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT, POSITIVE]).expand(len(parts), -1)
    return PromptTensors(points.to(device), labels.to(device), low_res.to(device))


def _box_and_click(part: np.ndarray) -> list[tuple[int, int]]:
    x, y, width, height = cv2.boundingRect(part.astype(np.uint8))
    depth = cv2.distanceTransform(np.pad(part.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(np.argmax(depth), depth.shape)
    return [(x, y), (x + width - 1, y + height - 1), (int(column), int(row))]


def _taken(runs: RunLengths, parts: Sequence[_Part], reach: float) -> RunLengths:
    """A mask with the answers of its tiles, taken where the old boundary is not further than `reach` pixels."""
    mask = runs_to_mask(runs)
    size_hw, (x0, y0, x1, y1) = mask.shape, _around(mask, ceil(reach) + 1)
    logits, weights = np.zeros((2, y1 - y0, x1 - x0), np.float32)
    for part in parts:
        left, top, right, bottom = part.tile
        assert part.logits is not None, "tiles without an answer are left out"
        of_tile = masks_to_image(part.logits.float()[None, None], (bottom - top, right - left))[0, 0].numpy()
        weight = _weights(part.tile, size_hw)
        shared = max(left, x0), max(top, y0), min(right, x1), min(bottom, y1)
        here, there = _window(shared, left, top), _window(shared, x0, y0)
        logits[there] += weight[here] * of_tile[here].clip(-_MOST_LOGIT, _MOST_LOGIT)
        weights[there] += weight[here]
    old = mask[y0:y1, x0:x1]
    near = (np.maximum(*edge_distances(old)) <= reach) & (weights > 0)
    old[near] = logits[near] > 0
    return mask_to_runs(mask)


def _around(mask: np.ndarray, margin: int) -> Box:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return (
        max(x - margin, 0), max(y - margin, 0), min(x + width + margin, mask.shape[1]),
        min(y + height + margin, mask.shape[0]),
    )  # fmt: skip


def _window(box: Box, x: int, y: int) -> tuple[slice, slice]:
    """The pixels of a box in an array that begins at (x, y)."""
    return np.s_[box[1] - y : box[3] - y, box[0] - x : box[2] - x]


def _weights(tile: Box, size_hw: tuple[int, ...]) -> np.ndarray:
    """float32 [H, W] of a tile: how far it sees around a pixel, up to a quarter of it."""
    x0, y0, x1, y1 = tile
    across, down = (
        np.minimum(
            np.inf if first == 0 else np.arange(1, last - first + 1),
            np.inf if last == length else np.arange(last - first, 0, -1),
        ).clip(max=(last - first) / 4)
        * np.ones(last - first)
        for first, last, length in ((x0, x1, size_hw[1]), (y0, y1, size_hw[0]))
    )
    return np.minimum(down[:, None], across[None]).astype(np.float32)
