"""The Image tab's handlers, called as plain functions."""

from __future__ import annotations

from pathlib import Path
from threading import Lock, Thread
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.ui.image_tab import ADD, BOX, REMOVE, ImageTab, thumbnails
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.sessions import SessionStore


@pytest.fixture
def tab(nano: SAM2, assets: Path) -> ImageTab:
    """A tab with one visitor, "me", who has opened the coffee photo."""
    photos = sorted((assets / "photos").glob("*.jpg"))
    tab = ImageTab(ImagePredictor(nano, lock=Lock()), SessionStore(PictureWork), photos)
    tab.open_example([p.stem for p in photos].index("coffee"), "me", ADD)
    return tab


def at(x: int, y: int) -> SimpleNamespace:
    return SimpleNamespace(index=[x, y])


def picture_of(updates: list) -> np.ndarray:
    return updates[1]["value"]


def test_every_step_answers_with_all_parts(tab: ImageTab) -> None:
    plain = picture_of(tab.undo("me"))
    clicked = tab.click("me", ADD, at(464, 96))
    assert len(clicked) == 6
    assert not np.array_equal(picture_of(clicked), plain)
    assert len(clicked[4]["choices"]) == 3
    other = (clicked[4]["value"] + 1) % 3
    assert tab.choose("me", other)[4]["value"] == other
    tab.click("me", REMOVE, at(30, 600))
    assert [c[0] for c in tab.new_object("me")[3]["choices"]] == ["Object 1", "Object 2"]
    assert "opposite corner" in tab.click("me", BOX, at(520, 304))[2]
    tab.click("me", BOX, at(656, 528))
    assert tab.select("me", 0)[3]["value"] == 0
    tab.clear("me")
    for _ in range(10):
        last = tab.undo("me")
    assert np.array_equal(picture_of(last), plain)


@pytest.mark.parametrize("kind", ["mask", "cutout", "coco"])
def test_downloads_are_named_after_the_photo_and_go_with_the_visitor(tab: ImageTab, kind: str) -> None:
    with pytest.raises(gr.Error, match="click on something"):
        tab.make_file("me", kind)
    tab.click("me", ADD, at(464, 96))
    path = Path(tab.make_file("me", kind))
    assert path.name.startswith("coffee_")
    assert path.stat().st_size > 0
    tab.leave("me")
    assert not path.exists()


def test_stop_ends_the_search_and_changes_nothing(tab: ImageTab) -> None:
    tab.click("me", ADD, at(464, 96))
    before = picture_of(tab.select("me", 0))
    tab.begin("me")
    tab.stop("me")  # while the job still waits for its turn
    stopped = tab.find_everything("me", 8, 0.3, 0.5, progress=lambda *_, **__: None)
    assert "Stopped" in stopped[2]
    assert np.array_equal(picture_of(stopped), before)
    tab.begin("me")
    found = tab.find_everything("me", 4, 0.3, 0.5, progress=lambda *_, **__: None)
    assert "masks found" in found[2]


def test_a_new_photo_ends_a_search_on_the_old_one(tab: ImageTab) -> None:
    tab.begin("me")

    def change_photo(*_: object, **__: object) -> None:
        tab.open_example(0, "me", ADD)

    result = tab.find_everything("me", 8, 0.3, 0.5, progress=change_photo)
    assert "Stopped" in result[2]
    with tab.store.using("me") as work:
        assert work.finished() == []


def test_nobody_waits_for_a_search(tab: ImageTab) -> None:
    """While one visitor's search runs, that visitor and others can click."""
    tab.begin("me")
    clicked = []

    def click_meanwhile(*_: object, **__: object) -> None:
        if not clicked:
            clicked.append(tab.click("me", ADD, at(464, 96)))
            tab.open_example(0, "you", ADD)
            clicked.append(tab.click("you", ADD, at(300, 300)))

    search = Thread(target=tab.find_everything, args=("me", 8, 0.3, 0.5, click_meanwhile), daemon=True)
    search.start()
    search.join(60)
    assert not search.is_alive()
    assert len(clicked) == 2


def test_a_bad_upload_keeps_the_open_photo(tab: ImageTab, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    kept = tab.open_picture("me", str(tmp_path / "bad.jpg"), ADD)
    assert kept[1]["visible"] is True
    fresh = tab.open_picture("new visitor", str(tmp_path / "bad.jpg"), ADD)
    assert fresh[1]["visible"] is False


def test_clicking_without_a_photo(tab: ImageTab) -> None:
    assert tab.click("nobody", ADD, at(1, 1))[1]["visible"] is False


def test_thumbnails_are_small(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "a.jpg")
    ((thumbnail,),) = thumbnails([tmp_path / "a.jpg"])
    assert max(thumbnail.shape) <= 400
