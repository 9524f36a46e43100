"""One visitor's work on one picture: with a folder for downloads, and clicks of pages that have no click surface."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sam2kit.clicking.clicked_picture import ClickedPicture
from sam2kit.clicking.views import to_view
from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.predict.image import ImagePredictor
from sam2kit.ui.own_folder import OwnFolder


@dataclass
class PictureWork(ClickedPicture):
    """A picture that a visitor works on."""

    put_aside: bool = False  # the page asks for another photo; what still runs does not bring this one back
    _folder: OwnFolder = field(default_factory=OwnFolder)

    @property
    def downloads(self) -> Path:
        """A folder for this visitor's files; it goes when the work goes."""
        return self._folder.path

    def close(self) -> None:
        """Let go of the picture, and delete the visitor's files."""
        super().close()
        self._folder.delete()

    def click(self, predictor: ImagePredictor, xy: tuple[float, float], *, positive: bool) -> None:
        """Add a click to the active object."""
        points = (*self.active.points, (*self._inside(xy), int(positive)))
        self.set_prompts(predictor, self.active.number, points, self.active.box_xyxy)

    def corner(self, predictor: ImagePredictor, xy: tuple[float, float]) -> None:
        """The first or the second corner of a box; the second asks the model."""
        x, y = self._inside(xy)
        first = self.now.corner
        if first is None:
            self.remember(replace(self.now, corner=(x, y)))
            return
        box = (min(first[0], x), min(first[1], y), max(first[0], x), max(first[1], y))
        self.set_prompts(predictor, self.active.number, self.active.points, box)

    def draw(self) -> np.ndarray:
        """The view with masks and prompts: uint8 [H, W, 3]; for pages without the click surface."""
        drawn = self.with_masks
        picture = draw_masks(self.open_view, map(self.view_mask, drawn), [self.colour(item) or 0 for item in drawn])
        size_hw = self.open_image.shape[:2]
        points = [(*to_view(point[:2], size_hw), point[2]) for point in self.active.points]
        box = self.active.box_xyxy
        shown_box = None if box is None else (*to_view(box[:2], size_hw), *to_view(box[2:], size_hw))
        corner = None if self.now.corner is None else to_view(self.now.corner, size_hw)
        return draw_prompts(picture, points, shown_box, corner)

    def _inside(self, xy: tuple[float, float]) -> tuple[float, float]:
        height, width = self.open_image.shape[:2]
        return min(max(xy[0], 0.0), width - 1.0), min(max(xy[1], 0.0), height - 1.0)
