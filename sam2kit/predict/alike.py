"""Find all that look like one thing: no training, and one mask of it is enough.

    look = look_of(predictor.encode("coins.jpg"), mask)
    for found, alike in FindAlike(predictor, look).find("other coins.jpg"): ...

A grid of clicks as fine as the example is large goes where a picture's features are more like the example than like
what lies around it. Those of their masks stay that are alike: in the mean of their features, in size, and in how sure
the model is of them. Small things are also looked for in the quarters of the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2kit.config import check_number, check_whole
from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, FoundMask, Steps, run_steps, unit_grid
from sam2kit.predict.detector import covers
from sam2kit.predict.image import ImageEmbedding, ImagePredictor

Alike = tuple[FoundMask, float]  # with how alike it is, 0..1
Search = Callable[[ImagePredictor, AutomaticOptions], AutomaticMasks]
_SPACING = 0.5  # of the clicks, in the side of a square as large as the example
_MOST_PER_SIDE, _LEAST_PER_SIDE = 40, 8  # clicks
_SMALL = 0.006  # share of the picture; smaller examples are looked for in its quarters, too
_SIZES = 4.0  # times the example's area, or less than that part of it, is something else


@dataclass(frozen=True)
class AlikeOptions:
    """What counts as alike."""

    most: int = 50  # masks
    least: float = 0.5  # of how alike they are, 0..1
    max_overlap: float = 0.5  # share of the smaller of two masks in the other, above which the less alike one goes

    def __post_init__(self) -> None:
        check_whole("most", self.most, 1, 1000)
        check_number("least", self.least, 0, 1)
        check_number("max_overlap", self.max_overlap, 0, 1)


@dataclass(frozen=True)
class Look:
    """What tells a thing from its surroundings."""

    inside: Tensor  # [C] float32, mean features; of length 1 at each place
    outside: Tensor  # [C] the same of what lies around
    area: float  # share of the picture, 0..1

    def places(self, features: Tensor) -> np.ndarray:
        """bool [h, w]: where features [C, h, w] are more like the thing than like its surroundings."""
        apart = F.normalize(self.inside, dim=0) - F.normalize(self.outside, dim=0)
        return (torch.einsum("c,chw->hw", apart, features) > 0).numpy()

    def alike(self, mean: Tensor, area: float, predicted_iou: float) -> float:
        """How alike a mask is, 0..1, whose features have this mean, and which takes this share of the picture."""
        cosine = float(F.cosine_similarity(mean - self.outside, self.inside - self.outside, dim=0))
        small, large = sorted((area, self.area))
        return max(cosine, 0.0) * (small / large * min(max(predicted_iou, 0.0), 1.0)) ** 0.5


def look_of(embedding: ImageEmbedding, mask: np.ndarray) -> Look:
    """What a thing looks like.

    Args:
        embedding: of a picture, from `ImagePredictor.encode`.
        mask: bool [H, W] of the thing in it.
    Raises:
        ValueError: if the mask is empty, covers everything or has another size.
    """
    height, width = embedding.size_hw
    if mask.shape != (height, width) or not mask.any() or mask.all():
        raise ValueError(f"the example is a mask of a part of the {width}x{height} picture")
    features = _features(embedding)
    return Look(_mean(features, mask), _mean(features, ~mask), float(mask.mean()))


def _features(embedding: ImageEmbedding) -> Tensor:
    """float32 [C, h, w] on the CPU, of length 1 at each place."""
    return F.normalize(embedding.features.stride16[0].float().cpu(), dim=0)


def _mean(features: Tensor, mask: np.ndarray) -> Tensor:
    """[C] over a mask bool [H, W]."""
    size_wh = features.shape[:0:-1]
    share = torch.from_numpy(cv2.resize(mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA))
    return torch.einsum("chw,hw->c", features, share) / max(float(share.sum()), 1e-6)


class FindAlike:
    """Finds what looks like an example.

    Args:
        predictor: asks the model.
        look: of the example, from `look_of`.
        options: how many, and how alike.
        search: clicks in this predictor's way; None does so here.
    """

    def __init__(
        self, predictor: ImagePredictor, look: Look, options: AlikeOptions | None = None, search: Search | None = None
    ) -> None:
        self.predictor, self.look, self.options = predictor, look, options or AlikeOptions()
        self._search = search or _search_here

    def find(self, picture: PictureSource, embedding: ImageEmbedding | None = None) -> list[Alike]:
        """Masks with how alike they are, 0..1, the best first, with the example in its own picture.

        Arguments as of `AutomaticMasks.steps`.
        """
        return run_steps(self.steps(picture, embedding))

    def steps(self, picture: PictureSource, embedding: ImageEmbedding | None = None) -> Steps[list[Alike]]:
        """As `find`, step by step."""
        image = read_picture(picture)
        embedding = embedding or self.predictor.encode(image)
        features = _features(embedding)
        side = int(np.clip(1 / (_SPACING * self.look.area**0.5), _LEAST_PER_SIDE, _MOST_PER_SIDE))
        grid = unit_grid(side).numpy()
        rows, columns = (
            (grid[:, axis] * size).astype(int) for axis, size in ((1, features.shape[1]), (0, features.shape[2]))
        )
        grids = [grid[self.look.places(features)[rows, columns]]]
        if self.look.area < _SMALL:
            grids.append(unit_grid(max(_LEAST_PER_SIDE, side // 2)).numpy())
        if not len(grids[0]) and len(grids) == 1:
            return []
        clicks = AutomaticOptions(
            min_predicted_iou=0.0, min_stability=0.3, max_box_overlap=0.95, max_crop_overlap=0.95,
            crop_layers=len(grids) - 1, point_grids=tuple(grids),
        )  # fmt: skip
        found = yield from self._search(self.predictor, clicks).steps(image, embedding)
        sized = [one for one in found if 1 / _SIZES < one.area / (self.look.area * image[..., 0].size) < _SIZES]
        alike = [self._alike(features, one) for one in sized]
        return self._best(sized, np.array(alike))

    def _alike(self, features: Tensor, one: FoundMask) -> float:
        mask = one.mask
        return self.look.alike(_mean(features, mask), float(mask.mean()), one.predicted_iou)

    def _best(self, found: list[FoundMask], alike: np.ndarray) -> list[Alike]:
        """The most alike first, without those that lie mostly in what is known by then, or the other way round."""
        taken: list[np.ndarray] = []
        best: list[Alike] = []
        for i in np.argsort(-alike, kind="stable").tolist():
            mask = found[i].mask
            if alike[i] < self.options.least or len(best) == self.options.most:
                break
            if not covers(mask, taken, self.options.max_overlap):
                best.append((found[i], float(alike[i])))
                taken.append(mask)
        return best


def _search_here(predictor: ImagePredictor, clicks: AutomaticOptions) -> AutomaticMasks:
    return AutomaticMasks(predictor.model, clicks, predictor=predictor)
