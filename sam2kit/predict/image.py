"""Ask for masks in pictures: encode a picture once, then prompt it as often as you like.

    predictor = ImagePredictor(load_model("sam2.1-hiera-tiny"))
    embedding = predictor.encode("photo.jpg")
    masks = predictor.predict(embedding, Prompt([[120, 80]]))

The predictor knows nothing of any picture: two people, or two threads, can share it. What belongs to one
picture is an ImageEmbedding, plain data that can move to the CPU, be pickled and come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sam2kit.media.drawing import grow_mask
from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.model.sam2 import SAM2, ImageFeatures, PromptTensors
from sam2kit.predict.geometry import mask_boxes, masks_to_image, picture_to_square_on
from sam2kit.predict.options import ImageOptions
from sam2kit.predict.prompts import Prompt

if TYPE_CHECKING:
    import supervision

ENCODED_AT_ONCE = {"cpu": 1, "mps": 2, "cuda": 8}  # how many pictures there, where many wait
FED_BACK_LIMIT = 32.0  # low-res logits of an answer are clamped to this before they become a mask prompt


@dataclass(frozen=True)
class ImageEmbedding:
    """What the model saw in one picture."""

    image: Tensor  # [1, dim, h, w] image embedding at stride 16
    features: ImageFeatures  # the same picture's finer maps
    size_hw: tuple[int, int]  # of the original picture, in pixels

    def to(self, device: torch.device | str) -> ImageEmbedding:
        """The same on another device."""
        return ImageEmbedding(self.image.to(device), self.features.to(device), self.size_hw)


@dataclass(frozen=True, eq=False)
class Masks:
    """The answer to B prompts with M candidates each.

    Kept at low resolution; `logits` and `masks` are made, at the size of the picture, each time they are asked for.
    """

    raw: Tensor  # [B, M, h, w] float32 low-res mask logits, as the decoder gave them
    predicted_iou: Tensor  # [B, M] float32: how good the model thinks each mask is, 0..1
    object_score: Tensor  # [B, 1] float32 logit: > 0 where it thinks there is an object
    size_hw: tuple[int, int]  # of the picture, in pixels
    options: ImageOptions = field(default_factory=ImageOptions)
    clicked: Tensor | None = None  # [B, 1, h, w] bool: see `Prompt.clicked`

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def low_res(self) -> Tensor:
        """[B, M, h, w] low-res mask logits within -32..32, for a next Prompt."""
        return self.raw.clamp(-FED_BACK_LIMIT, FED_BACK_LIMIT)

    @property
    def logits(self) -> Tensor:
        """[B, M, H, W] float32 mask logits at the size of the picture, cleaned as the options say."""
        with torch.inference_mode():
            return masks_to_image(self.options.cleaned(self.raw, self.clicked), self.size_hw)

    @property
    def masks(self) -> Tensor:
        """[B, M, H, W] bool; grown or shrunk as the options say."""
        masks = self.logits > self.options.threshold
        if not self.options.grow:
            return masks
        grown = [grow_mask(mask, self.options.grow) for mask in masks.flatten(0, 1).cpu().numpy()]
        return torch.from_numpy(np.stack(grown)).view_as(masks).to(masks.device)

    def candidate(self, index: int | Tensor) -> Masks:
        """One candidate of every prompt, the same or one each [B]: M = 1."""
        rows = torch.arange(len(self), device=self.raw.device)
        return replace(self, raw=self.raw[rows, index][:, None], predicted_iou=self.predicted_iou[rows, index][:, None])

    def best(self) -> Masks:
        """Only the candidate with the highest predicted IoU of every prompt: M = 1."""
        return self.candidate(self.predicted_iou.argmax(dim=1))

    def flat(self, rows: Tensor) -> Masks:
        """Of all candidates of all prompts, one after the other, those with the given indices [K]: B = K, M = 1."""
        candidates = self.raw.shape[1]
        return replace(
            self,
            raw=self.raw.flatten(0, 1)[rows][:, None],
            predicted_iou=self.predicted_iou.flatten()[rows][:, None],
            object_score=self.object_score.repeat_interleave(candidates, dim=0)[rows],
            clicked=None if self.clicked is None else self.clicked.repeat_interleave(candidates, dim=0)[rows.cpu()],
        )

    def to_detections(self) -> supervision.Detections:
        """The best mask of every prompt as `supervision.Detections`: predicted IoU as confidence, prompt as class."""
        best = self.best()
        return detections_of(best.masks[:, 0].cpu().numpy(), best.predicted_iou[:, 0].cpu().numpy())


def detections_of(
    masks: np.ndarray, confidence: np.ndarray, *, class_id: np.ndarray | None = None, names: np.ndarray | None = None
) -> supervision.Detections:
    """Masks bool [N, H, W] as `supervision.Detections` that its annotators take as they are.

    They choose colours by `class_id`, which is 0, 1, 2, ... if left out, and write the names.
    """
    import supervision

    boxes = mask_boxes(torch.from_numpy(masks)).float()
    # supervision's boxes end after the last pixel, ours on it
    boxes[:, 2:] += torch.from_numpy(masks).flatten(1).any(dim=1).float()[:, None]
    return supervision.Detections(
        xyxy=boxes.numpy(),
        mask=masks,
        confidence=confidence.astype(np.float32),
        class_id=np.arange(len(masks)) if class_id is None else class_id,
        data={} if names is None else {"class_name": names},
    )


class ImagePredictor:
    """Masks for prompts in pictures.

    Args:
        model: a SAM2; it is set to eval mode.
        options: threshold and clean-up; what they leave open is as suits the model.
        lock: held during each pass through the network, where threads share a small GPU.
    """

    def __init__(
        self, model: SAM2, options: ImageOptions | None = None, *, lock: AbstractContextManager[object] | None = None
    ) -> None:
        self.model = model.eval()
        self.options = (options or ImageOptions()).for_model(model.config)
        self.lock = nullcontext() if lock is None else lock

    def with_options(self, options: ImageOptions) -> ImagePredictor:
        """The same predictor with other options."""
        other = copy(self)
        other.options = options.for_model(self.model.config)
        return other

    def encode(self, picture: PictureSource) -> ImageEmbedding:
        """Run the image encoder on one picture (path, bytes, PIL image, array): the slow part, done once."""
        return self.encode_batch([picture])[0]

    def encode_batch(self, pictures: Sequence[PictureSource]) -> list[ImageEmbedding]:
        """Run the image encoder on several pictures of any sizes in one pass."""
        if not len(pictures):
            raise ValueError("no pictures were given")
        arrays = [read_picture(p) for p in pictures]
        # np.asarray of a PIL image may not be written to, of which torch would warn
        tensors = [torch.from_numpy(np.require(a, requirements="W")) for a in arrays]
        squares = torch.stack([picture_to_square_on(self.model.device, t, self.model.config.side) for t in tensors])
        return self.encode_squares(squares, [a.shape[:2] for a in arrays])

    def encode_squares(self, squares: Tensor, sizes_hw: list[tuple[int, int]]) -> list[ImageEmbedding]:
        """As `encode_batch`, for squares [B, 3, S, S] of `image_to_square`; `sizes_hw` are of the original pictures."""
        with self.lock, torch.inference_mode(), self.model.precision():
            features = self.model.encode_image(squares)
            image = self.model.without_memory(features.stride16)
        return [ImageEmbedding(image[i : i + 1], features[i : i + 1], size_hw) for i, size_hw in enumerate(sizes_hw)]

    def predict(self, embedding: ImageEmbedding, prompt: Prompt, *, multimask: bool | None = None) -> Masks:
        """Answer prompts on one picture.

        Args:
            embedding: of the picture, from `encode`.
            prompt: one prompt or B prompts of the same form.
            multimask: three candidates or one; None gives three to a single click, which is ambiguous.
        Raises:
            ValueError: if a prompt lies outside the picture.
        """
        side = self.model.config.side
        tensors = prompt.to_square(embedding.size_hw, side, self.model.device)
        masks = self.predict_square(embedding, tensors, prompt.is_ambiguous if multimask is None else multimask)
        return replace(masks, clicked=prompt.clicked(embedding.size_hw, (masks.raw.shape[-2], masks.raw.shape[-1])))

    def predict_square(self, embedding: ImageEmbedding, prompts: PromptTensors, multimask: bool) -> Masks:
        """As `predict`, for prompts that are already in the model's square; `keep_clicked` does nothing to these."""
        embedding = embedding.to(self.model.device)
        with self.lock, torch.inference_mode(), self.model.precision():
            answer = self.model.segment(embedding.image, embedding.features, prompts, multimask=multimask)
        return Masks(answer.mask_logits, answer.predicted_iou, answer.object_score, embedding.size_hw, self.options)
