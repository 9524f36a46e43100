"""The state of a video: our session, which also reads like the official dict.

Keys are worked out when they are read, from what the session holds; nothing is stored twice, so nothing can be changed
through them. Objects are counted from 0 in the order of their first prompts, as officially.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from sam2kit.media.clip import Clip
from sam2kit.predict.frame_masks import FrameMasks, FrameResult
from sam2kit.predict.geometry import frame_to_square, points_to_square
from sam2kit.predict.objects import TrackedObject
from sam2kit.predict.session import Session


class NormalisedFrames(Sequence[Tensor]):
    """All frames as the image encoder sees them, [3, S, S] float32 each; made when they are asked for."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, clip: Clip, side: int) -> None:
        self._clip, self._side = clip, side

    def __len__(self) -> int:
        return len(self._clip)

    @property
    def shape(self) -> torch.Size:
        """[T, 3, S, S]."""
        return torch.Size((len(self), 3, self._side, self._side))

    def size(self, axis: int | None = None) -> Any:
        """As `shape`, or one number of it."""
        return self.shape if axis is None else self.shape[axis]

    def to(self, *arguments: Any, **keywords: Any) -> Tensor:
        """[T, 3, S, S] in memory, as `Tensor.to`."""
        return torch.stack(list(self)).to(*arguments, **keywords)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return torch.stack([self[i] for i in range(len(self))[index]])
        return frame_to_square(self._clip.frame(range(len(self))[index]), self._side)


@dataclass(eq=False)
class InferenceState(Session, Mapping[str, Any]):
    """A Session that reads like the official `inference_state`; as of that, its length is the number of keys."""

    side: int = 1024  # edge of the model's square, in pixels
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    offload_video_to_cpu: bool = False
    offload_state_to_cpu: bool = False

    def clear(self, frame: int, object_id: Hashable) -> FrameMasks:
        """As of a Session; of answers that did not settle, nothing is left."""
        item = self.object(object_id)
        if item.settled is not None:
            _copy_frame(item.settled, item, frame)
        found = super().clear(frame, object_id)
        if item.settled is not None:
            _copy_frame(item, item.settled, frame)
        return found

    def __getitem__(self, key: str) -> Any:
        if key not in _KEYS:
            raise KeyError(
                f"the state has no {key!r}; it has {', '.join(_KEYS)}. Frames and results are kept in another way "
                "here: use the predictor's methods, or sam2kit.VideoPredictor"
            )
        return _KEYS[key](self)

    def __setitem__(self, key: str, value: object) -> None:
        self._refuse(f"{key!r} cannot be set")

    def __delitem__(self, key: str) -> None:
        self._refuse(f"{key!r} cannot be taken out")

    def pop(self, key: str, *default: object) -> NoReturn:
        """Raises TypeError."""
        self._refuse(f"{key!r} cannot be taken out")

    def update(self, *others: object, **values: object) -> NoReturn:
        """Raises TypeError."""
        self._refuse("it cannot be updated")

    def _refuse(self, why: str) -> NoReturn:
        raise TypeError(
            f"the state can only be read, so {why}; use the predictor's methods (reset_state, "
            "remove_object, clear_all_prompts_in_frame), or VideoPredictor.stream for frames that come one by one"
        )

    def __contains__(self, key: object) -> bool:
        return key in _KEYS

    def __iter__(self) -> Iterator[str]:
        return iter(_KEYS)

    def __len__(self) -> int:
        return len(_KEYS)

    __eq__, __hash__ = object.__eq__, object.__hash__  # as of a Session, not of a Mapping

    def _of_each(self, read: Callable[[TrackedObject], Any]) -> dict[int, Any]:
        return {number: read(item) for number, item in enumerate(self.objects.values())}

    def _points(self, item: TrackedObject) -> dict[int, dict[str, Tensor]]:
        found = {}
        for frame, prompt in item.prompts.items():
            clicks = prompt.points_and_labels
            if clicks is not None:
                square = points_to_square(clicks[0], self.clip.size_hw, self.side).to(self.device)
                found[frame] = {"point_coords": square, "point_labels": clicks[1].int().to(self.device)}
        return found

    def _masks(self, item: TrackedObject) -> dict[int, Tensor]:
        given = {frame: prompt for frame, prompt in item.prompts.items() if prompt.mask is not None}
        return {f: p.mask_in_square(self.side)[None, None].to(self.device) for f, p in given.items()}

    def _outputs(self, item: TrackedObject) -> dict[str, dict[int, dict[str, Tensor | None]]]:
        def output(frame: int, result: FrameResult) -> dict[str, Tensor | None]:
            memory = item.memories.get(frame)
            return {
                "pred_masks": result.low_res()[None].to(self.device),
                "obj_ptr": result.pointer[None],
                "object_score_logits": torch.tensor([[result.object_score]], device=self.device),
                "maskmem_features": None if memory is None else memory[None],
            }

        tracked = {f: r for f, r in item.tracked.items() if f not in item.prompted}
        return {
            "cond_frame_outputs": {f: output(f, r) for f, r in item.prompted.items()},
            "non_cond_frame_outputs": {f: output(f, r) for f, r in tracked.items()},
        }


def _copy_frame(known: TrackedObject, into: TrackedObject, frame: int) -> None:
    """Let an object have what is known of a frame, and nothing else there."""
    for name in ("prompted", "tracked", "directions", "memories"):
        getattr(into, name).pop(frame, None)
        if frame in getattr(known, name):
            getattr(into, name)[frame] = getattr(known, name)[frame]


_KEYS: dict[str, Callable[[InferenceState], Any]] = {
    "images": lambda s: NormalisedFrames(s.clip, s.side),
    "num_frames": lambda s: len(s.clip),
    "video_height": lambda s: s.clip.size_hw[0],
    "video_width": lambda s: s.clip.size_hw[1],
    "device": lambda s: s.device,
    "storage_device": lambda s: torch.device("cpu") if s.offload_state_to_cpu else s.device,
    "offload_video_to_cpu": lambda s: s.offload_video_to_cpu,
    "offload_state_to_cpu": lambda s: s.offload_state_to_cpu,
    "obj_ids": lambda s: list(s.object_ids),
    "obj_id_to_idx": lambda s: OrderedDict[Hashable, int]((o, i) for i, o in enumerate(s.object_ids)),
    "obj_idx_to_id": lambda s: OrderedDict[int, Hashable](enumerate(s.object_ids)),
    "point_inputs_per_obj": lambda s: s._of_each(s._points),
    "mask_inputs_per_obj": lambda s: s._of_each(s._masks),
    "output_dict_per_obj": lambda s: s._of_each(s._outputs),
    "frames_tracked_per_obj": lambda s: s._of_each(
        lambda item: {frame: {"reverse": reverse} for frame, reverse in item.directions.items()}
    ),
}
