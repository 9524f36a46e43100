"""The editor and the canvas: what they tell each other, colours, candidates, undo; and how few calls a click takes."""

from __future__ import annotations

import base64
import io
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sam2kit
from sam2kit.app.canvas import MAX_POINTS, PromptRequest, inside, mask_png
from sam2kit.app.editor import Editor, ObjectColours
from sam2kit.app.store import TabStore
from sam2kit.app.tab import answer_request
from sam2kit.app.timeline import TimelineRow, column_states, place_at_share, row_picture, timeline_html
from sam2kit.media.drawing import PALETTE, colour_of, contrasting_colour
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions
from sam2kit.predict.objects import TrackedObject
from sam2kit.predict.session import MOST_OBJECTS, Session
from sam2kit.predict.tracking_quality import LOST, PRESENT, UNCERTAIN, UNTRACKED
from sam2kit.predict.video import VideoPredictor
from tests.app.clicks import Canvas, models_of, tab_of
from tests.toy_model import toy_model

PACKAGE = Path(sam2kit.__file__).parent
STROKE = {"path": [[1, 2], [5, 2]], "radius": 1.5, "adds": True}
GOOD = {"key": "k", "scene": "1", "sequence": 3, "number": 1, "points": [[1.5, 2, 1]], "box": [8, 5, 1, 2]}


# what a browser sends


def test_a_request_is_read_and_moved_into_the_picture() -> None:
    request = PromptRequest.read(GOOD)
    points, labels, box = inside(request, (5, 8))
    assert (points.tolist(), labels.tolist()) == ([[1.5, 2]], [1])
    assert box is not None and box.tolist() == [1, 2, 7, 4], "corners come in any order"
    border = PromptRequest.read({**GOOD, "points": [[-1, 4.9, 1]], "box": None})
    assert inside(border, (5, 8))[0].tolist() == [[0, 4]]
    for place in (40, math.inf, -math.inf, 1e300):
        with pytest.raises(ValueError, match="lies outside the 8x5 picture"):
            inside(PromptRequest.read({**GOOD, "points": [[1, place, 1]]}), (5, 8))


