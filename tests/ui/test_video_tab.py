"""The Video tab's handlers, called as plain functions."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, Timer
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from sam2kit.clicking.named_objects import ObjectColours
from sam2kit.clicking.views import view_size
from sam2kit.media.clips import open_clip
from sam2kit.media.drawing import PALETTE, rgb
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.health import DOUBTFUL, UNTRACKED, HealthLimits
from sam2kit.ui import video_saving, video_tracking, video_view
from sam2kit.ui.layout import AppModel, build_app
from sam2kit.ui.limits import Limits
from sam2kit.ui.networks import Network, Networks
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns
from sam2kit.ui.video_models import model_at_side
from sam2kit.ui.video_page import Page
from sam2kit.ui.video_tab import ADD, BOX, REMOVE, VideoTab
from sam2kit.ui.video_work import VideoWork
from sam2kit.weights import load_model
from tests.ui.moving_disc import FRAMES, SIZE_HW, TIMES, centre, disc, iou, write_disc_clip

SCALE = view_size(SIZE_HW)[1] / SIZE_HW[1]


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks(Network.of(load_model("nano", "cpu"), "nano", Turns()))


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc_clip(tmp_path_factory.mktemp("clips") / "disc.mp4")


@pytest.fixture
def tab(networks: Networks, clip_path: Path) -> Iterator[VideoTab]:
    """A tab with one visitor, "me", who has opened the clip."""
    store = SessionStore(lambda: VideoWork(HealthLimits(min_iou=0.4)), discard=VideoWork.close)
    tab = VideoTab(networks, store, [clip_path], plain=True)
    tab.open_example(0, "me")
    yield tab
    tab.store.drop("me")


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What visitors were told in passing."""
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda text, **_: said.append(text))
    return said


def at(xy: tuple[float, float]) -> SimpleNamespace:
    """A click on a pixel of the clip."""
    return SimpleNamespace(index=[round(v * SCALE) for v in xy])


def about(number: int, **more: object) -> SimpleNamespace:
    """An event of the list of objects."""
    return SimpleNamespace(_data={"number": number, **more})


def names_in(page: Page) -> list[str]:
    return [row["name"] for row in page.objects["rows"]]


def click_disc(tab: VideoTab, frame: int = 0, key: str = "me") -> Page:
    tab.show_frame(key, frame)
    return tab.click(key, ADD, at(centre(frame)))


def track(tab: VideoTab, key: str = "me") -> list[Page]:
    tab.tracking.begin(key)
    return list(as_gradio_does(tab.tracking.track(key)))


def as_gradio_does(pages: Iterator[Page]) -> Iterator[Page]:
    """Each step of a generator in a thread of its own: a lock that is held meanwhile could not be given back."""
    end = object()
    while True:
        with ThreadPoolExecutor(1) as pool:
            page = pool.submit(next, pages, end).result()
        if page is end:
            return
        yield page


def work_of(tab: VideoTab, key: str = "me") -> VideoWork:
    with tab.store.using(key) as work:
        return work


def test_opening_shows_the_first_frame_and_what_to_do(tab: VideoTab) -> None:
    page = tab.open_example(0, "you")
    assert page.view["value"].shape == (*view_size(SIZE_HW), 3)
    assert page.slider["maximum"] == FRAMES - 1
    assert "0.000 s" in page.where
    assert "Click on" in page.status
    later = tab.show_frame("you", 7)
    assert f"{float(TIMES[7]):.3f} s" in later.where
    assert not np.array_equal(later.view["value"], page.view["value"])
    assert tab.step_frame("you", 99).slider == FRAMES - 1
    assert tab.jump("you", SimpleNamespace(_data={"share": 0.5})).slider == FRAMES // 2


