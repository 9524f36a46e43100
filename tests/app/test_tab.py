"""What both tabs do, with handlers called as plain functions: the Image tab is the Video tab on a clip of one frame."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from sam2kit.app.downloads import PICTURE_FILES
from sam2kit.app.limits import Limits
from sam2kit.app.page import SKIP, Page
from sam2kit.app.tab import ClickTab
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.options import CAREFUL
from tests.app.clicks import Canvas, gesture, masks_in, models_of, names_in, scene_of, tab_of, work_of
from tests.app.moving_disc import write_disc_clip
from tests.finder import drawn, trained_finder

CUP = (290, 60)
LID, SPOON_BOX = (100, 300, 0), [325, 190, 410, 330]


@pytest.fixture(scope="module")
def files(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The examples of each tab; the first one is opened."""
    photos = sorted((assets / "photos").glob("*.jpg"), key=lambda path: path.stem != "coffee")[:2]
    return {"image": photos, "video": [write_disc_clip(tmp_path_factory.mktemp("clips") / "disc.mp4")]}


def opened(name: str, nano: SAM2, files: dict[str, list[Path]]) -> ClickTab:
    """A tab with one visitor, "me", who has opened a file."""
    tab = tab_of(name, models_of(nano), files[name])
    tab.open_example(0, "me")
    return tab


@pytest.fixture(params=["image", "video"])
def either(request: pytest.FixtureRequest, nano: SAM2, files: dict[str, list[Path]]) -> Iterator[ClickTab]:
    tab = opened(request.param, nano, files)
    yield tab
    tab.store.visitors.drop("me")


@pytest.fixture
def tab(nano: SAM2, files: dict[str, list[Path]]) -> ClickTab:
    return opened("image", nano, files)


@pytest.fixture
def canvas(tab: ClickTab) -> Canvas:
    return Canvas(tab)


def a_place(tab: ClickTab) -> tuple[int, int]:
    """Where a thing is in the file that is open."""
    return (40, 60) if tab.is_video else CUP


def test_objects_are_clicked_named_removed_and_brought_back(either: ClickTab, warnings: list[str]) -> None:
    canvas, point = Canvas(either), [*a_place(either), 1]
    if either.is_video:  # each photo is encoded when it is opened
        assert "not seen this frame" in either.preview(canvas.request([point]))["says"]
    first = canvas.asks([point])
    seen = either.preview(canvas.request([point, [5, 180, 0]]))
    assert canvas.scene["points"] == [point], "a preview changes nothing"
    assert canvas.asks([point, [5, 180, 0]])["object"]["mask"] == seen["object"]["mask"]
    either.edit("me", "undo")
    assert first["object"]["note"].startswith("predicted IoU 0.")
    assert first["object"]["picture"].startswith("data:image/jpeg")
    assert len(first["candidates"]["rows"]) == 3
    other = (first["candidates"]["chosen"] + 1) % 3
    page = gesture(either, "choose", other)
    found = (scene_of(page)["candidates"]["chosen"], masks_in(page))
    assert found == (other, [first["candidates"]["rows"][other]["mask"]])
    either.edit("me", "undo")
    assert names_in(gesture(either, "rename", 1, name="  my   cup ")) == ["my cup"]
    assert names_in(either.edit("me", "new")) == ["my cup", "Object 2"]
    assert scene_of(either.edit("me", "new"))["active"] == 2, "an unused one comes first"
    gesture(either, "rename", 2, name="my cup")
    assert "already" in warnings[-1]
    canvas.asks([], [20, 20, 90, 90])
    both = gesture(either, "pick", 1)
    assert scene_of(both)["active"] == 1 and all(masks_in(both))
    assert names_in(gesture(either, "drop", 1)) == ["Object 2"]
    assert masks_in(either.edit("me", "undo")) == masks_in(both)
    cleared = either.edit("me", "clear")
    assert scene_of(cleared)["objects"][0]["note"] == "click it"
    assert masks_in(either.edit("me", "undo")) == masks_in(both)
    told = len(warnings)
    for sent in (["0"], {}, {"number": 77}, {"number": None}, {"number": "1"}):
        assert names_in(either.gesture("me", "drop", SimpleNamespace(_data=sent))) == ["my cup", "Object 2"]
    assert len(warnings) == told + 5
    for _ in range(10):
        last = either.edit("me", "undo")
    assert masks_in(last) == [""]