@pytest.mark.parametrize(
    "change",
    [
        {"key": None}, {"key": "k" * 201}, {"scene": 1}, {"sequence": -1}, {"sequence": "3"}, {"sequence": 2**60},
        {"sequence": True}, {"number": 1.5}, {"number": 10**9}, {"points": None}, {"points": [[1, 2]]},
        {"points": [[1, "2", 1]]}, {"points": [[1, 2, 1]] * (MAX_POINTS + 1)}, {"box": [1, 2, 3]}, {"box": []},
        {"strokes": {}}, {"strokes": [STROKE] * 51}, {"strokes": [[]]}, {"strokes": [{**STROKE, "path": []}]},
        {"strokes": [{**STROKE, "path": [[1]]}]}, {"strokes": [{**STROKE, "path": [[1, math.nan]]}]},
        {"strokes": [{**STROKE, "radius": 0}]}, {"strokes": [{**STROKE, "radius": "9"}]},
        {"strokes": [{**STROKE, "adds": 1}]}, {"strokes": [{**STROKE, "path": [[1, 2]] * 5001}] * 2},
        {"box": "1,2,3,4"}, {"box": [1, 2, 3, None]},
        {"points": {"0": [1, 2, 1]}}, {"points": [[1, 2, True]]},
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_in_a_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=" "):
        PromptRequest.read({**GOOD, **change})


def test_a_stroke_covers_what_lies_within_its_width() -> None:
    y, x = np.mgrid[:40, :60]
    for path in ([[12.3, 20.4]], [[12, 20], [40, 20]], [[-30, 20], [70.5, 20]]):
        sent = {"path": path, "radius": 6, "adds": True}
        (stroke,) = PromptRequest.read({**GOOD, "strokes": [sent]}).strokes
        (x0, y0), (x1, _) = path[0], path[-1]
        distance = np.hypot(x - x.clip(x0, x1), y - y0)
        assert np.abs(distance - 6)[stroke.drawn(np.zeros((40, 60), bool)) != (distance <= 6)].max(initial=0) < 1
        before = np.random.default_rng(0).random((40, 60)) > 0.5
        assert np.array_equal(stroke.drawn(before), before | stroke.drawn(np.zeros_like(before)))
        erased = replace(stroke, adds=False).drawn(before)
        assert np.array_equal(erased, before & ~stroke.drawn(np.zeros_like(before)))


def test_masks_travel_as_one_bit_per_pixel_without_loss() -> None:
    mask = np.random.default_rng(0).random((37, 53)) > 0.7
    image = Image.open(io.BytesIO(base64.b64decode(mask_png(mask))))
    assert image.mode == "1"
    assert np.array_equal(np.array(image), mask)
    assert mask_png(np.zeros((5, 5), bool)) == ""


def opened() -> TabStore[list]:
    store: TabStore[list] = TabStore(list)
    with store.using("k"):
        pass
    return store


def remember(work: list, request: PromptRequest) -> dict[str, Any]:
    work.append(request.sequence)
    return {"done": request.sequence}


def ask(sent: Any, store: TabStore[list], act: Callable[..., dict[str, Any]] = remember) -> dict[str, Any]:
    return answer_request(sent, lambda request: store.newest(request.key, request.sequence), act)


def preview(sent: Any, store: TabStore[list], *, busy: bool = False) -> dict[str, Any]:
    return answer_request(sent, lambda request: nullcontext() if busy else store.if_free(request.key), remember)


def test_anything_may_come() -> None:
    store: TabStore[list] = TabStore(list)
    for sent in (None, 1, "x", [], {}, {"key": []}, GOOD):
        answer = ask(sent, store, lambda work, request: pytest.fail("nothing is to be done"))
        assert answer["refused"] is True
        assert answer["says"]
    with store.still("k") as work:
        assert work is None, "a guessed key makes no work"


def test_a_request_that_was_overtaken_while_it_waited_is_not_carried_out() -> None:
    store, answers, began = opened(), {}, Event()

    def wait(sequence: int) -> None:
        answers[sequence] = ask({**GOOD, "sequence": sequence}, store)

    with store.using("k"):
        threads = [Thread(target=wait, args=(n,)) for n in (1, 2, 3)]
        for thread in threads:
            thread.start()
            began.wait(0.05)
    for thread in threads:
        thread.join(10)
    with store.using("k") as work:
        assert work == [3], "only the newest counts: it holds all prompts"
    assert answers[1]["stale"] and answers[2]["stale"]
    assert answers[3] == {"done": 3}


def test_a_preview_never_waits_and_leaves_no_number_behind() -> None:
    store, seen = opened(), []
    with store.using("k"):
        thread = Thread(target=lambda: seen.append(preview({**GOOD, "sequence": 99}, store)))
        thread.start()
        thread.join(10)
    assert seen[0]["stale"]
    assert preview(GOOD, store, busy=True)["stale"], "others are asking"
    assert "stale" not in preview(GOOD, store)
    assert "stale" not in ask({**GOOD, "sequence": 4}, store)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("there is no file /srv/secret/place/cat.jpg"), "there is no file cat.jpg"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "no memory left"),
    ],
)
def test_errors_become_sentences_without_paths(error: Exception, says: str) -> None:
    def fail(work: list, request: PromptRequest) -> dict[str, Any]:
        raise error

    assert says in ask(GOOD, opened(), fail)["says"]


# the editor


@pytest.fixture
def picture() -> Editor:
    predictor = VideoPredictor(toy_model())
    return Editor(predictor.open(np.zeros((40, 60, 3), np.uint8)), predictor)


def asks(editor: Editor, points: list, box: list | None = None, number: int | None = None) -> dict[str, Any]:
    """All prompts of an object, as the canvas sends them."""
    number = editor.active.number if number is None else number
    sent = {"key": "", "scene": editor.scene_name, "sequence": 1, "number": number, "points": points, "box": box}
    return editor.answer(PromptRequest.read(sent))