def test_what_is_no_video_gets_one_sentence_and_changes_nothing(
    tab: VideoTab, tmp_path: Path, warnings: list[str]
) -> None:
    (tmp_path / "holiday.mp4").write_text("this is no video")
    click_disc(tab)
    page = tab.open_upload("me", str(tmp_path / "holiday.mp4"))
    assert len(warnings) == 1
    assert "holiday.mp4" in warnings[0]
    assert str(tmp_path) not in warnings[0]
    assert page.tools["visible"] is True, "the open clip stays"
    assert tab.open_upload("new visitor", str(tmp_path / "holiday.mp4")).tools["visible"] is False


def test_an_upload_belongs_to_the_visitor_and_goes_with_them(tab: VideoTab, clip_path: Path, tmp_path: Path) -> None:
    upload = tmp_path / "upload.mp4"
    upload.write_bytes(clip_path.read_bytes())
    tab.open_upload("you", str(upload))
    upload_folder = Path(work_of(tab, "you").opened.folder.name)
    assert (upload_folder / "upload.mp4").exists()
    tab.store.drop("you")
    assert not upload_folder.exists()
    assert not upload.exists()
    assert clip_path.exists(), "an example stays"


def test_tracking_finds_the_disc_on_every_frame(tab: VideoTab) -> None:
    clicked = click_disc(tab, 0)
    assert "predicted IoU 0." in clicked.objects["rows"][0]["note"]
    pages = track(tab)
    assert "Done" in pages[-1].status
    masks = [work_of(tab).session.masks(f).mask(0) for f in range(FRAMES)]
    assert np.mean([iou(mask, disc(f)) for f, mask in enumerate(masks)]) > 0.75
    assert not (work_of(tab).states()[0] == UNTRACKED).any()
    assert pages[-1].stop["visible"] is False


def test_stop_keeps_what_is_done_and_go_on_does_the_rest(tab: VideoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_tracking, "_SHOW_EVERY", 0)
    click_disc(tab)
    tab.tracking.begin("me")
    pages = tab.tracking.track("me")
    while "Tracking: 3" not in str(next(pages).status):
        pass
    tab.tracking.stop("me")
    stopped = list(pages)[-1]
    assert "Stopped" in stopped.status
    assert stopped.resume["visible"] is True
    done = dict(work_of(tab).session.tracks[0].tracked)
    assert 2 <= len(done) < FRAMES - 1
    tab.tracking.begin("me")
    assert "Done" in list(tab.tracking.resume("me"))[-1].status
    after = work_of(tab).session.tracks[0].tracked
    assert len(after) == FRAMES - 1
    assert all(after[f] is result for f, result in done.items())