def test_the_canvas_asks_with_all_prompts_and_a_preview_changes_nothing(tab: ClickTab, canvas: Canvas) -> None:
    click = [*CUP, 1]
    seen = tab.preview(canvas.request([click]))
    assert masks_in(tab.edit("me", "undo")) == [""]
    one, two = canvas.asks([click]), canvas.asks([click, [*LID]])
    assert one["object"]["mask"] == seen["object"]["mask"]
    assert canvas.scene["size"] == [600, 400]
    assert one["object"]["mask"] != two["object"]["mask"]
    assert two["points"] == [click, [*LID]]
    assert canvas.asks([click])["object"]["mask"] == one["object"]["mask"], "a click taken away leaves no trace"
    assert canvas.asks([], sequence=2)["stale"]
    assert canvas.asks([])["object"]["mask"] == ""
    boxed = canvas.asks([], SPOON_BOX)
    assert boxed["object"]["mask"] and boxed["object"]["picture"]
    assert boxed["page"]["view"] == SKIP, "the canvas follows by itself"


def test_visitors_do_not_mix_and_cannot_reach_each_others_work(either: ClickTab, warnings: list[str]) -> None:
    either.open_example(0, "you")
    canvas = Canvas(either)
    old = canvas.request([[*a_place(either), 1]])
    assert "another picture" in either.ask({**old, "scene": "0.0"})["says"]
    assert "put away" in either.ask({**old, "key": "guessed"})["says"]
    assert "outside the" in canvas.asks([[9999, 60, 1]])["says"]
    canvas.asks(old["points"])
    assert work_of(either, "you").editor.finished() == []
    either.store.visitors.drop("you")
    assert canvas.asks([])["object"]["mask"] == "", "the file is still there"
    either.edit("nobody", "undo")
    assert "Choose a" in warnings[-1]


def test_a_page_that_is_loaded_again_shows_the_masks(either: ClickTab) -> None:
    mask = Canvas(either).clicks(*a_place(either))["object"]["mask"]
    assert either.store.visitors.move("me", "you")
    assert masks_in(either.bring_back("you")) == [mask]
    assert either.change_model("you") == either.bring_back("me") == Page(), "the same model answers: nothing changes"
    assert Canvas(either, "you").clicks(5, 5, 0)["object"]["mask"] != mask
    either.store.visitors.drop("you")


def test_a_session_is_saved_and_opened_by_another_visitor(
    either: ClickTab, tmp_path: Path, warnings: list[str]
) -> None:
    Canvas(either).clicks(*a_place(either))
    gesture(either, "rename", 1, name="cup")
    before = either.edit("me", "new")
    path, says = either.downloads.session_file("me")
    assert says.endswith("keep it with the clip." if either.is_video else "It holds the picture, too.")
    saved = tmp_path / "kept.safetensors"
    saved.write_bytes(Path(path).read_bytes())
    either.store.visitors.drop("me")
    if either.is_video:
        either.open_example(0, "you")
    page = either.open_session("you", str(saved))
    assert "is open" in page.status
    assert names_in(page) == ["cup", "Object 2"]
    assert (masks_in(page), scene_of(page)["picture"]) == (masks_in(before), scene_of(before)["picture"])
    gesture(either, "pick", 1, key="you")
    assert Canvas(either, "you").clicks(9, 9, 0)["object"]["mask"] != masks_in(before)[0], "and goes on"
    (tmp_path / "bad.safetensors").write_text("nothing")
    assert names_in(either.open_session("you", str(tmp_path / "bad.safetensors"))) == ["cup", "Object 2"]
    assert "/" not in warnings[-1]
    either.store.visitors.drop("you")


def test_what_cannot_be_used_gets_one_sentence_and_changes_nothing(
    either: ClickTab, files: dict[str, list[Path]], tmp_path: Path, warnings: list[str]
) -> None:
    bad = tmp_path / ("holiday.mp4" if either.is_video else "holiday.jpg")
    bad.write_text("this is nothing")
    assert either.open_upload("me", str(bad)).view["visible"] is True
    assert len(warnings) == 1
    assert bad.name in warnings[0] and str(tmp_path) not in warnings[0]
    assert either.open_upload("new visitor", str(bad)).view["visible"] is False
    source, tight = files[either.name][0], Limits(picture_megapixels=0.1, clip_frames=5)
    large = tmp_path / source.name
    large.write_bytes(source.read_bytes())
    either.limits = tight
    assert either.open_upload("me", str(large)).view["visible"] is True
    assert ("has 6 frames or more" if either.is_video else "0 megapixels; this app takes 0.1") in warnings[-1]
    assert large.exists() != either.is_video, "a video that is refused is not kept"
    with pytest.raises(gr.Error, match="no example 99"):
        either.open_example(99, "me")