def test_a_new_object_has_a_name_of_its_own(picture: Editor, tmp_path: Path) -> None:
    """A session with a name twice could not be opened again."""
    asks(picture, [[5, 5, 1]])
    picture.rename(1, "Object 2")
    picture.new_object()
    asks(picture, [[9, 9, 1]])
    everything = AutomaticOptions(points_per_side=2, min_predicted_iou=-1, min_stability=-1, max_box_overlap=1)
    found = AutomaticMasks(toy_model(), everything).generate(picture.view())
    picture.predictor.add_found(picture.session, 0, found)
    assert picture.names[0] == "Object 2"
    assert len(set(picture.names)) == len(picture.names) == 2 + len(found) > 3
    path = picture.session.save(tmp_path / "a.safetensors")
    assert Editor(Session.load(path), picture.predictor).names == picture.names


def test_there_is_always_one_object_and_an_empty_one_is_used_first(picture: Editor) -> None:
    assert picture.names == ["Object 1"]
    picture.new_object()
    assert picture.names == ["Object 1"], "it has no prompts yet"
    before = picture.scene()
    assert asks(picture, [[5, 5, 1]])["version"] > before["version"], "versions tell what came later"
    picture.clear()
    assert (picture.names, picture.shown(picture.active)["note"]) == (["Object 1"], "click it")
    picture.undo()
    assert picture.active.prompts
    picture.remove(1)
    assert picture.names == ["Object 1"] and picture.active.is_empty
    picture.undo()
    picture.undo()
    assert not picture.active.prompts and not picture.can_undo


def test_no_more_objects_than_a_session_may_have(picture: Editor) -> None:
    for number in range(MOST_OBJECTS - 1):
        item = TrackedObject()
        item.prompts[0] = None  # type: ignore[assignment]
        picture.session.put_object(number + 100, item)
    asks(picture, [[5, 5, 1]], number=1)
    with pytest.raises(ValueError, match="would be 1001 objects, and 1000 are the most; remove some first"):
        picture.new_object()


def test_requests_about_something_else_are_refused(picture: Editor) -> None:
    with pytest.raises(ValueError, match="no such object"):
        asks(picture, [[1, 1, 1]], number=5)
    with pytest.raises(ValueError, match="outside the 60x40 picture"):
        asks(picture, [[90, 1, 1]])
    with pytest.raises(ValueError, match=r"labels must be 1 \(this\) or 0"):
        asks(picture, [[9, 1, 7]])
    picture.serial += 1
    with pytest.raises(ValueError, match="another picture"):
        picture.answer(PromptRequest.read({**GOOD, "scene": "0.0"}))


# colours


def test_a_colour_keeps_away_from_the_pixels_and_from_other_objects() -> None:
    for number in range(len(PALETTE)):
        own = np.full((500, 3), colour_of(number), np.uint8)
        assert contrasting_colour(own, number) != number
    striped = np.array([colour_of(0), colour_of(1)] * 300, np.uint8)
    assert contrasting_colour(striped) not in (0, 1), "neither of what is striped so"
    grey = np.full((9, 3), 128, np.uint8)
    first = contrasting_colour(grey)
    assert contrasting_colour(grey, used=[first]) != first
    assert contrasting_colour(grey, used=range(len(PALETTE))) == first, "all are used: again from the beginning"
    assert contrasting_colour(np.zeros((0, 3), np.uint8), 3) == 3


def test_a_colour_once_given_stays_until_its_object_goes() -> None:
    view, masks = np.full((40, 80, 3), 120, np.uint8), np.zeros((2, 40, 80), bool)
    for i, mask in enumerate(masks):
        mask[10:30, 40 * i + 10 : 40 * i + 30] = True
        view[mask] = colour_of(i)
    colours = ObjectColours()
    for number, mask in enumerate(masks, start=1):
        colours.give(number, view, mask)
    given = [colour_of(colours.of(number)) for number in (1, 2)]
    assert given[0] not in (colour_of(0), given[1]) and given[1] != colour_of(1)
    colours.give(1, np.full_like(view, given[0]), masks[0])
    assert colour_of(colours.of(1)) == given[0], "its mask looks different now"
    assert len({colours.of(number) for number in range(1, 31)}) == 30, "another number for each, where colours repeat"
    colours.keep([2])
    assert 1 not in colours.places and colour_of(colours.of(2)) == given[1]
    colours.give(1, view, np.zeros_like(masks[0]))
    assert 1 not in colours.places, "an empty mask has no colour to keep away from"


