"""Masks in pictures where the GPU is lent for seconds: the slow passes go there, in as few trips as possible.

A trip costs a second or more and some of the visitor's daily time. So a picture is encoded there, and "segment
everything" is one trip, but clicks are answered by the mask decoder on the app's own CPU, in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from math import ceil
from typing import Any

import numpy as np
from torch import Tensor

from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, FoundMask, crop_boxes
from sam2kit.predict.image import ImageEmbedding, ImageOptions, ImagePredictor, Masks
from sam2kit.ui.gpu_calls import MOST_SECONDS, GpuWork

_SECONDS = 15  # to begin and to encode a picture
_FEW = 4  # prompts that the CPU answers


class ZeroImagePredictor(ImagePredictor):
    """An ImagePredictor whose model is on the CPU here, and on a lent GPU for the slow passes. Arguments as there."""

    def __init__(
        self, model: SAM2, options: ImageOptions | None = None, *, lock: AbstractContextManager[object] | None = None
    ) -> None:
        super().__init__(model, options, lock=lock)
        self.gpu = GpuWork.of(model)

    def encode_squares(self, squares: Tensor, sizes_hw: list[tuple[int, int]]) -> list[ImageEmbedding]:
        """As in `ImagePredictor`, on the GPU."""
        return self.gpu.call(_SECONDS, _encode, squares, sizes_hw)

    def predict_square(self, embedding: ImageEmbedding, prompts: PromptTensors, multimask: bool) -> Masks:
        """As in `ImagePredictor`; on the GPU if there are many prompts."""
        if len(prompts) <= _FEW:
            return super().predict_square(embedding, prompts, multimask)
        return self.gpu.call(_SECONDS, _predict, embedding, prompts, multimask, self.options)


class ZeroAutomaticMasks(AutomaticMasks):
    """AutomaticMasks in one trip to the GPU."""

    def steps(self, picture: PictureSource) -> Generator[tuple[int, int], None, list[FoundMask]]:
        """As in `AutomaticMasks`."""
        image, all_found = read_picture(picture), []
        seconds = min(MOST_SECONDS, _SECONDS + self._batches(image))
        for report, found in GpuWork.of(self.predictor.model).run(seconds, _search, image, self.options):
            if report is None:
                all_found = found
            else:
                yield report
        return all_found

    def _batches(self, image: np.ndarray) -> int:
        """How many batches of clicks there are; each takes a good deal less than a second."""
        grids = (self._grid(layer) for _, layer in crop_boxes(image.shape[:2], self.options))
        return sum(ceil(len(grid) / self.options.points_per_batch) for grid in grids)


# on the GPU


def _encode(model: SAM2, squares: Tensor, sizes_hw: list[tuple[int, int]]) -> Iterator[list[ImageEmbedding]]:
    embeddings = ImagePredictor(model).encode_squares(squares, sizes_hw)
    # in the weights' dtype: the CPU, which answers clicks, has no autocast
    yield [
        ImageEmbedding(e.image.to(model.weight_dtype), e.features.to(model.weight_dtype), e.size_hw) for e in embeddings
    ]


def _predict(
    model: SAM2, embedding: ImageEmbedding, prompts: PromptTensors, multimask: bool, options: ImageOptions
) -> Iterator[Masks]:
    yield ImagePredictor(model, options).predict_square(embedding, prompts, multimask)


def _search(
    model: SAM2, image: np.ndarray, options: AutomaticOptions
) -> Iterator[tuple[tuple[int, int] | None, list[FoundMask]]]:
    """(batches done, batches in all) and nothing, as often as there are batches; in the end None and what was found."""
    steps: Any = AutomaticMasks(model, options).steps(image)
    while True:
        try:
            yield next(steps), []
        except StopIteration as end:
            yield None, end.value
            return