def test_while_tracking_the_slider_answers_and_prompts_wait(
    tab: VideoTab, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.setattr(video_tracking, "_SHOW_EVERY", 0)
    click_disc(tab)
    tab.tracking.begin("me")
    pages = tab.tracking.track("me")
    while "Tracking: 2" not in str(next(pages).status):
        pass
    answered = Event()

    def slide() -> None:
        tab.show_frame("me", 13)
        answered.set()

    Thread(target=slide, daemon=True).start()
    assert answered.wait(20), "no lock is held between frames"
    assert next(pages).slider == 13, "the view stays where the visitor looks"
    tab.click("me", ADD, at(centre(13)))
    assert "press Stop" in warnings[-1]
    again = list(tab.tracking.track("me"))
    assert len(again) == 1
    assert "press Stop" in warnings[-1]
    assert "Done" in list(pages)[-1].status


def test_a_closed_page_leaves_the_work_usable(tab: VideoTab) -> None:
    click_disc(tab)
    tab.tracking.begin("me")
    pages = tab.tracking.track("me")
    while "Tracking" not in str(next(pages).status):
        pass
    pages.close()
    assert not work_of(tab).busy
    assert "Done" in track(tab)[-1].status


def test_a_correction_in_the_middle_sticks_when_tracked_again(tab: VideoTab) -> None:
    click_disc(tab)
    track(tab)
    tab.show_frame("me", 8)
    tab.click("me", REMOVE, at((10, 180)))
    corrected = work_of(tab).session.masks(8).mask(0)
    assert "◆" in tab.step_frame("me", 0).health
    track(tab)
    assert np.array_equal(work_of(tab).session.masks(8).mask(0), corrected)
    assert iou(work_of(tab).session.masks(12).mask(0), disc(12)) > 0.6
    tab.show_frame("me", 10)
    here = list(tab.tracking.track_from_here("me", "forward"))
    assert "Done: 6 frames" in here[-1].status


def test_undo_and_clear_go_back_exactly(tab: VideoTab, warnings: list[str]) -> None:
    plain = tab.step_frame("me", 0).view["value"]
    first = click_disc(tab)
    tab.click("me", REMOVE, at((200, 150)))
    back = tab.undo("me")
    assert np.array_equal(back.view["value"], first.view["value"])
    assert np.array_equal(tab.clear_frame("me").view["value"], plain)
    assert np.array_equal(tab.undo("me").view["value"], first.view["value"])
    assert np.array_equal(tab.undo("me").view["value"], plain)
    assert work_of(tab).session.tracks == {}
    assert warnings == []
    tab.clear_frame("me")
    assert "no prompts on this frame" in warnings[-1]


def test_undo_of_a_correction_brings_the_tracked_mask_back(tab: VideoTab) -> None:
    click_disc(tab)
    track(tab)
    tracked = work_of(tab).session.masks(5).mask(0)
    tab.show_frame("me", 5)
    tab.click("me", REMOVE, at(centre(5)))
    tab.show_frame("me", 9)
    page = tab.undo("me")
    assert page.slider == 5, "undo shows what it undid"
    assert np.array_equal(work_of(tab).session.masks(5).mask(0), tracked)


def test_boxes_objects_and_names(tab: VideoTab, warnings: list[str]) -> None:
    x, y = centre(0)
    assert "opposite corner" in tab.click("me", BOX, at((x + 28, y + 28))).status
    list(tab.tracking.track("me"))
    assert "Half a box" in warnings[-1]
    tab.click("me", BOX, at((x - 28, y - 28)))
    assert iou(work_of(tab).session.masks(0).mask(0), disc(0)) > 0.6
    assert names_in(tab.rename("me", about(0, name="  big   ball "))) == ["big ball"]
    page = tab.add_object("me")
    assert names_in(page) == ["big ball", "Object 2"]
    assert tab.add_object("me").objects["active"] == 1, "an unused one comes first"
    tab.rename("me", about(1, name="big ball"))
    assert "already" in warnings[-1]
    tab.click("me", ADD, at((220, 20)))
    assert set(work_of(tab).session.tracks) == {0, 1}
    assert names_in(tab.drop("me", about(1))) == ["big ball"]
    assert set(work_of(tab).session.tracks) == {0}
    tab.click("me", BOX, at((5, 5)))
    tab.show_frame("me", 3)
    assert "half drawn" in warnings[-1]


def test_mistakes_get_one_sentence(tab: VideoTab, warnings: list[str]) -> None:
    track(tab)
    assert "click on something first" in warnings[-1]
    tab.click("nobody", ADD, at((1, 1)))
    assert "Choose a video" in warnings[-1]
    tab.take_part("me", 9, 3, 1)
    assert "first before last" in warnings[-1]
    for make in (
        lambda: list(tab.saving.make_file("me", "video", "overlay", "original", False)),
        lambda: tab.saving.make_session_file("me"),
    ):
        with pytest.raises(gr.Error, match="click on something"):
            make()


def test_the_estimate_leaves_the_session_as_it_is(tab: VideoTab) -> None:
    assert tab.tracking.estimate("me").pace == ""
    click_disc(tab)
    session = work_of(tab).session
    track_before = session.tracks[0]
    before = (dict(track_before.prompts), dict(track_before.prompted), dict(track_before.tracked), session.run)
    assert "will take about" in tab.tracking.estimate("me").pace
    assert before == (track_before.prompts, track_before.prompted, track_before.tracked, session.run)
    assert not session.plan
    assert track_before.memories == {}
    pace = work_of(tab).pace[1]
    tab.tracking.estimate("me")
    assert work_of(tab).pace[1] == pace, "measured once"


def test_the_lines_say_what_is_true_after_each_step(tab: VideoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_tracking, "_SHOW_EVERY", 0)
    assert "then press Track" in click_disc(tab, 0).status
    assert "will take about" in tab.tracking.estimate("me").pace
    pages = track(tab)
    assert pages[-1].pace == "", "it took what it took"
    assert pages[-1].track["value"] == "Track"
    later = tab.show_frame("me", 3)
    assert f"{FRAMES} of {FRAMES} frames have masks" in later.status

    corrected = click_disc(tab, 8)
    assert "Press Track again" in corrected.status
    assert corrected.track["value"] == "Track again"
    assert "will take about" in corrected.pace
    undone = tab.undo("me")
    assert "Track again" not in undone.status, "without the correction there is nothing to track again"
    assert (undone.track["value"], undone.pace) == ("Track", "")

    gone = tab.restart("me")
    assert "Undo brings them back" in gone.status
    back = tab.undo("me")
    assert "gone" not in back.status
    assert f"{FRAMES} of {FRAMES} frames have masks" in back.status

    tab.add_object("me")
    assert "Press Track again" in tab.click("me", ADD, at((12, 12))).status, "a new object is not tracked yet"
    tab.tracking.begin("me")
    running = tab.tracking.track("me")
    while "Tracking: 3" not in str(next(running).status):
        pass
    tab.tracking.stop("me")
    assert "Stopped" in list(running)[-1].status
    assert "press Go on" in tab.show_frame("me", 2).status
    assert "Draft" not in tab.take_part("me", 0, 5, 1).status
    assert "Now working" not in tab.step_frame("me", 1).status


def test_a_page_that_is_loaded_again_shows_the_tracks(tab: VideoTab) -> None:
    assert tab.bring_back("nobody") == Page()
    click_disc(tab, 0)
    track(tab)
    work_of(tab).busy = True  # the old page's tracking has one frame to go
    Timer(0.3, lambda: setattr(work_of(tab, "you"), "busy", False)).start()
    assert tab.store.move("me", "you")
    page = tab.bring_back("you")
    assert page.stop["visible"] is False
    assert f"{FRAMES} of {FRAMES} frames have masks" in page.status
    assert page.slider["maximum"] == FRAMES - 1
    assert not (work_of(tab, "you").states()[0] == UNTRACKED).any()
    assert "Press Track again" in click_disc(tab, 5, "you").status
    tab.store.drop("you")


def test_another_video_is_asked_for_whatever_still_runs(tab: VideoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_tracking, "_SHOW_EVERY", 0)
    click_disc(tab)
    tab.tracking.begin("me")
    pages = tab.tracking.track("me")
    while "Tracking: 2" not in str(next(pages).status):
        pass
    assert tab.start_over("me").upload["visible"] is True
    assert list(pages) == [], "the old clip does not come back"
    assert not work_of(tab).busy
    assert "press Go on" in tab.bring_back("me").status, "unless the page is loaded again"
    played = tab.playing.play("me")
    next(played)
    tab.start_over("me")
    assert all(page == Page() for page in played)


def test_a_long_job_is_offered_shorter_first(tab: VideoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_view, "_LONG", 0)
    click_disc(tab)
    pages = track(tab)
    assert "press the button again" in pages[-1].status
    assert pages[-1].shorten["open"] is True
    assert not work_of(tab).session.tracks[0].tracked
    assert "Done" in track(tab)[-1].status


def test_a_part_keeps_what_is_known_of_its_frames(tab: VideoTab) -> None:
    click_disc(tab, 4)
    track(tab)
    click_disc(tab, 9)
    masks = {f: work_of(tab).session.masks(f).mask(0) for f in (4, 6, 8)}
    page = tab.take_part("me", 4, 10, 2)
    assert "the prompts on: 9." in page.status
    work = work_of(tab)
    assert (len(work.session), list(work.part)) == (4, [4, 6, 8, 10])
    assert [float(t) for t in work.session.clip.timestamps] == [float(TIMES[f]) for f in work.part]
    assert sorted(work.session.tracks[0].prompts) == [0]
    for frame, mask in masks.items():
        assert np.array_equal(work.session.masks(work.part.index(frame)).mask(0), mask)
    assert "frame 10 of the whole clip" in tab.show_frame("me", 3).where
    assert "Done: 4 frames" in track(tab)[-1].status
    assert "All" not in tab.take_all("me").status
    assert sorted(work_of(tab).session.tracks[0].prompts) == [4, 9]
    assert len(work_of(tab).session.tracks[0].tracked) == FRAMES - 1


def test_an_object_without_a_prompt_in_the_part_keeps_its_masks(tab: VideoTab) -> None:
    click_disc(tab, 0)
    track(tab)
    tab.add_object("me")
    tab.show_frame("me", 8)
    tab.click("me", ADD, at((20, 170)))
    tab.take_part("me", 6, FRAMES - 1, 1)
    before = work_of(tab).session.masks(4).mask(0)
    assert "Done" in track(tab)[-1].status
    assert np.array_equal(work_of(tab).session.masks(4).mask(0), before)


def test_the_draft_asks_the_prompts_again(tab: VideoTab, networks: Networks) -> None:
    full = networks.base.videos.predictor().model
    small = model_at_side(full, 128)
    assert small.no_mem_embed.data_ptr() == full.no_mem_embed.data_ptr(), "weights are shared"
    assert not networks.base.videos.has_draft
    click_disc(tab)
    track(tab)
    kind = type(networks.base.videos.predictor())
    both = SimpleNamespace(has_draft=True, predictor=lambda draft=False: kind(small if draft else full))
    tab.networks.choose("me", replace(networks.base, videos=both))
    tab.change_network("me")
    page = tab.change_model("me", True)
    assert "Draft" in page.status
    track_now = work_of(tab).session.tracks[0]
    assert (list(track_now.prompted), track_now.tracked) == ([0], {})
    assert "Done" in track(tab)[-1].status
    tab.networks.forget("me")


def test_troubled_frames_are_found(tab: VideoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Info", told.append)
    click_disc(tab)
    tab.next_trouble("me")
    assert "No frame is uncertain" in told[0]
    work_of(tab).limits = HealthLimits(min_iou=1.1)
    track(tab)
    assert (work_of(tab).states()[0][1:] == DOUBTFUL).all()
    tab.show_frame("me", 0)
    assert tab.next_trouble("me").slider == 1


def test_two_visitors_do_not_mix(tab: VideoTab) -> None:
    tab.open_example(0, "you")
    click_disc(tab, 0)
    assert work_of(tab, "you").session.tracks == {}
    tab.rename("me", about(0, name="mine"))
    assert work_of(tab, "you").objects.names == {0: "Object 1"}
    tab.store.drop("you")
    assert work_of(tab).session.clip.frame(3).shape == (*SIZE_HW, 3)


@pytest.fixture
def tracked(tab: VideoTab) -> VideoTab:
    """The tab after tracking."""
    click_disc(tab)
    tab.rename("me", about(0, name="ball"))
    track(tab)
    return tab


def made(tab: VideoTab, kind: str, background: str = "spotlight", objects: str = "original") -> Path:
    return Path(list(tab.saving.make_file("me", kind, objects, background, True))[-1][0])


def test_videos_decode_to_the_same_frames_and_times(tracked: VideoTab) -> None:
    for kind, width in (("video", SIZE_HW[1]), ("side", 2 * SIZE_HW[1])):
        with open_clip(made(tracked, kind)) as clip:
            assert (len(clip), clip.size_hw, clip.has_audio) == (FRAMES, (SIZE_HW[0], width), True)
            assert np.abs(np.array(clip.timestamps) - np.array(TIMES)).max() < 1e-3
            frame = clip.frame(5)[:, -SIZE_HW[1] :].astype(int)
            assert frame[disc(5)].mean() > 2 * frame[~disc(5)].mean(), "all but the disc is dark"
    with open_clip(made(tracked, "gif")) as clip:
        assert len(clip) > 3
    assert made(tracked, "alpha").stat().st_size > 1000


def test_page_strip_and_video_agree_on_an_objects_colour(tracked: VideoTab) -> None:
    work_of(tracked).colours = ObjectColours({0: 6})
    page = tracked.pick("me", about(0))
    assert page.objects["rows"][0]["colour"] == PALETTE[6]
    assert "rgb({},{},{})".format(*rgb(PALETTE[6])) in page.health
    with open_clip(made(tracked, "video", "original", "fill_object")) as clip:
        shown = clip.frame(5)[work_of(tracked).session.masks(5).mask(0)].mean(axis=0)
    assert np.abs(shown - rgb(PALETTE[6])).max() < 30


def test_masks_and_coco_hold_the_tracked_masks(tracked: VideoTab) -> None:
    masks = [work_of(tracked).session.masks(f).mask(0) for f in range(FRAMES)]
    with zipfile.ZipFile(made(tracked, "masks")) as archive:
        for frame in (0, FRAMES - 1):
            with archive.open(f"{frame:05d}.png") as file:
                assert np.array_equal(np.array(Image.open(file)) == 1, masks[frame])
    coco = json.loads(made(tracked, "coco").read_text())
    assert [a["area"] for a in coco["annotations"]] == [int(mask.sum()) for mask in masks]
    assert coco["objects"][0]["name"] == "ball"


def test_a_stopped_download_leaves_no_file(tracked: VideoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = tracked.saving.make_file("me", "video", "overlay", "original", False)
    monkeypatch.setattr(video_saving, "_SAY_EVERY", 0)
    while "Video with effect: 2" not in next(steps)[1]:
        pass
    tracked.saving.stop("me")
    assert "no file was made" in list(steps)[-1][1]
    assert list(work_of(tracked).opened.downloads.iterdir()) == []
    with pytest.raises(gr.Error, match="no transparency"):
        made(tracked, "video", "cut_out")


def test_several_downloads_are_written_at_once(tracked: VideoTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_saving, "_SAY_EVERY", 0)
    one, two, three = (
        tracked.saving.make_file("me", k, "overlay", "original", False) for k in ("video", "side", "masks")
    )
    for steps in (one, two, three):
        next(steps)
    _, line = next(two)
    assert line.count("Video with effect") == line.count("Side by side: 1") == line.count("Preparing: Masks") == 1
    *_, (mp4, line) = one
    assert "disc_overlay.mp4 is ready" in line
    assert "Side by side: 1 of" in line, "the others go on"
    *_, (both, _) = two
    *_, (zipped, line) = three
    assert all(Path(path).stat().st_size > 1000 for path in (mp4, both, zipped))
    assert line.count("is ready") == 3
    assert "is ready" not in tracked.step_frame("me", 1).writing, "it is said until the next step"

    late, later = (tracked.saving.make_file("me", k, "overlay", "original", False) for k in ("video", "side"))
    next(late)
    tracked.saving.stop("me")
    next(later)  # asked for after Stop, which is not meant for it
    assert list(late)[-1][0] is None
    assert list(later)[-1][0] is not None


def test_effects_are_shown_until_the_next_click(tracked: VideoTab) -> None:
    normal = tracked.step_frame("me", 0).view["value"]
    for effects in (("original", "blur_background"), ("overlay", "cut_out"), ("trail", "spotlight")):
        page = tracked.show_effect("me", *effects, True)
        assert not np.array_equal(page.view["value"], normal)
        assert page.previews is True
    assert tracked.click("me", ADD, at(centre(0))).previews is False


def test_a_session_file_is_opened_again(
    tracked: VideoTab, clip_path: Path, tmp_path: Path, warnings: list[str]
) -> None:
    tracked.add_object("me")
    tracked.show_frame("me", 6)
    tracked.click("me", ADD, at((20, 170)))
    tracked.take_part("me", 2, 12, 1)
    file = Path(tracked.saving.make_session_file("me")[0])
    kept = tmp_path / file.name
    kept.write_bytes(file.read_bytes())
    tracked.take_all("me")
    masks = [work_of(tracked).session.masks(f).mask(0) for f in range(FRAMES)]
    tracked.open_example(0, "you")
    page = tracked.open_session("you", str(kept))
    assert names_in(page) == ["ball", "Object 2"]
    again = work_of(tracked, "you")
    assert all(np.array_equal(again.session.masks(f).mask(0), masks[f]) for f in range(FRAMES))
    assert "Done" in track(tracked, "you")[-1].status
    tracked.open_session("you", str(clip_path))
    assert "not a session file" in warnings[-1]
    assert "/" not in warnings[-1]


def test_a_picture_model_says_why_it_does_not_track(toy: SAM2) -> None:
    def places(app: gr.Blocks) -> set[str | None]:
        return {block.elem_id for block in app.blocks.values() if hasattr(block, "elem_id")}

    trained = places(build_app(AppModel(toy, "toy"), [], []))
    assert "video-track" in trained
    assert "video-untrained" not in trained
    toy.memory_is_trained = False
    untrained = places(build_app(AppModel(toy, "toy"), [], []))
    assert "video-untrained" in untrained
    assert "video-track" not in untrained


class TestSurface:
    """What the click surface asks, without a browser."""

    @pytest.fixture
    def surface(self, networks: Networks, clip_path: Path) -> Iterator[VideoTab]:
        store = SessionStore(lambda: VideoWork(HealthLimits(min_iou=0.4)), discard=VideoWork.close)
        tab = VideoTab(networks, store, [clip_path])
        tab.open_example(0, "me")
        yield tab
        tab.store.drop("me")

    @staticmethod
    def asked(scene: dict, sequence: int, points: list, box: list | None = None) -> dict:
        return {
            "key": scene["key"], "scene": scene["scene"], "sequence": sequence, "number": scene["active"],
            "points": points, "box": box,
        }  # fmt: skip

    def test_prompts_on_any_frame_are_asked_whole(self, surface: VideoTab) -> None:
        for frame in (0, 8):
            scene = surface.show_frame("me", frame).view["value"]
            x, y = centre(frame)
            base = 10 * (frame + 1)
            one = surface.ask(self.asked(scene, base, [[x + 0.3, y, 1]]))
            two = surface.ask(self.asked(scene, base + 1, [*one["points"], [5, 180, 0]]))
            assert [p[2] for p in two["points"]] == [1, 0]
            prompt = work_of(surface).session.tracks[0].prompts[frame]
            assert prompt.points_xy.tolist() == [p[:2] for p in two["points"]]
            assert iou(work_of(surface).session.masks(frame).mask(0), disc(frame)) > 0.6
        emptied = surface.ask(self.asked(scene, 99, []))
        assert emptied["object"]["mask"] == ""
        assert sorted(work_of(surface).session.tracks[0].prompts) == [0]
        assert len(surface.undo("me").view["value"]["points"]) == 2, "undo brings them back"

    def test_a_box_replaces_a_box(self, surface: VideoTab) -> None:
        scene = surface.show_frame("me", 0).view["value"]
        x, y = centre(0)
        surface.ask(self.asked(scene, 1, [], [0, 0, 200, 150]))
        second = surface.ask(self.asked(scene, 2, [], [x - 28, y - 28, x + 28, y + 28]))
        assert second["box"] == [x - 28, y - 28, x + 28, y + 28]
        assert iou(work_of(surface).session.masks(0).mask(0), disc(0)) > 0.6

    def test_other_frames_and_running_jobs_refuse(self, surface: VideoTab) -> None:
        scene = surface.show_frame("me", 0).view["value"]
        surface.show_frame("me", 3)
        assert "another picture" in surface.ask(self.asked(scene, 1, [[5, 5, 1]]))["says"]
        scene = surface.show_frame("me", 0).view["value"]
        with surface.store.using("me") as work:
            work.busy = True
        assert "press Stop" in surface.ask(self.asked(scene, 2, [[5, 5, 1]]))["says"]

    def test_a_removed_object_can_be_brought_back(self, surface: VideoTab) -> None:
        scene = surface.show_frame("me", 0).view["value"]
        surface.ask(self.asked(scene, 1, [[*centre(0), 1]]))
        track(surface)
        work = work_of(surface)
        work.objects.rename(0, "ball")
        before = [work.session.masks(f).mask(0) for f in range(FRAMES)]
        work.add_object()
        surface.ask(self.asked(surface.show_frame("me", 0).view["value"], 2, [[20, 20, 1]]))
        work.select(0)
        work.remove_object()
        work.objects.rename(1, "corner")
        assert set(work.session.tracks) == {1}
        surface.undo("me")
        assert work.objects.names == {0: "ball", 1: "corner"}, "what was renamed since then stays renamed"
        assert all(np.array_equal(work.session.masks(f).mask(0), m) for f, m in enumerate(before))
        surface.undo("me")
        assert set(work.session.tracks) == {0}, "earlier steps can be undone, too"

    def test_clear_all_can_be_undone(self, surface: VideoTab) -> None:
        scene = surface.show_frame("me", 0).view["value"]
        surface.ask(self.asked(scene, 1, [[*centre(0), 1]]))
        track(surface)
        before = [work_of(surface).session.masks(f).mask(0) for f in range(FRAMES)]
        assert surface.restart("me").objects["rows"][0]["note"] == "click it"
        assert work_of(surface).session.tracks == {}
        surface.undo("me")
        after = [work_of(surface).session.masks(f).mask(0) for f in range(FRAMES)]
        assert all(map(np.array_equal, before, after))


def test_playing_goes_with_the_clock_and_stops(tab: VideoTab) -> None:
    first = next(pages := tab.playing.play("me"))
    assert first.play == "❚❚"
    assert next(pages).slider >= first.slider
    assert list(tab.playing.play("me"))[-1].play == "▶", "a second press stops"
    assert list(pages)[-1].play == "▶"
    assert list(as_gradio_does(tab.playing.play("me")))[-1].slider == FRAMES - 1, "to the end"


def test_clips_beyond_the_limits_are_refused(
    tab: VideoTab, clip_path: Path, warnings: list[str], tmp_path: Path
) -> None:
    upload = tmp_path / "disc.mp4"
    upload.write_bytes(clip_path.read_bytes())
    tab.limits = Limits(clip_frames=5)
    page = tab.open_upload("me", str(upload))
    assert not upload.exists(), "what is refused is not kept"
    assert "has 6 frames or more; this app takes 5 at most" in warnings[-1]
    assert page.tools["visible"] is True, "the open clip stays"
    tab.limits = Limits(clip_seconds=0.01)
    upload.write_bytes(clip_path.read_bytes())
    assert tab.open_upload("you", str(upload)).tools["visible"] is False
    assert "Cut it first" in warnings[-1]


def test_tracking_waits_its_turn_and_a_visitor_who_left_holds_up_nobody(tab: VideoTab) -> None:
    tab.open_example(0, "you")
    click_disc(tab)
    click_disc(tab, key="you")
    tab.tracking.begin("me")
    tab.tracking.begin("you")
    mine, yours = tab.tracking.track("me"), tab.tracking.track("you")
    while "Tracking" not in str(next(mine).status):
        pass
    next(mine)
    while "Waiting" not in str((page := next(yours)).status):
        pass
    assert "1 job before yours" in page.status
    tab.jobs.leave("me")  # the browser was closed: nobody drives `mine` any more
    assert "Done" in list(yours)[-1].status
    mine.close()
    assert tab.jobs.count == 0