def test_another_file_is_asked_for(either: ClickTab) -> None:
    assert either.start_over("me").upload["visible"] is True
    assert either.bring_back("me").view["visible"] is True, "unless the page is loaded again"


def test_values_that_mean_nothing_are_told(tab: ClickTab, tmp_path: Path) -> None:
    """In a scientific picture, which would otherwise be black or white all over."""
    land = np.linspace(5000, 5100, 2400, dtype=np.float32).reshape(40, 60)
    land[:5] = np.nan
    Image.fromarray(land).save(tmp_path / "land.tif")
    assert "without 300 values that are no finite numbers" in str(tab.open_upload("me", tmp_path / "land.tif").status)
    assert "Scientific" not in str(tab.open_example(0, "me").status)


# options of masks


def test_masks_follow_their_options_at_once_and_so_do_files(either: ClickTab) -> None:
    canvas = Canvas(either)
    canvas.clicks(*a_place(either))
    (before,) = masks_in(either.clean("me", False, True, 8, 8, 0, 0, False))
    page = either.clean("me", False, True, 8, 8, 6, 4, False)
    (grown,) = masks_in(page)
    assert grown != before and work_of(either).session.options.feather == 4
    if not either.is_video:
        mask = np.array(Image.open(either.downloads.picture_file("mask", "me")))
        assert len(np.unique(mask)) > 4, "the edge fades"
    assert masks_in(either.clean("me", False, True, 8, 8, 0, 0, False)) == [before]
    either.clean("me", True, False, 40, 0, -1.5, 2, True)
    wanted = {"keep_clicked": False, "max_hole_area": 40, "max_speck_area": 0, "grow": -1.5, "feather": 2}
    page = either.open_example(0, "me")
    assert {name: getattr(page, name) for name in wanted} == wanted, "the next file is shown with the same options"
    options = work_of(either).session.options
    assert (options.exclusive, page.careful, options.memory_selection) == (True, True, CAREFUL)
    assert options.remembered_hole_area in (8, None), "what the model sees stays as it was"


def test_a_saved_session_brings_its_options(either: ClickTab) -> None:
    canvas = Canvas(either)
    canvas.clicks(*a_place(either))
    either.clean("me", False, False, 0, 0, 3, 0, False)
    path, _ = either.downloads.session_file("me")
    either.clean("me", False, True, 8, 8, 0, 0, False)
    page = either.open_session("me", path)
    assert (page.grow, page.keep_clicked, work_of(either).session.options.grow) == (3, False, 3)


# downloads of a picture


def test_downloads_are_named_after_the_photo_and_go_with_the_visitor(tab: ClickTab, canvas: Canvas) -> None:
    makers = [lambda kind=kind: tab.downloads.picture_file(kind, "me") for kind in PICTURE_FILES]
    makers.append(lambda: tab.downloads.session_file("me")[0])
    for make in makers:
        with pytest.raises(gr.Error, match="click on something"):
            make()
    canvas.clicks(*CUP)
    paths = [Path(make()) for make in makers]
    assert all(path.name.startswith(("coffee_", "coffee.")) and path.stat().st_size for path in paths)
    tab.store.visitors.drop("me")
    assert not any(path.exists() for path in paths)


def test_nothing_is_lost_where_objects_overlap(tab: ClickTab, canvas: Canvas) -> None:
    canvas.clicks(*CUP)
    tab.edit("me", "new")
    with pytest.raises(gr.Error, match="Object 2 has no mask yet"):
        tab.downloads.picture_file("cutout", "me")
    canvas.clicks(*CUP)  # the same thing once more: all of it overlaps
    gesture(tab, "rename", 2, name="cup")
    assert Path(tab.downloads.picture_file("cutout", "me")).name == "coffee_cup_cutout.png"
    masks = [item.mask for item in work_of(tab).editor.finished()]
    path = Path(tab.downloads.picture_file("mask", "me"))
    assert path.name == "coffee_masks.zip"
    with zipfile.ZipFile(path) as archive:
        names = ["coffee_mask.png", "objects/1/coffee_mask.png", "objects/2/coffee_mask.png"]
        assert sorted(archive.namelist()) == names
        for name, mask in zip(names[1:], masks, strict=True):
            with archive.open(name) as file:
                assert np.array_equal(np.array(Image.open(file)) == 255, mask)


