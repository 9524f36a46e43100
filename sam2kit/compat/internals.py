"""What fine-tuning scripts touch beneath the official predictors: the parts of the model under the official calls.

`with_official_calls(model)` changes the classes of three modules in place. Weights, their names and our own calls stay,
so the model is still a SAM2 for everything else here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from sam2kit.media.pictures import read_picture
from sam2kit.model.mask_decoder import MaskDecoder, choose_candidates
from sam2kit.model.positions import sine_map
from sam2kit.model.prompt_encoder import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    NEGATIVE,
    NOT_A_POINT,
    POSITIVE,
    PromptEncoder,
)
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.geometry import image_to_square, masks_to_image, points_to_square
from sam2kit.predict.options import ImageOptions
from sam2kit.predict.prompts import check_same_number, finite_numbers, points_and_labels

OFFICIAL_LABELS = {POSITIVE: "this", NEGATIVE: "not this", BOX_TOP_LEFT: "top left of a box"}
OFFICIAL_LABELS |= {BOX_BOTTOM_RIGHT: "bottom right", NOT_A_POINT: "no point"}


class OfficialPromptEncoder(PromptEncoder):
    """The prompt encoder, called as the official one is."""

    embedding_side: int  # edge of the image embedding, in tokens

    def forward(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Encode B prompts.

        Args:
            points: [B, N, 2] pixels of the model's square, and [B, N] labels.
            boxes: [B, 4] corners in the same pixels.
            masks: [B, 1, 4h, 4w] mask logits.
        Returns:
            [B, tokens, dim] and [B, dim, h, w].
        """
        side, tokens = 16 * self.embedding_side, []
        if points is not None:
            padded = self.points(*points, side=side)
            tokens.append(padded if boxes is None else padded[:, :-1])  # "not a point" ends clicks without a box
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)
            meaning = torch.tensor([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]], device=boxes.device).expand(len(corners), -1)
            tokens.append(self.points(corners, meaning, side=side)[:, :-1])
        batch = len(tokens[0]) if tokens else 1 if masks is None else len(masks)
        sparse = torch.cat(tokens, dim=1) if tokens else self.no_points(batch)
        if masks is not None:
            return sparse, self.mask(masks, self.embedding_side)
        return sparse, self.no_mask(self.embedding_side).expand(batch, -1, -1, -1)

    def get_dense_pe(self) -> Tensor:
        """[1, dim, h, w] positions of the image embedding's cells."""
        return self.pe_layer.grid(self.embedding_side)


class OfficialMaskDecoder(MaskDecoder):
    """The mask decoder, called as the official one is, by its keywords; our own call has none."""

    dynamic_multimask_via_stability: bool

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Our own call with five arguments, else `decode`."""
        return self.decode(*arguments, **keywords) if keywords or len(arguments) != 5 else super().forward(*arguments)

    def decode(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        repeat_image: bool = False,
        high_res_features: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decode B prompts.

        Args:
            image_embeddings: [1 or B, dim, h, w].
            image_pe: [1, dim, h, w] of `get_dense_pe`.
            multimask_output: three candidates instead of one.
            repeat_image: accepted; one image always serves all prompts.
            high_res_features: stride-4 and stride-8 maps.
        Returns:
            low-res mask logits [B, M, 4h, 4w], predicted IoU [B, M], mask tokens [B, M, dim], object scores [B, 1].
        """
        if high_res_features is None:
            raise ValueError("high_res_features are missing: give the two maps of predictor._features")
        fine, coarse = high_res_features
        answer = super().forward(
            image_embeddings, image_pe, (fine, coarse), sparse_prompt_embeddings, dense_prompt_embeddings
        )
        falls_back = self.dynamic_multimask_via_stability and not self.training
        chosen = choose_candidates(answer, multimask=multimask_output, replace_unstable=falls_back)
        return chosen.mask_logits, chosen.predicted_iou, chosen.mask_tokens, chosen.object_score


class OfficialSAM2(SAM2):
    """The model with the official attributes that scripts read, and its two steps for training the image encoder."""

    directly_add_no_mem_embed = True
    num_feature_levels = 3

    @property
    def image_size(self) -> int:
        """Edge of the model's square, in pixels."""
        return self.config.side

    @property
    def hidden_dim(self) -> int:
        """Channels of the image embedding."""
        return self.config.hidden_dim

    @property
    def num_maskmem(self) -> int:
        """Slots of the memory bank."""
        return self.config.memory.slots

    def forward_image(self, img_batch: Tensor) -> dict[str, Any]:
        """[B, 3, S, S] normalised pixels -> the feature pyramid, finest map first, and its positions."""
        features = self.encode_image(img_batch)
        maps = [*(features.detail or ()), features.stride16]
        places = [
            sine_map(*m.shape[-2:], self.hidden_dim, device=m.device).expand(len(m), -1, -1, -1).to(m.dtype)
            for m in maps
        ]
        return {"vision_features": maps[-1], "vision_pos_enc": places, "backbone_fpn": maps}

    def _prepare_backbone_features(
        self, backbone_out: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Tensor], list[Tensor], list[tuple[int, int]]]:
        """The pyramid and its positions as sequences [h*w, B, C], and the maps' sizes."""
        maps, places = backbone_out["backbone_fpn"], backbone_out["vision_pos_enc"]
        sizes = [(m.shape[-2], m.shape[-1]) for m in places]
        flat, flat_places = ([m.flatten(2).permute(2, 0, 1) for m in several] for several in (maps, places))
        return {**backbone_out}, flat, flat_places, sizes


