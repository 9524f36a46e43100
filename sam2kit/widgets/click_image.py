"""Click on things in a picture, in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sam2kit.clicking.clicked_picture import ClickedPicture
from sam2kit.clicking.messages import PromptRequest, ShownObject, scene_message
from sam2kit.clicking.object_list import list_message
from sam2kit.clicking.picture_asking import ask_picture, candidates_of, preview_picture
from sam2kit.media.drawing import draw_masks, draw_prompts
from sam2kit.media.pictures import PictureSource
from sam2kit.predict.image import ImagePredictor, detections_of
from sam2kit.predict.picture_session import PictureSession
from sam2kit.predict.prompts import Prompt
from sam2kit.widgets.click_widget import KEY, ClickWidget
from sam2kit.widgets.given_prompts import checked_prompts, number_in

if TYPE_CHECKING:
    import supervision


class ClickImage(ClickWidget):
    """A photo to click on: click adds, shift-click or right click takes away, a drag draws a box, `?` tells the rest.

    Args:
        predictor: answers.
        picture: whatever `read_picture` takes, or the work of an earlier widget or of the app (a PictureSession).
    Raises:
        ValueError: if the picture cannot be read.
    """

    def __init__(self, predictor: ImagePredictor, picture: PictureSource | PictureSession) -> None:
        self._predictor, self._work = predictor, ClickedPicture()
        if isinstance(picture, PictureSession):
            self._work.adopt(picture)
            self._work.encode(predictor)
        else:
            self._work.open(predictor, picture)
        super().__init__(f"{self._work.file_name}; click on things")

    # what the next cell wants to know

    @property
    def prompts(self) -> dict[str, Prompt]:
        """Object -> what was asked, in pixels of the picture."""
        asked = {o.name: o for o in self._work.now.objects if o.points or o.box_xyxy is not None}
        return {
            name: Prompt([p[:2] for p in o.points] or None, [p[2] for p in o.points] or None, o.box_xyxy)
            for name, o in asked.items()
        }

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Object -> bool [H, W] at the size of the picture, of the objects that have a mask."""
        return self.session.masks

    @property
    def session(self) -> PictureSession:
        """All of it as data that can be saved, and opened by the app."""
        return self._work.session(self._predictor.model.config)

    def to_detections(self) -> supervision.Detections:
        """As `supervision.Detections`, one per object with a mask; `data["class_name"]` holds the names."""
        found = self._work.with_masks
        size_hw = self._work.open_image.shape[:2]
        masks = np.stack([o.mask(size_hw) for o in found]) if found else np.zeros((0, *size_hw), bool)
        confidence = np.array([o.predicted_iou[o.chosen] for o in found], np.float32)
        return detections_of(masks, confidence, names=np.array([o.name for o in found], str))

    # what a cell may do as well

    def prompt(
        self,
        name: str,
        points_xy: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box_xyxy: ArrayLike | None = None,
    ) -> None:
        """Let these be all prompts of an object, as if they had been clicked; a new name begins a new object.

        Args:
            points_xy: [N, 2] clicks (x, y) in pixels of the picture.
            labels: [N] 1 "this", 0 "not this"; all 1 when left out.
            box_xyxy: [4] (x0, y0, x1, y1).
        Raises:
            ValueError: if they cannot be used.
        """
        points, box = checked_prompts(points_xy, labels, box_xyxy, self._work.open_image.shape)
        numbers = {o.name: o.number for o in self._work.now.objects}
        if name not in numbers:
            self._work.new_object()
            self._work.rename(self._work.active.number, name)
        self._work.set_prompts(self._predictor, numbers.get(name, self._work.active.number), points, box)
        self.refresh()

    def refresh(self) -> None:
        """Show what there is now."""
        work = self._work
        shown = [work.shown(item) for item in work.now.objects]
        self.scene = scene_message(
            KEY, work.scene, work.open_view, work.open_image.shape, shown, work.active.number, work.active.points,
            work.active.box_xyxy,
        )  # fmt: skip
        self._refresh_tools()

    def still(self) -> np.ndarray:
        """The picture with all masks, and the prompts of the active object: uint8 [H, W, 3]."""
        work = self._work
        image, found = work.open_image, work.with_masks
        size_hw = image.shape[:2]
        drawn = draw_masks(image, (o.mask(size_hw) for o in found), [work.colour(o) or 0 for o in found])
        return draw_prompts(drawn, work.active.points, work.active.box_xyxy)

    # inside

    def _refresh_tools(self) -> None:
        work = self._work
        self.listed = list_message(work.listed(), work.active.number)
        self.candidates = candidates_of(work) or {}
        self.tools = {"undo": bool(work.past), "frames": 0}

    def _ask(self, request: PromptRequest) -> ShownObject:
        return ask_picture(self._work, self._predictor, request)

    def _preview(self, request: PromptRequest) -> ShownObject:
        return preview_picture(self._work, self._predictor, request)

    def _do(self, deed: str, more: dict[str, Any]) -> dict[str, Any]:
        work = self._work
        deeds: dict[str, Callable[[], object]] = {
            "new": work.new_object,
            "undo": work.undo,
            "clear": work.clear,
            "pick": lambda: work.select(number_in(more)),
            "drop": lambda: work.remove(number_in(more)),
            "rename": lambda: work.rename(number_in(more), str(more.get("name", ""))),
            "choose": lambda: work.choose(number_in(more, "candidate")),
        }
        if deed not in deeds:
            raise ValueError(f"there is no button {deed!r}")
        deeds[deed]()
        self.refresh()
        return {}
