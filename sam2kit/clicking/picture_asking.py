"""What the click surface asks about a picture: the same wherever one is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sam2kit.clicking.clicked_picture import ClickedPicture
from sam2kit.clicking.messages import PromptRequest, ShownObject
from sam2kit.clicking.object_list import candidates_message
from sam2kit.predict.image import ImagePredictor


def ask_picture(work: ClickedPicture, images: ImagePredictor, request: PromptRequest) -> ShownObject:
    """Let the request's prompts be all of an object's prompts.

    Raises:
        ValueError: if it is about another picture, or cannot be answered.
    """
    request = work.checked(request)
    work.set_prompts(images, request.number, request.points, request.box_xyxy)
    return work.shown(work.now.objects[work.index_of(request.number)])


def preview_picture(work: ClickedPicture, images: ImagePredictor, request: PromptRequest) -> ShownObject:
    """The object as it would be; nothing changes.

    Raises:
        ValueError: as `ask_picture`; also if the model has not seen the picture yet, which hovering is not worth.
    """
    request = work.checked(request)
    if not work.is_seen_by(images):
        raise ValueError("the picture is not encoded yet; click, or wait")
    item = work.would_be(images, request.number, request.points, request.box_xyxy)
    return ShownObject(item.number, item.name, item.mask(work.open_view.shape[:2]))


def candidates_of(work: ClickedPicture) -> dict[str, Any] | None:
    """The active object's candidates, see `candidates_message`; None if its answer has only one."""
    item = work.active
    if len(item.predicted_iou) < 2:
        return None
    masks = [replace(item, chosen=i).mask(work.open_view.shape[:2]) for i in range(len(item.predicted_iou))]
    return candidates_message(
        work.scene, work.open_view, item.number, work.colour(item), masks, item.predicted_iou, item.chosen
    )
