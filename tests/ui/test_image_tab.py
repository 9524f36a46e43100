"""The Image tab's handlers, called as plain functions."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from sam2kit.model.sam2 import SAM2
from sam2kit.ui.image_layout import thumbnails
from sam2kit.ui.image_page import SKIP, ImagePage
from sam2kit.ui.image_tab import ADD, BOX, DOWNLOADS, REMOVE, ImageTab
from sam2kit.ui.limits import Limits
from sam2kit.ui.networks import Network, Networks
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns


@pytest.fixture
def tab(nano: SAM2, assets: Path) -> ImageTab:
    """A tab with plain pictures and one visitor, "me", who has opened the coffee photo."""
    return make_tab(nano, assets, plain=True)


@pytest.fixture
def surface_tab(nano: SAM2, assets: Path) -> ImageTab:
    """The same with the click surface."""
    return make_tab(nano, assets, plain=False)


def make_tab(nano: SAM2, assets: Path, *, plain: bool) -> ImageTab:
    photos = sorted((assets / "photos").glob("*.jpg"))
    networks = Networks(Network.of(nano, "nano", Turns()))
    tab = ImageTab(networks, SessionStore(PictureWork, discard=PictureWork.close), photos, plain=plain)
    tab.open_example([p.stem for p in photos].index("coffee"), "me")
    return tab


def at(x: int, y: int) -> SimpleNamespace:
    return SimpleNamespace(index=[x, y])


def about(number: int, **more: object) -> SimpleNamespace:
    """An event of the list of objects."""
    return SimpleNamespace(_data={"number": number, **more})


def chosen(candidate: int) -> SimpleNamespace:
    """An event of the candidates."""
    return SimpleNamespace(_data={"candidate": candidate})


def picture_of(page: ImagePage) -> np.ndarray:
    return page.view["value"]


def names_in(page: ImagePage) -> list[str]:
    return [row["name"] for row in page.objects["rows"]]


def everything(tab: ImageTab, side: int = 8) -> ImagePage:
    """The last page of "segment everything"."""
    return list(tab.find_everything("me", side, 0.3, 0.5))[-1]


def test_every_step_answers_with_all_parts(tab: ImageTab) -> None:
    plain = picture_of(tab.undo("me"))
    clicked = tab.click("me", ADD, at(464, 96))
    assert not np.array_equal(picture_of(clicked), plain)
    assert len(clicked.candidates["rows"]) == 3
    other = (clicked.candidates["chosen"] + 1) % 3
    assert tab.choose("me", chosen(other)).candidates["chosen"] == other
    tab.click("me", REMOVE, at(30, 600))
    assert names_in(tab.new_object("me")) == ["Object 1", "Object 2"]
    assert "opposite corner" in tab.click("me", BOX, at(520, 304)).status
    tab.click("me", BOX, at(656, 528))
    assert tab.pick("me", about(0)).objects["active"] == 0
    tab.clear("me")
    for _ in range(10):
        last = tab.undo("me")
    assert np.array_equal(picture_of(last), plain)


def test_objects_have_names_and_thumbnails_and_can_go(tab: ImageTab) -> None:
    page = tab.click("me", ADD, at(464, 96))
    (row,) = page.objects["rows"]
    assert row["picture"].startswith("data:image/jpeg")
    assert row["note"].startswith("predicted IoU 0.")
    assert names_in(tab.rename("me", about(0, name="  my   cup "))) == ["my cup"]
    tab.new_object("me")
    tab.click("me", ADD, at(590, 440))
    assert names_in(tab.rename("me", about(1, name="my cup"))) == ["my cup", "Object 2"], "a name is there once"
    assert names_in(tab.drop("me", about(0))) == ["Object 2"]
    assert names_in(tab.undo("me")) == ["my cup", "Object 2"]
    assert tab.pick("me", SimpleNamespace(_data=["0"])).objects["active"] == 1, "what is no event changes nothing"
    tab.drop("me", about(77))


def asked(scene: dict, sequence: int, points: list, box: list | None = None) -> dict:
    return {
        "key": scene["key"], "scene": scene["scene"], "sequence": sequence, "number": scene["active"],
        "points": points, "box": box,
    }  # fmt: skip


def test_the_surface_asks_with_all_prompts_and_gets_a_mask(surface_tab: ImageTab) -> None:
    scene = surface_tab.undo("me").view["value"]
    assert scene["size"] == [600, 400]
    click, more = [290, 60, 1], [100, 300, 0]
    one = surface_tab.ask(asked(scene, 1, [click]))
    two = surface_tab.ask(asked(scene, 2, [click, more]))
    assert one["object"]["mask"] != two["object"]["mask"]
    assert two["points"] == [[290.0, 60.0, 1], [100.0, 300.0, 0]]
    back = surface_tab.ask(asked(scene, 3, [click]))
    assert back["object"]["mask"] == one["object"]["mask"], "a click that is taken away leaves no trace"
    assert surface_tab.ask(asked(scene, 2, []))["stale"]
    assert surface_tab.ask(asked(scene, 4, []))["object"]["mask"] == ""
    boxed = surface_tab.ask(asked(scene, 5, [], [325, 190, 410, 330]))
    assert boxed["object"]["mask"]
    page = surface_tab.answered("me")
    assert page.objects["rows"][0]["picture"]
    assert "undo" not in str(page.view), "the surface follows by itself"
    assert surface_tab.undo("me").view["value"]["objects"][0]["mask"] == ""


def test_a_preview_changes_nothing(surface_tab: ImageTab) -> None:
    scene = surface_tab.undo("me").view["value"]
    seen = surface_tab.preview(asked(scene, 1, [[290, 60, 1]]))
    assert seen["object"]["mask"]
    assert surface_tab.undo("me").view["value"]["objects"][0]["mask"] == ""
    assert surface_tab.ask(asked(scene, 1, [[290, 60, 1]]))["object"]["mask"] == seen["object"]["mask"]


def test_requests_about_another_photo_or_visitor_are_refused(surface_tab: ImageTab) -> None:
    scene = surface_tab.undo("me").view["value"]
    surface_tab.open_example(0, "me")
    assert "another picture" in surface_tab.ask(asked(scene, 1, [[290, 60, 1]]))["says"]
    assert "put away" in surface_tab.ask({**asked(scene, 1, []), "key": "guessed"})["says"]
    assert "outside the" in surface_tab.ask(asked(surface_tab.undo("me").view["value"], 2, [[9999, 60, 1]]))["says"]
    with surface_tab.store.using("me") as work:
        assert work.finished() == []


def test_a_session_is_saved_and_opened_by_another_visitor(tab: ImageTab, tmp_path: Path) -> None:
    tab.click("me", ADD, at(464, 96))
    tab.rename("me", about(0, name="cup"))
    before = picture_of(tab.new_object("me"))
    saved = tmp_path / "kept.safetensors"
    saved.write_bytes(Path(tab.make_file("me", "session")).read_bytes())
    tab.store.drop("me")
    page = tab.open_session("you", str(saved))
    assert names_in(page) == ["cup", "Object 2"]
    assert "is open: 1 objects" in page.status
    assert np.array_equal(picture_of(page), before)
    tab.pick("you", about(0))
    assert not np.array_equal(picture_of(tab.click("you", REMOVE, at(464, 120))), before), "and goes on"
    (tmp_path / "bad.safetensors").write_text("nothing")
    assert picture_of(tab.open_session("you", str(tmp_path / "bad.safetensors"))) is not None


def test_a_photo_that_is_too_large_is_not_taken(tab: ImageTab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda text, **_: said.append(text))
    Image.new("RGB", (1100, 1000)).save(tmp_path / "large.png")
    tab.limits = Limits(picture_megapixels=1)
    tab.open_picture("me", str(tmp_path / "large.png"))
    assert "large.png has 1 megapixels" in said[0]
    with tab.store.using("me") as work:
        assert work.file_name == "coffee.jpg"


@pytest.mark.parametrize("kind", ["mask", "cutout", "coco", "session"])
def test_downloads_are_named_after_the_photo_and_go_with_the_visitor(tab: ImageTab, kind: str) -> None:
    with pytest.raises(gr.Error, match="click on something"):
        tab.make_file("me", kind)
    tab.click("me", ADD, at(464, 96))
    path = Path(tab.make_file("me", kind))
    assert path.name.startswith(("coffee_", "coffee."))
    assert path.stat().st_size > 0
    tab.store.drop("me")
    assert not path.exists()


def test_downloads_say_what_they_hold_and_lose_nothing_where_objects_overlap(tab: ImageTab) -> None:
    assert all("object" in label for label in DOWNLOADS.values())
    tab.click("me", ADD, at(464, 96))
    tab.new_object("me")
    with pytest.raises(gr.Error, match="Object 2 has no mask yet"):
        tab.make_file("me", "cutout")
    tab.click("me", ADD, at(464, 96))  # the same thing once more: all of it overlaps
    tab.rename("me", about(1, name="cup"))
    assert Path(tab.make_file("me", "cutout")).name == "coffee_cup_cutout.png"
    with tab.store.using("me") as work:
        masks = [item.mask for item in work.finished()]
    path = Path(tab.make_file("me", "mask"))
    assert path.name == "coffee_masks.zip"
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [
            "coffee_mask.png",
            "objects/1/coffee_mask.png",
            "objects/2/coffee_mask.png",
        ]
        for number, mask in enumerate(masks, start=1):
            with archive.open(f"objects/{number}/coffee_mask.png") as file:
                assert np.array_equal(np.array(Image.open(file)) == 255, mask)


def test_stop_ends_the_search_and_changes_nothing(tab: ImageTab) -> None:
    tab.click("me", ADD, at(464, 96))
    before = picture_of(tab.pick("me", about(0)))
    tab.begin("me")
    tab.stop("me")  # while the job still waits for its turn
    stopped = everything(tab)
    assert "Stopped" in stopped.status
    assert np.array_equal(picture_of(stopped), before)
    tab.begin("me")
    assert "masks found" in everything(tab, 4).status


def test_segmenting_everything_shows_how_far_it_is_and_ends_with_the_buttons_as_before(tab: ImageTab) -> None:
    tab.begin("me")
    first, *between, last = tab.find_everything("me", 12, 0.3, 0.5)
    assert (first.find["interactive"], first.stop["interactive"]) == (False, True)
    shares = [int(re.search(r"(\d+)%", page.progress)[1]) for page in between if isinstance(page.progress, str)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)
    assert len(shares) > 2
    assert (last.find["interactive"], last.stop["interactive"], last.progress) == (True, False, "")


def test_no_line_outlives_what_it_speaks_of(tab: ImageTab) -> None:
    tab.begin("me")
    assert "masks found" in everything(tab, 4).status
    for step in (tab.undo, tab.new_object, tab.clear):
        assert step("me").status == "", "the masks that it spoke of may be gone"
    tab.click("me", ADD, at(464, 96))
    assert tab.pick("me", about(0)).status == ""
    assert tab.rename("me", about(0, name="cup")).status == ""


def test_a_page_that_is_loaded_again_shows_the_masks(tab: ImageTab) -> None:
    before = tab.click("me", ADD, at(464, 96))
    assert tab.store.move("me", "you")
    again = tab.bring_back("you")
    assert np.array_equal(picture_of(again), picture_of(before))
    assert tab.change_network("you") == ImagePage(), "the same model answers: nothing changes"
    assert tab.bring_back("me") == ImagePage()
    assert not np.array_equal(picture_of(tab.click("you", REMOVE, at(464, 96))), picture_of(before))
    tab.store.drop("you")


def test_a_new_photo_ends_a_search_on_the_old_one(tab: ImageTab) -> None:
    tab.begin("me")
    pages = tab.find_everything("me", 8, 0.3, 0.5)
    while "progressbar" not in str(next(pages).progress):
        pass
    tab.open_example(0, "me")
    assert "Stopped" in list(pages)[-1].status
    with tab.store.using("me") as work:
        assert work.finished() == []


def test_another_photo_is_asked_for_though_a_search_runs(tab: ImageTab) -> None:
    tab.begin("me")
    pages = tab.find_everything("me", 4, 0.3, 0.5)
    while "progressbar" not in str(next(pages).progress):
        pass
    assert tab.start_over("me").upload["visible"] is True
    (last,) = pages
    parts = (last.upload, last.view, last.status, last.objects, last.candidates, last.tools)
    assert parts == (SKIP,) * 6, "the old photo does not come back"
    assert (last.find["interactive"], last.stop["interactive"], last.progress) == (True, False, "")


def test_nobody_waits_for_a_search(tab: ImageTab) -> None:
    """While one visitor's search runs, that visitor and others can click."""
    tab.begin("me")
    clicked = []

    def click_meanwhile() -> None:
        clicked.append(tab.click("me", ADD, at(464, 96)))
        tab.open_example(0, "you")
        clicked.append(tab.click("you", ADD, at(300, 300)))

    tab.begin("me")
    pages = tab.find_everything("me", 8, 0.3, 0.5)
    while "progressbar" not in str(next(pages).progress):
        pass
    others = Thread(target=click_meanwhile, daemon=True)
    others.start()
    others.join(60)
    assert len(clicked) == 2
    assert "masks found" in list(pages)[-1].status


