"""What the browser and the server tell each other: checked, packed without loss, stale or refused where it must be."""

from __future__ import annotations

import base64
import io
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2kit.clicking.messages import MAX_POINTS, PromptRequest, ShownObject, mask_png, scene_message
from sam2kit.ui.asking import answer_preview, answer_request
from sam2kit.ui.sessions import SessionStore

GOOD = {"key": "k", "scene": "1", "sequence": 3, "number": 0, "points": [[1.5, 2, 1]], "box": [8, 5, 1, 2]}


def test_a_request_is_read() -> None:
    request = PromptRequest.read(GOOD)
    assert request.points == ((1.5, 2.0, 1),)
    assert request.box_xyxy == (1, 2, 8, 5), "corners come in any order"
    assert request.within((5, 8)).box_xyxy == (1, 2, 7, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"key": None}, {"key": "k" * 101}, {"scene": 1}, {"sequence": -1}, {"sequence": "3"}, {"sequence": 2**60},
        {"sequence": True}, {"number": 1.5}, {"number": 10**9}, {"points": None}, {"points": [[1, 2]]},
        {"points": [[1, 2, 7]]}, {"points": [[1, "2", 1]]}, {"points": [[float("nan"), 2, 1]]},
        {"points": [[float("inf"), 2, 1]]}, {"points": [[1, 2, 1]] * (MAX_POINTS + 1)}, {"box": [1, 2, 3]},
        {"box": "1,2,3,4"}, {"box": [1, 2, 3, None]}, {"points": {"0": [1, 2, 1]}},
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_in_a_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=" "):
        PromptRequest.read({**GOOD, **change})


def test_anything_may_come(tmp_path: object) -> None:
    store: SessionStore[list] = SessionStore(list)
    for sent in (None, 1, "x", [], {}, {"key": []}, GOOD):
        answer = answer_request(sent, store, lambda work, request: pytest.fail("nothing is to be done"))
        assert answer["refused"] is True
        assert answer["says"]
    assert len(store) == 0, "a guessed key makes no work"


def test_points_outside_the_picture_are_refused_and_those_on_the_border_are_moved() -> None:
    request = PromptRequest.read({**GOOD, "points": [[-1, 4.9, 1]], "box": None})
    assert request.within((5, 8)).points == ((0.0, 4.0, 1),)
    with pytest.raises(ValueError, match="outside the 8x5 picture"):
        PromptRequest.read({**GOOD, "points": [[1, 40, 1]], "box": None}).within((5, 8))


def test_masks_travel_as_one_bit_per_pixel_without_loss() -> None:
    mask = np.random.default_rng(0).random((37, 53)) > 0.7
    sent = base64.b64decode(mask_png(mask))
    image = Image.open(io.BytesIO(sent))
    assert image.mode == "1"
    assert np.array_equal(np.array(image), mask)
    assert mask_png(np.zeros((5, 5), bool)) == ""
    assert mask_png(None) == ""


def test_a_scene_holds_everything() -> None:
    mask = np.ones((4, 6), bool)
    shown = [ShownObject(0, "cup", mask), ShownObject(9, "spoon")]
    scene = scene_message("k", "7", np.zeros((4, 6, 3), np.uint8), (40, 60, 3), shown, 9, [(1, 2, 0)], (1, 2, 3, 4))
    assert scene["size"] == [60, 40]
    assert scene["picture"].startswith("data:image/jpeg;base64,")
    assert [o["name"] for o in scene["objects"]] == ["cup", "spoon"]
    assert scene["objects"][1]["mask"] == ""
    assert (scene["points"], scene["box"], scene["active"]) == ([[1.0, 2.0, 0]], [1.0, 2.0, 3.0, 4.0], 9)


def opened() -> SessionStore[list]:
    store: SessionStore[list] = SessionStore(list)
    with store.using("k"):
        pass
    return store


def remember(work: list, request: PromptRequest) -> ShownObject:
    work.append(request.sequence)
    return ShownObject(request.number, "cup")


def test_a_request_that_was_overtaken_while_it_waited_is_not_carried_out() -> None:
    store, answers, began = opened(), {}, Event()

    def ask(sequence: int) -> None:
        answers[sequence] = answer_request({**GOOD, "sequence": sequence}, store, remember)

    with store.using("k"):
        threads = [Thread(target=ask, args=(n,)) for n in (1, 2, 3)]
        for thread in threads:
            thread.start()
            began.wait(0.05)
    for thread in threads:
        thread.join(10)
    with store.using("k") as work:
        assert work == [3], "only the newest counts: it holds all prompts"
    assert answers[1]["stale"]
    assert answers[2]["stale"]
    assert answers[3]["object"]["name"] == "cup"
    assert answers[3]["points"] == [[1.5, 2.0, 1]]


def test_a_preview_never_waits_and_leaves_no_number_behind() -> None:
    store, seen = opened(), []
    with store.using("k"):
        thread = Thread(
            target=lambda: seen.append(answer_preview({**GOOD, "sequence": 99}, store, remember, busy=False))
        )
        thread.start()
        thread.join(10)
    assert seen[0]["stale"]
    assert answer_preview(GOOD, store, remember, busy=True)["stale"], "others are asking"
    assert "stale" not in answer_preview(GOOD, store, remember, busy=False)
    assert "stale" not in answer_request({**GOOD, "sequence": 4}, store, remember)


def test_errors_become_sentences_without_paths() -> None:
    def fail(work: list, request: PromptRequest) -> ShownObject:
        raise ValueError("there is no file /srv/secret/place/cat.jpg")

    def full(work: list, request: PromptRequest) -> ShownObject:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    assert answer_request(GOOD, opened(), fail)["says"] == "there is no file cat.jpg"
    assert "no memory left" in answer_request(GOOD, opened(), full)["says"]


def test_versions_tell_what_came_later() -> None:
    scene = scene_message("k", "1", np.zeros((4, 6, 3), np.uint8), (4, 6), [], 0)
    answer = answer_request(GOOD, opened(), remember)
    assert answer["version"] > scene["version"]
    assert answer["scene"] == "1"