# find all


def test_what_a_model_finds_by_itself_becomes_objects(nano: SAM2, tmp_path: Path) -> None:
    path = tmp_path / "things.png"
    Image.fromarray(drawn([("disc", 40, 45), ("square", 112, 60), ("disc", 80, 120)], seed=9).image).save(path)
    plain, tab = tab_of("image", models_of(nano), []), tab_of("image", models_of(trained_finder()), [])
    for one in (plain, tab):
        one.open_upload("me", str(path))
        one.jobs.begin("me")
    assert list(plain.jobs.find_all("me")) == [Page()], "it has no classes, and a warning says so"
    *_, page = tab.jobs.find_all("me")
    assert sorted(names_in(page)[1:]) == ["disc", "disc (2)", "square"]
    assert "3 masks found" in page.status
    *_, page = tab.jobs.find_all("me")
    assert "Nothing new was found" in page.status and len(names_in(page)) == 4


# find alike


def test_what_looks_like_the_chosen_object_becomes_objects(nano: SAM2, tmp_path: Path, warnings: list[str]) -> None:
    y, x = np.mgrid[:200, :300]
    picture = np.full((200, 300, 3), (96, 112, 92), np.uint8)
    for centre in (60, 150, 240):
        picture[(x - centre) ** 2 + (y - 100) ** 2 < 30**2] = (205, 50, 40)
    Image.fromarray(picture).save(tmp_path / "discs.png")
    tab = opened("image", nano, {"image": [tmp_path / "discs.png"]})
    tab.jobs.begin("me")
    list(tab.jobs.find_alike("me", 50, 0.5))
    assert "Click on one of the things first" in warnings[-1]
    Canvas(tab).asks([], [30, 70, 90, 130])
    *_, page = tab.jobs.find_alike("me", 50, 0.5)
    count = len(names_in(page))
    assert f"{count - 1} masks found" in page.status and count > 1, "the example is one already"
    gesture(tab, "pick", 1)
    *_, page = tab.jobs.find_alike("me", 50, 0.5)
    assert "Nothing is as alike" in page.status and len(names_in(page)) == count
    assert len(names_in(tab.edit("me", "undo"))) == 1


# finer edges


def test_edges_are_refined_shown_downloaded_and_undone(tab: ClickTab, canvas: Canvas) -> None:
    """The photo has 600 pixels, of which the model sees 384."""

    def masks() -> np.ndarray:
        return np.array(Image.open(tab.downloads.picture_file("mask", "me")))

    canvas.clicks(*CUP)
    coarse, shown = masks(), scene_of(tab.edit("me", "new"))["objects"][0]["mask"]
    tab.jobs.begin("me")
    first, *between, last = tab.jobs.refine("me")
    assert (first.stop_refine["interactive"], last.stop_refine["interactive"]) == (True, False)
    assert re.fullmatch(r"Refining edges: (\d+) of \1 steps", between[-1].status)
    assert "edges of 1 mask were refined" in last.status
    fine = masks()
    assert np.array_equal(fine > 0, work_of(tab).session.masks(0).mask(1))
    assert masks_in(last)[0] != shown
    assert 0 < np.mean((fine > 0) != (coarse > 0)) < 0.02
    *_, again = tab.jobs.refine("me")
    assert "no mask left to refine" in again.status
    assert masks_in(tab.edit("me", "undo"))[0] == shown
    assert np.array_equal(masks(), coarse)


def test_quick_strokes_that_overtake_each_other_are_not_lost(tab: ClickTab, canvas: Canvas) -> None:
    strokes = [
        {"path": [[x, 60.0]], "radius": 20, "adds": adds} for x, adds in ((60.0, True), (90.0, True), (75.0, False))
    ]
    late = canvas.request([], strokes=strokes[:1])
    canvas.asks([], strokes=strokes[:2])
    assert tab.ask(late)["stale"], "the newer one has its stroke"
    canvas.asks([], strokes=strokes)
    (mask,) = work_of(tab).session.masks(0).masks
    assert mask[60, [42, 108]].all() and not mask[60, [60, 75, 90]].any()
    again = canvas.asks([[*CUP, 1]], strokes=strokes)
    assert again["points"] and not work_of(tab).session.masks(0).masks[0][60, 42], "then the click is answered"