def test_a_bad_upload_keeps_the_open_photo(tab: ImageTab, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    kept = tab.open_picture("me", str(tmp_path / "bad.jpg"))
    assert kept.view["visible"] is True
    fresh = tab.open_picture("new visitor", str(tmp_path / "bad.jpg"))
    assert fresh.view["visible"] is False


def test_clicking_without_a_photo(tab: ImageTab) -> None:
    assert tab.click("nobody", ADD, at(1, 1)).view["visible"] is False


def test_thumbnails_are_small(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "a.jpg")
    ((thumbnail,),) = thumbnails([tmp_path / "a.jpg"])
    assert max(thumbnail.shape) <= 400


def test_one_who_waits_is_told_the_place(tab: ImageTab) -> None:
    other = tab.jobs.join("other")
    tab.begin("me")
    pages = tab.find_everything("me", 4, 0.3, 0.5)
    next(pages)
    assert "1 job before yours" in next(pages).progress
    other.leave()
    assert "masks found" in list(pages)[-1].status
    assert tab.jobs.count == 0


def test_values_that_mean_nothing_are_told(tab: ImageTab, tmp_path: Path) -> None:
    """In a scientific picture, which would otherwise be black or white all over."""
    land = np.linspace(5000, 5100, 2400, dtype=np.float32).reshape(40, 60)
    land[:5] = np.nan
    Image.fromarray(land).save(tmp_path / "land.tif")
    page = tab.open_picture("me", tmp_path / "land.tif")
    assert "without 300 values that are no finite numbers" in str(page.status)
    assert "Scientific" not in str(tab.open_example(0, "me").status)
