"""What the health strip needs to know of each frame, read from a session; areas are worked out once per answer."""

from __future__ import annotations

from collections.abc import Hashable

from sam2kit.predict.frame_masks import FrameResult
from sam2kit.predict.session import ObjectTrack, VideoSession
from sam2kit.ui.health import Reading


class Readings:
    """Readings of a session's objects, with a memory for areas."""

    def __init__(self) -> None:
        self._areas: dict[tuple[Hashable, int], tuple[FrameResult, float]] = {}

    def of(self, object_id: Hashable, session: VideoSession) -> list[Reading | None]:
        """One reading per frame; None where the object has no answer."""
        track = session.tracks.get(object_id) or ObjectTrack()
        return [self._read(object_id, track, frame) for frame in range(len(session))]

    def _read(self, object_id: Hashable, track: ObjectTrack, frame: int) -> Reading | None:
        result = track.result(frame)
        if result is None:
            return None
        known = self._areas.get((object_id, frame))
        if known is None or known[0] is not result:
            known = (result, float((result.low_res() > 0).float().mean()))
            self._areas[object_id, frame] = known
        return Reading(result.present or result.prompted, result.predicted_iou, known[1], frame in track.prompts)
