"""Find things without a prompt, with a model that was fine-tuned to do so.

    detector = Detector(load_model("runs/mine"))
    for found in detector.find("photo.jpg"): print(found.name, found.score, found.area)

The peaks of the detection head's maps become prompts, each a click with a box; the mask decoder answers them, and its
masks are filtered by score, stability and overlap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2kit.config import check_number, check_whole
from sam2kit.media.mask_files import mask_to_runs
from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.model.detection_head import boxes_of
from sam2kit.model.mask_decoder import stability
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.automatic import FoundMask
from sam2kit.predict.frame_masks import FrameMasks
from sam2kit.predict.geometry import mask_boxes
from sam2kit.predict.image import ImageEmbedding, ImagePredictor, Masks
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor

_AT_A_TIME = 16  # prompts
_CLICK_AND_BOX = (1, 2, 3)  # labels: a positive click, the box's first and its last corner


@dataclass(frozen=True)
class DetectorOptions:
    """What counts as found."""

    least: float = 0.4  # of the score, 0..1
    most: int = 300  # objects in a picture
    min_stability: float = 0.5
    max_overlap: float = 0.5  # share of the smaller of two masks in the other, above which the one of less score goes

    def __post_init__(self) -> None:
        check_whole("most", self.most, 1, 10_000)
        for name in ("least", "min_stability", "max_overlap"):
            check_number(name, getattr(self, name), 0, 1)


class Detector:
    """Finds what a model was fine-tuned to find.

    Args:
        model: with classes, see `SAM2Config.classes`.
        options: what counts as found.
        lock: as for `ImagePredictor`.
        predictor: asks the model in this one's way; then `lock` is not needed.
    Raises:
        ValueError: if the model has no detection head.
    """

    def __init__(
        self,
        model: SAM2,
        options: DetectorOptions | None = None,
        *,
        lock: AbstractContextManager[object] | None = None,
        predictor: ImagePredictor | None = None,
    ) -> None:
        if not model.config.classes:
            raise ValueError(
                "this model finds nothing by itself, as it has no classes; fine-tune it with detection (sam2kit train "
                "--detect), or use AutomaticMasks, which finds everything"
            )
        self.model, self.options = model, options or DetectorOptions()
        self.predictor = predictor or ImagePredictor(model, lock=lock)
        self.classes = model.config.classes

    def find(self, picture: PictureSource, embedding: ImageEmbedding | None = None) -> list[FoundMask]:
        """All objects, the surest first.

        Args:
            picture: whatever `read_picture` takes.
            embedding: of the picture, where it is at hand.
        """
        return self._find(embedding or self.predictor.encode(read_picture(picture)))

    def find_batch(self, pictures: Sequence[PictureSource]) -> list[list[FoundMask]]:
        """All objects of several pictures, which are encoded together."""
        return [self._find(embedding) for embedding in self.predictor.encode_batch(pictures)]

    def _find(self, embedding: ImageEmbedding) -> list[FoundMask]:
        with self.predictor.lock, torch.inference_mode(), self.model.precision():
            maps = self.model.detect(embedding.to(self.model.device).features)
        depth, classes, points, boxes = _peaks(maps[0][0], maps[1][0], self.options.most, self.options.least)
        if not len(points):
            return []
        answer = self._answer(embedding, points, boxes)
        scores = (depth * answer.predicted_iou[:, 0].clamp(0, 1)).sqrt()
        steady = stability(answer.raw[:, 0], offset=1.0).tolist()
        # compared as small as they are: full-size masks of a phone photo are made of those that stay
        small = (answer.options.cleaned(answer.raw) > answer.options.threshold)[:, 0].cpu().numpy()
        chosen: list[int] = []
        for n in scores.argsort(descending=True, stable=True).tolist():
            if scores[n] < self.options.least:
                break
            is_mask = small[n].any() and steady[n] >= self.options.min_stability
            if is_mask and not covers(small[n], [small[i] for i in chosen], self.options.max_overlap):
                chosen.append(n)
        height, width = embedding.size_hw
        found = []
        for n in chosen:
            mask = answer.flat(torch.tensor([n], device=answer.raw.device)).masks[:, 0]
            x0, y0, x1, y1 = mask_boxes(mask)[0].tolist()
            x, y = points[n].tolist()
            found.append(
                FoundMask(
                    mask_to_runs(mask[0].cpu().numpy()), (x0, y0, x1, y1), float(answer.predicted_iou[n, 0]), steady[n],
                    (x * width, y * height), (0, 0, width, height), self.classes[int(classes[n])], float(scores[n]),
                )
            )  # fmt: skip
        return [one for one in found if one.area]

    def _answer(self, embedding: ImageEmbedding, points: Tensor, boxes: Tensor) -> Masks:
        """The masks for clicks [N, 2] with boxes [N, 4], in 0..1."""
        prompts = torch.cat([points[:, None], boxes.view(-1, 2, 2)], dim=1) * self.model.config.side  # [N, 3, 2]
        labels = torch.tensor(_CLICK_AND_BOX, device=prompts.device).expand(len(prompts), -1)
        parts = [
            self.predictor.predict_square(embedding, PromptTensors(xy, marks), multimask=False)
            for xy, marks in zip(prompts.split(_AT_A_TIME), labels.split(_AT_A_TIME), strict=True)
        ]
        raw, predicted_iou, object_score = (
            torch.cat(list(values))
            for values in zip(*((p.raw, p.predicted_iou, p.object_score) for p in parts), strict=True)
        )
        return replace(parts[0], raw=raw, predicted_iou=predicted_iou, object_score=object_score)


def follow_all(
    detector: Detector, predictor: VideoPredictor, session: Session, *, every: int = 10
) -> Iterator[FrameMasks]:
    """Find objects in a clip, and follow them: those of its first frames, and newcomers.

    What is found where an object is known already is that object; the rest becomes new ones. Who leaves stays in the
    list. A session with objects goes on where it was: with what is left of its plan, or from its first prompt.

    Args:
        predictor: with the detector's model.
        session: of the clip.
        every: frames between two searches.
    Yields:
        the masks of each frame, as `VideoPredictor.resume`.
    """
    check_whole("every", every, 1, 2**31)
    searched = session.frames[::every]
    for frame in searched:
        if session.objects:
            break
        predictor.add_found(session, frame, detector.find(session.clip.frame(frame)))
    if session.objects and not session.plan:
        session.plan = predictor.plan(session, direction="forward")
    while session.plan:
        for masks in predictor.resume(session):
            frame, new = masks.frame_index, list[FoundMask]()
            if frame in searched:
                known = [mask for mask in masks.masks if mask.any()]
                new = [one for one in detector.find(session.clip.frame(frame)) if not covers(one.mask, known)]
            if not new:
                yield masks
                continue
            predictor.add_found(session, frame, new)
            plan = predictor.plan(session, frame, "forward")
            session.plan = deque(step for step in plan if step.frame != frame)
            yield session.masks(frame)
            break  # newcomers take part in what comes


def covers(mask: np.ndarray, known: Sequence[np.ndarray], most: float = 0.5) -> bool:
    """Whether more than a share of a mask bool [H, W], or of a known one, lies in the other."""
    return any((mask & other).sum() > most * min(mask.sum(), other.sum()) for other in known)


def _peaks(depth: Tensor, sides: Tensor, most: int, least: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The highest places around, of maps [C, h, w] and [4, h, w].

    Returns:
        depth [N] in 0..1, class [N], the middle of the place [N, 2] and a box [N, 4] in 0..1 each.
    """
    height, width = depth.shape[-2:]
    highest, kind = depth.sigmoid().max(dim=0)  # one place is of one class
    is_peak = (F.max_pool2d(highest[None], 3, stride=1, padding=1)[0] == highest) & (highest >= least**2)
    places = is_peak.nonzero()
    found = highest[is_peak]
    order = found.argsort(descending=True, stable=True)[:most]
    places = places[order]
    middle = (places.flip(1) + 0.5) / depth.new_tensor([width, height])
    return found[order], kind[places[:, 0], places[:, 1]], middle, boxes_of(sides, places)