def with_official_calls(model: SAM2) -> OfficialSAM2:
    """The same model, whose parts now take the official calls, too."""
    model.__class__ = OfficialSAM2
    encoder, decoder = model.sam_prompt_encoder, model.sam_mask_decoder
    encoder.__class__, decoder.__class__ = OfficialPromptEncoder, OfficialMaskDecoder
    assert isinstance(encoder, OfficialPromptEncoder) and isinstance(decoder, OfficialMaskDecoder), "they are now"
    encoder.embedding_side = model.config.embedding_side
    decoder.dynamic_multimask_via_stability = model.config.decoder.replaces_unstable_masks
    assert isinstance(model, OfficialSAM2), "it is now"
    return model


def settings_of(predictor: Callable[..., object]) -> tuple[str, ...]:
    """The keywords that a predictor takes beside its model."""
    return tuple(name for name in inspect.signature(predictor).parameters if name != "kwargs")[1:]


def refuse_keywords(predictor: type, given: Mapping[str, object]) -> None:
    """Raises ValueError if there are any; says which ones are taken."""
    if given:
        known = ", ".join(settings_of(predictor))
        raise ValueError(f"{predictor.__name__} does not take {next(iter(given))!r}; it takes a model and {known}")


class ForwardsToModel:
    """The official video predictor is a torch module: whatever it lacks here is asked of its model.

    `to`, `half` and the like change the model and return the predictor.
    """

    model: OfficialSAM2
    _RETURN_THEMSELVES = frozenset(
        ("to", "cuda", "cpu", "half", "float", "bfloat16", "double", "eval", "train", "requires_grad_")
    )

    def __getattr__(self, name: str) -> Any:
        model = self.__dict__.get("model")
        if model is None or name.startswith("__") or not hasattr(model, name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}, and neither has its model")
        found = getattr(model, name)
        if name not in self._RETURN_THEMSELVES:
            return found

        def change_the_model(*arguments: Any, **keywords: Any) -> ForwardsToModel:
            found(*arguments, **keywords)
            return self

        return change_the_model

    def __setattr__(self, name: str, value: object) -> None:
        model, own = self.__dict__.get("model"), type(self)
        settings = settings_of(own)
        derived = not own.__module__.startswith("sam2kit.") and not hasattr(model, name)
        if model is None or name[0] == "_" or name in (*settings, "model") or hasattr(own, name) or derived:
            super().__setattr__(name, value)
        elif hasattr(model, name) and callable(value):
            setattr(model, name, value)
        else:
            raise AttributeError(
                f"{name!r} is no setting of {own.__name__}, so setting it would change nothing; its settings are "
                f"{', '.join(settings)}, and builders take others as hydra_overrides_extra"
            )


class SAM2Transforms:
    """The official predictor's `_transforms`: pictures into the model's square, masks out of it and cleaned."""

    def __init__(self, resolution: int, options: ImageOptions) -> None:
        self.resolution, self._options = resolution, options

    def __call__(self, x: np.ndarray | Image.Image) -> Tensor:
        """A picture -> [3, S, S] float32, normalised."""
        picture = torch.from_numpy(np.require(read_picture(x, upright=False), requirements="W"))
        return image_to_square(picture.permute(2, 0, 1), self.resolution)

    def forward_batch(self, img_list: Sequence[np.ndarray | Image.Image]) -> Tensor:
        """[B, 3, S, S]."""
        return torch.stack([self(image) for image in img_list])

    def transform_coords(self, coords: Tensor, normalize: bool = False, orig_hw: Any = None) -> Tensor:
        """[..., 2] points -> pixels of the square; from pixels of the picture if `normalize`, else from 0..1."""
        if normalize and orig_hw is None:
            raise ValueError("orig_hw is missing: points in pixels need the (height, width) of their picture")
        return points_to_square(coords, tuple(orig_hw) if normalize else (1, 1), self.resolution)

    def transform_boxes(self, boxes: Tensor, normalize: bool = False, orig_hw: Any = None) -> Tensor:
        """[B, 4] boxes -> [B, 2, 2] corners, as `transform_coords`."""
        return self.transform_coords(boxes.reshape(-1, 2, 2), normalize, orig_hw)

    def postprocess_masks(self, masks: Tensor, orig_hw: Any) -> Tensor:
        """[B, M, h, w] low-res mask logits -> [B, M, H, W], cleaned as the predictor was told to; has gradients."""
        return masks_to_image(self._options.cleaned(masks.float()), tuple(orig_hw))


def boxes_of(values: ArrayLike | Tensor, name: str) -> np.ndarray:
    """float32 [B, 2, 2] corners, from [4], [B, 4] or corners; a ValueError if they are something else."""
    boxes = finite_numbers(values, name)
    if not boxes.size or boxes.size % 4 or boxes.shape[-1] not in (2, 4):
        raise ValueError(f"{name} must be [4] or [B, 4], got shape {list(boxes.shape)}")
    return boxes.reshape(-1, 2, 2)


def prompt_parts(
    mask: Tensor | None, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None
) -> PromptTensors:
    """What `_prep_prompts` gave, for the decoder; a ValueError if the parts are for different numbers of prompts."""
    check_same_number(points, boxes)
    clicks = points_and_labels(points, labels, None if boxes is None else boxes.reshape(-1, 4))
    if clicks is None:
        return PromptTensors(mask_logits=mask)
    if mask is not None and len(mask) == 1:  # one for all
        mask = mask.expand(len(clicks[0]), -1, -1, -1)
    check_same_number(clicks[0], mask)
    return PromptTensors(*clicks, mask)