# the timeline


def test_the_worst_of_a_column_is_shown() -> None:
    states = np.full(6000, PRESENT, np.uint8)
    states[3507] = LOST
    columns = column_states(states)
    assert len(columns) == len(column_states(states[:601])) == 600
    assert np.flatnonzero(columns == LOST).tolist() == [350]


def test_the_height_of_a_bar_says_the_state() -> None:
    picture = row_picture(np.array([UNTRACKED, PRESENT, UNCERTAIN, LOST], np.uint8), (1, 2, 3))
    heights = (picture[..., 3] > 0).sum(axis=0)
    assert heights[1] > heights[2] > heights[3] > heights[0] == 0


def test_clicks_reach_every_frame_and_names_are_text() -> None:
    assert [place_at_share(share, 4) for share in (-0.1, 0, 0.26, 0.999, 1.2)] == [0, 0, 1, 3, 3]
    page = timeline_html([TimelineRow("<script>alert(1)</script>", 1, 0, np.zeros(3, np.uint8), [1])], 2)
    assert "<script" not in page
    assert page.count("◆") == 2, "in the row, and in the legend"


def test_buttons_go_where_help_is_needed_until_it_would_hardly_pay() -> None:
    states = np.full(20, PRESENT, np.uint8)
    rows = [TimelineRow("<b>cup</b>", 7, 0, states, [0])]
    assert "help" not in timeline_html(rows, 0)
    assert "hardly pay: no frame is uncertain" in timeline_html(rows, 0, range(100, 140, 2))
    states[12:18] = UNCERTAIN
    page = timeline_html(rows, 0, range(100, 140, 2))
    assert 'data-number="7" data-place="12"' in page and "&lt;b&gt;cup&lt;/b&gt;, frame 124</button>" in page
    rows[0] = replace(rows[0], prompted=[0, 12], corrected=[12])
    states[12] = PRESENT
    assert "Track again to see" in timeline_html(rows, 0, range(100, 140, 2)), "it is corrected"
    states[14:18] = PRESENT
    rows[0] = replace(rows[0], corrected=[])
    assert "hardly pay: the 1 that are uncertain or lost lie apart" in timeline_html(rows, 0, range(100, 140, 2))


# the walk of a click

MOST_CALLS = 28


def called(act: Any) -> list[str]:
    """The functions that are called from another module of ours, in the order of their first call.

    What happens inside a module, or inside model/, is one step for who follows a click; so is to make a value, to take
    a lock, or to read a property.
    """
    found: dict[str, None] = {}

    def module_of(frame: FrameType | None) -> Path | None:
        while frame is not None and PACKAGE not in (path := Path(frame.f_code.co_filename)).parents:
            frame = frame.f_back
        return None if frame is None else path

    def watch(frame: FrameType, event: str, _: Any) -> None:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
        if (
            event != "call"
            or PACKAGE not in path.parents
            or path.parent.name == "model"
            or name.startswith(("<", "__"))
        ):
            return
        is_property = isinstance(getattr(type(frame.f_locals.get("self")), name, None), property)
        if not is_property and module_of(frame.f_back) != path:
            found.setdefault(f"{path.stem}.{name}")

    sys.setprofile(watch)
    try:
        act()
    finally:
        sys.setprofile(None)
    return list(found)


def test_a_click_is_one_trip_of_few_calls(nano: SAM2, assets: Path) -> None:
    """From the request to the answer that holds mask, row and candidates; counted on the second click."""
    tab = tab_of("image", models_of(nano), [assets / "photos" / "coffee.jpg"])
    tab.open_example(0, "me")
    canvas = Canvas(tab)
    canvas.clicks(290, 60)
    request = canvas.request([[290, 60, 1], [100, 300, 0]])
    answers: list[dict[str, Any]] = []
    calls = called(lambda: answers.append(tab.ask(request)))
    assert answers[0]["object"]["mask"] and answers[0]["object"]["picture"] and answers[0]["page"]
    print(len(calls), *calls, sep="\n")
    assert len(calls) <= MOST_CALLS, calls