def test_what_was_painted_can_be_refined(tab: ClickTab, canvas: Canvas) -> None:
    canvas.asks([], strokes=[{"path": [[300.0, 200.0], [420.0, 260.0]], "radius": 40, "adds": True}])
    (painted,) = work_of(tab).session.masks(0).masks
    tab.jobs.begin("me")
    *_, last = tab.jobs.refine("me")
    assert "edges of 1 mask were refined" in last.status
    (refined,) = work_of(tab).session.masks(0).masks
    assert 0 < (refined != painted).mean() < 0.05
    tab.edit("me", "undo")
    assert np.array_equal(work_of(tab).session.masks(0).masks[0], painted)


def test_refining_can_be_stopped_and_leaves_what_cannot_be_refined(
    tab: ClickTab, canvas: Canvas, nano: SAM2, tmp_path: Path
) -> None:
    canvas.clicks(*CUP)
    before = masks_in(tab.edit("me", "new"))
    tab.jobs.begin("me")
    pages = tab.jobs.refine("me")
    while "of" not in str(next(pages).status):
        pass
    tab.jobs.stop("me")
    *_, stopped = pages
    assert "Stopped" in stopped.status and masks_in(stopped) == before
    Image.new("RGB", (300, 200)).save(tmp_path / "small.png")
    small = opened("image", nano, {"image": [tmp_path / "small.png"]})
    Canvas(small).clicks(50, 50)
    small.jobs.begin("me")
    *_, page = small.jobs.refine("me")
    assert "sees this picture of 300x200 pixels as it is" in page.status


# segment everything


def begun(tab: ClickTab, side: int = 8) -> Iterator[Page]:
    """A search that has done one batch."""
    tab.jobs.begin("me")
    pages = tab.jobs.find_everything("me", side, 0.3, 0.5)
    while "progressbar" not in str(next(pages).progress):
        pass
    return pages


def test_segmenting_everything_shows_how_far_it_is_and_can_be_stopped(tab: ClickTab, canvas: Canvas) -> None:
    canvas.clicks(*CUP)
    tab.jobs.begin("me")
    tab.jobs.stop("me")  # while the job still waits for its turn
    *_, stopped = tab.jobs.find_everything("me", 8, 0.3, 0.5)
    assert "Stopped" in stopped.status
    assert names_in(stopped) == ["Object 1"]
    tab.jobs.begin("me")
    first, *between, last = tab.jobs.find_everything("me", 12, 0.3, 0.5)
    assert (first.find["interactive"], first.stop_find["interactive"]) == (False, True)
    shares = [int(re.search(r"(\d+)%", page.progress)[1]) for page in between if isinstance(page.progress, str)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100) and len(shares) > 2
    assert (last.find["interactive"], last.stop_find["interactive"], last.progress) == (True, False, "")
    assert "masks found" in last.status
    for step in ("undo", "new", "clear"):
        assert tab.edit("me", step).status == "", "no line outlives what it speaks of"


def test_another_photo_ends_a_search_on_the_old_one(tab: ClickTab) -> None:
    pages = begun(tab)
    tab.open_example(1, "me")
    assert "Stopped" in list(pages)[-1].status
    assert work_of(tab).editor.finished() == []
    pages = begun(tab, 4)
    tab.start_over("me")
    (last,) = pages
    assert (last.upload, last.view, last.status, last.tools) == (SKIP,) * 4, "the old photo does not come back"
    assert (last.find["interactive"], last.progress) == (True, "")


def test_nobody_waits_for_a_search_but_those_who_search(tab: ClickTab, canvas: Canvas) -> None:
    clicked = []

    def click_meanwhile() -> None:
        clicked.append(canvas.clicks(*CUP))
        tab.open_example(0, "you")
        clicked.append(Canvas(tab, "you").clicks(300, 300))

    pages = begun(tab)
    others = Thread(target=click_meanwhile, daemon=True)
    others.start()
    others.join(60)
    assert len(clicked) == 2
    assert "masks found" in list(pages)[-1].status
    other = tab.queue.join("other")
    tab.jobs.begin("me")
    pages = tab.jobs.find_everything("me", 4, 0.3, 0.5)
    next(pages)
    assert "1 job before yours" in next(pages).progress
    other.leave()
    assert "masks found" in list(pages)[-1].status
    assert tab.queue.count == 0


