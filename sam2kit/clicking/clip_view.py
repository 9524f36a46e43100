"""What is seen of a clip that is worked on: the current frame as a scene, and the list of objects."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from sam2kit.clicking.clicked_clip import ClickedClip
from sam2kit.clicking.messages import ShownObject, scene_message
from sam2kit.clicking.object_list import PREDICTED_IOU, ListedObject, list_message, thumbnail_of
from sam2kit.clicking.views import view_of, view_size
from sam2kit.predict.session import VideoSession


def clip_scene(work: ClickedClip, key: str, scene: str, *, editable: bool = True) -> dict[str, Any]:
    """The current frame for the click surface; arguments as for `scene_message`."""
    session = work.open_session
    picture = view_of(session.clip.frame(work.frame))
    masks = masks_at(session, work.frame, picture.shape[:2])
    colours = colours_of(work)
    shown = [ShownObject(n, name, masks.get(n), colours.get(n)) for n, name in work.objects.names.items()]
    prompt, size_hw = work.asked(work.objects.active), session.clip.size_hw
    points = [(x, y, label) for (x, y), label in zip(prompt.points_xy, prompt.labels, strict=True)]
    return scene_message(
        key, scene, picture, size_hw, shown, work.objects.active, points, prompt.box_xyxy, editable=editable
    )


def shown_object(work: ClickedClip, number: int) -> ShownObject:
    """One object on the current frame, for the click surface."""
    session = work.open_session
    masks = masks_at(session, work.frame, view_size(session.clip.size_hw))
    return ShownObject(number, work.objects.names[number], masks.get(number), colours_of(work).get(number))


def colours_of(work: ClickedClip) -> dict[int, int]:
    """Object number -> its colour, see ObjectColours.of, of those that have one; chosen where it was prompted first."""
    session, known = work.open_session, [number for number in work.objects.names if number in work.used]
    work.colours.keep(known)
    for number in known:
        track = session.tracks.get(number)
        if number not in work.colours and track is not None and track.prompted:
            frame = min(track.prompted)
            picture = view_of(session.clip.frame(frame))
            work.colours.give(number, picture, masks_at(session, frame, picture.shape[:2])[number])
    return {number: work.colours.of(number) for number in known}


def list_of(work: ClickedClip) -> dict[str, Any]:
    """The list of objects, with what is known of each on the current frame."""
    session = work.open_session
    known = session.masks(work.frame)
    results = dict(zip(known.object_ids, known.results, strict=True))
    rows, colours = [], colours_of(work)
    for number, name in work.objects.names.items():
        result, track = results.get(number), session.tracks.get(number)
        note = "" if track else "click it"
        if result is not None:
            seen = result.present or result.prompted
            note = f"predicted IoU {result.predicted_iou:.2f}" if seen else "not in the picture"
        thumbnail = _thumbnail(work, number, colours.get(number))
        rows.append(ListedObject(number, name, note, thumbnail, colours.get(number), PREDICTED_IOU))
    return list_message(rows, work.objects.active)


def _thumbnail(work: ClickedClip, number: int, colour: int | None) -> str:
    """From the first frame on which the object was prompted; made again when that answer changes."""
    session = work.open_session
    track = session.tracks.get(number)
    if track is None or not track.prompted:
        return ""
    frame = min(track.prompted)
    result = track.prompted[frame]
    known = work.thumbnails.get(number)
    if known is None or known[0] is not result:
        picture = view_of(session.clip.frame(frame))
        mask = masks_at(session, frame, picture.shape[:2])[number]
        known = work.thumbnails[number] = (result, thumbnail_of(picture, mask, colour))
    return known[1]


def masks_at(session: VideoSession, frame: int, size_hw: tuple[int, int]) -> dict[int, np.ndarray]:
    """Object number -> bool [H, W] mask at a size."""
    known = session.masks(frame)
    ids = cast(tuple[int, ...], known.object_ids)  # a session takes any ids; those of a ClickedClip are numbers
    return dict(zip(ids, (known.logits_at(size_hw) > 0).numpy(), strict=True))
