"""Ask for masks in pictures: encode a picture once, then prompt it as often as you like.

    predictor = ImagePredictor(load_model("sam2.1-hiera-tiny"))
    embedding = predictor.encode("photo.jpg")
    masks = predictor.predict(embedding, Prompt([[120, 80]]))

The predictor knows nothing of any picture: two people, or two threads, can share it. What belongs to one
picture is an ImageEmbedding, plain data that can move to the CPU, be pickled and come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.model.mask_decoder import Candidates
from sam2kit.model.sam2 import SAM2, ImageFeatures, PromptTensors
from sam2kit.predict.geometry import image_to_square, masks_to_image
from sam2kit.predict.masks import clean_logits, mask_boxes
from sam2kit.predict.prompts import Prompt

if TYPE_CHECKING:
    import supervision

_RETURNED_LOGITS = 32.0  # low-res logits are clamped to this before they are given out


@dataclass(frozen=True)
class ImageEmbedding:
    """What the model saw in one picture."""

    image: Tensor  # [1, dim, h, w] image embedding at stride 16
    features: ImageFeatures  # the same picture's finer maps
    size_hw: tuple[int, int]  # of the original picture, in pixels

    def to(self, device: torch.device | str) -> ImageEmbedding:
        """The same on another device."""
        return ImageEmbedding(self.image.to(device), self.features.to(device), self.size_hw)


@dataclass(frozen=True)
class Masks:
    """The answer to B prompts with M candidates each, at the size of the picture."""

    logits: Tensor  # [B, M, H, W] float32 mask logits
    predicted_iou: Tensor  # [B, M] float32: how good the model thinks each mask is, 0..1
    object_score: Tensor  # [B, 1] float32 logit: > 0 where it thinks there is an object
    low_res: Tensor  # [B, M, h, w] float32 low-res mask logits within -32..32, for a next Prompt
    threshold: float = 0.0

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def masks(self) -> Tensor:
        """[B, M, H, W] bool."""
        return self.logits > self.threshold

    def best(self) -> Masks:
        """Only the candidate with the highest predicted IoU of every prompt: M = 1."""
        rows = torch.arange(len(self), device=self.logits.device)
        index = self.predicted_iou.argmax(dim=1)
        return replace(
            self,
            logits=self.logits[rows, index][:, None],
            predicted_iou=self.predicted_iou[rows, index][:, None],
            low_res=self.low_res[rows, index][:, None],
        )

    def to_detections(self) -> supervision.Detections:
        """The best mask of every prompt as `supervision.Detections`, with predicted IoU as confidence."""
        import supervision

        best = self.best()
        masks = best.masks[:, 0]
        boxes = mask_boxes(masks).float()
        boxes[:, 2:] += masks.flatten(1).any(dim=1).float()[:, None]  # supervision's boxes end after the last pixel
        return supervision.Detections(
            xyxy=boxes.cpu().numpy(),
            mask=masks.cpu().numpy(),
            confidence=best.predicted_iou[:, 0].cpu().numpy(),
        )


@dataclass(frozen=True)
class ImageOptions:
    """How logits become masks. Areas count pixels of the low-res logits (a sixteenth of the square's)."""

    threshold: float = 0.0  # logit above which a pixel belongs to the object
    max_hole_area: float = 0.0
    max_speck_area: float = 0.0


class ImagePredictor:
    """Masks for prompts in pictures.

    Args:
        model: a SAM2; it is set to eval mode.
        options: threshold and clean-up.
    """

    def __init__(self, model: SAM2, options: ImageOptions | None = None) -> None:
        self.model = model.eval()
        self.options = options or ImageOptions()

    def encode(self, picture: PictureSource) -> ImageEmbedding:
        """Run the image encoder on one picture: the slow part, done once.

        Args:
            picture: whatever `read_picture` takes: path, bytes, PIL image, array.
        """
        return self.encode_batch([picture])[0]

    def encode_batch(self, pictures: Sequence[PictureSource]) -> list[ImageEmbedding]:
        """Run the image encoder on several pictures of any sizes in one pass."""
        if not len(pictures):
            raise ValueError("no pictures were given")
        arrays = [read_picture(p) for p in pictures]
        squares = torch.stack([self._square(torch.from_numpy(a)) for a in arrays])
        with torch.inference_mode(), self.model.precision():
            features = self.model.encode_image(squares)
            image = self.model.without_memory(features.stride16)
        return [ImageEmbedding(image[i : i + 1], features[i : i + 1], a.shape[:2]) for i, a in enumerate(arrays)]

    def _square(self, rgb: Tensor) -> Tensor:
        return image_to_square(rgb.to(self.model.device).permute(2, 0, 1), self.model.config.side)

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
        return self.predict_square(embedding, tensors, prompt.is_ambiguous if multimask is None else multimask)

    def predict_square(self, embedding: ImageEmbedding, prompts: PromptTensors, multimask: bool) -> Masks:
        """As `predict`, for prompts that are already in the model's square."""
        embedding = embedding.to(self.model.device)
        with torch.inference_mode(), self.model.precision():
            answer = self.model.segment(embedding.image, embedding.features, prompts, multimask=multimask)
        return self._finish(answer, embedding.size_hw)

    def _finish(self, answer: Candidates, size_hw: tuple[int, int]) -> Masks:
        options = self.options
        with torch.inference_mode():
            cleaned = clean_logits(
                answer.mask_logits,
                max_hole_area=options.max_hole_area,
                max_speck_area=options.max_speck_area,
                threshold=options.threshold,
            )
            return Masks(
                logits=masks_to_image(cleaned, size_hw),
                predicted_iou=answer.predicted_iou,
                object_score=answer.object_score,
                low_res=answer.mask_logits.clamp(-_RETURNED_LOGITS, _RETURNED_LOGITS),
                threshold=options.threshold,
            )