def test_masks_in_a_file_become_objects(either: ClickTab, tmp_path: Path, warnings: list[str]) -> None:
    session = work_of(either).session
    height, width = session.clip.size_hw
    numbers = np.zeros((height, width), np.uint8)
    third, half = height // 3, width // 2
    numbers[5 : 2 * third, 5 : half - 5], numbers[third:-5, half + 5 : -5] = 1, 2
    Image.fromarray(numbers).save(tmp_path / "masks.png")
    page = either.take_masks("me", str(tmp_path / "masks.png"))
    assert "2 masks taken" in page.status
    masks = session.masks(0)
    for number, mask in enumerate(masks.masks, start=1):
        truth = numbers == number
        assert (mask & truth).sum() / (mask | truth).sum() > 0.8
    assert len(masks.masks) == 2 and len(session.objects) == 2, "the empty object took the first one"
    Image.fromarray(numbers[:20]).save(tmp_path / "other.png")
    either.take_masks("me", str(tmp_path / "other.png"))
    assert f"is {width}x20; a mask picture of {width}x{height} pixels was expected" in warnings[-1]
    Image.fromarray(numbers * 0).save(tmp_path / "empty.png")
    either.take_masks("me", str(tmp_path / "empty.png"))
    assert "holds no mask" in warnings[-1]
    assert len(session.objects) == 2


def test_a_brush_and_an_eraser_paint_the_mask_and_a_click_goes_on_from_it(either: ClickTab) -> None:
    canvas, session = Canvas(either), work_of(either).session
    height, width = session.clip.size_hw
    line = {"path": [[10.0, 20.0], [width / 2, 20.0]], "radius": 6.5}
    assert "nothing to erase" in canvas.asks([], strokes=[{**line, "adds": False}])["says"]
    answer = canvas.asks([], strokes=[{**line, "adds": True}])
    assert answer["object"]["mask"] and answer["points"] == [] and answer["candidates"] is None
    (painted,) = session.masks(0).masks
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - x.clip(10, width / 2), y - 20)
    assert painted[distance < 5].all() and not painted[distance > 8].any(), "at the size of the original"
    either.clean("me", False, *(False, 0, 0, 6, 0, False))  # shown larger; what is painted does not grow twice
    canvas.asks([], strokes=[{"path": [[10.0, 20.0]], "radius": 9, "adds": False}])
    either.clean("me", False, *(False, 0, 0, 0, 0, False))
    (erased,) = session.masks(0).masks
    assert np.array_equal(erased[:, 25:], painted[:, 25:]) and not erased[18:22, :15].any()
    (prompt,) = session.objects[session.active].prompts.values()
    assert prompt.mask is not None and not len(prompt.points_xy)
    either.edit("me", "undo")
    assert np.array_equal(session.masks(0).masks[0], painted)
    canvas.asks([[*a_place(either), 1]])
    assert session.objects[session.active].prompts[0].mask is None, "the model answers again"


def test_objects_are_merged_and_parted_again(either: ClickTab, warnings: list[str]) -> None:
    canvas, session = Canvas(either), work_of(either).session
    for x in (20, 60):
        canvas.asks([], strokes=[{"path": [[x, 20.0]], "radius": 9, "adds": True}])
        either.edit("me", "new")
    one, two = session.masks(0).masks
    gesture(either, "merge", 1)
    assert "cannot be merged into Object 3" in warnings[-1], "that one has no mask yet"
    gesture(either, "pick", 1)
    page = gesture(either, "merge", 2)
    assert names_in(page) == ["Object 1", "Object 3"] and scene_of(page)["active"] == 1
    assert np.array_equal(session.masks(0).masks[0], one | two)
    assert names_in(either.edit("me", "undo")) == ["Object 1", "Object 2", "Object 3"]
    assert np.array_equal(session.masks(0).masks, [one, two])
    for number in (1, 7, None):
        assert names_in(gesture(either, "merge", number)) == ["Object 1", "Object 2", "Object 3"]
    assert "no such object" in warnings[-1]
