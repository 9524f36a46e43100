"""What the Video tab has more than the Image tab: frames, tracking, parts, models, effects, files of a clip."""

from __future__ import annotations

import json
import re
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

from sam2kit.app import downloads, jobs, page
from sam2kit.app.layout import build_app
from sam2kit.app.models import AppModel, Models, model_at_side
from sam2kit.app.page import MASK_OPTIONS, SKIP, Page
from sam2kit.app.tab import ClickTab
from sam2kit.media.clips import open_clip
from sam2kit.media.drawing import PALETTE, rgb
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.tracking_quality import UNCERTAIN, UNTRACKED, QualityLimits
from sam2kit.predict.video import VideoPredictor
from tests.app.clicks import Canvas, gesture, masks_in, models_of, names_in, scene_of, tab_of, work_of
from tests.app.moving_disc import FRAMES, SIZE_HW, TIMES, centre, disc, iou, write_disc_clip


@pytest.fixture(scope="module")
def models(nano: SAM2) -> Models:
    return models_of(nano)


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc_clip(tmp_path_factory.mktemp("clips") / "disc.mp4")


@pytest.fixture
def tab(models: Models, clip_path: Path) -> Iterator[ClickTab]:
    """A tab with one visitor, "me", who has opened the clip."""
    tab = tab_of("video", models, [clip_path])
    tab.open_example(0, "me")
    yield tab
    tab.store.visitors.drop("me")


@pytest.fixture
def canvas(tab: ClickTab) -> Canvas:
    return Canvas(tab)


@pytest.fixture
def tracked(tab: ClickTab) -> ClickTab:
    """The tab after tracking."""
    click_disc(tab)
    gesture(tab, "rename", 1, name="ball")
    track(tab)
    return tab


def click_disc(tab: ClickTab, frame: int = 0, key: str = "me") -> dict:
    tab.show_frame(key, frame)
    return Canvas(tab, key).clicks(*centre(frame))


def track(tab: ClickTab, key: str = "me") -> list[Page]:
    tab.jobs.begin(key)
    return list(as_gradio_does(tab.jobs.track(key)))


def as_gradio_does(pages: Iterator[Page]) -> Iterator[Page]:
    """Each step of a generator in a thread of its own: a lock that is held meanwhile could not be given back."""
    end = object()
    while True:
        with ThreadPoolExecutor(1) as pool:
            now = pool.submit(next, pages, end).result()
        if now is end:
            return
        yield now


def running(tab: ClickTab, monkeypatch: pytest.MonkeyPatch, frames: int) -> Iterator[Page]:
    """A tracking that has done so many frames."""
    monkeypatch.setattr(jobs, "_SHOW_EVERY", 0)
    tab.jobs.begin("me")
    pages = tab.jobs.track("me")
    while f"Tracking: {frames}" not in str(next(pages).status):
        pass
    return pages


def masks_of(tab: ClickTab, key: str = "me", number: int = 1) -> list[np.ndarray]:
    session = work_of(tab, key).session
    return [session.masks(f).mask(number) for f in range(FRAMES)]


def item_of(tab: ClickTab):  # noqa: ANN201
    return work_of(tab).session.objects[1]


# frames and prompts


def test_frames_are_shown_with_their_times(tab: ClickTab) -> None:
    opened = tab.open_example(0, "you")
    assert opened.slider["maximum"] == FRAMES - 1
    assert "0.000 s" in opened.where
    assert "Click on" in opened.status
    later = tab.show_frame("you", 7)
    assert f"{float(TIMES[7]):.3f} s" in later.where
    assert scene_of(later)["picture"] != scene_of(opened)["picture"]
    assert later.slider == SKIP, "who moves the slider holds it"
    assert tab.step_frame("you", 99).slider == FRAMES - 1
    assert tab.jump("you", SimpleNamespace(_data={"share": 0.5})).slider == FRAMES // 2
    tab.store.visitors.drop("you")


def test_an_upload_belongs_to_the_visitor_and_goes_with_them(tab: ClickTab, clip_path: Path, tmp_path: Path) -> None:
    upload = tmp_path / "upload.mp4"
    upload.write_bytes(clip_path.read_bytes())
    tab.open_upload("you", str(upload))
    folder = Path(work_of(tab, "you").file.folder.name)
    assert (folder / "upload.mp4").exists()
    tab.store.visitors.drop("you")
    assert not folder.exists() and not upload.exists()
    assert clip_path.exists(), "an example stays"


def test_prompts_on_any_frame_are_asked_whole(tab: ClickTab, canvas: Canvas, warnings: list[str]) -> None:
    for frame in (0, 8):
        tab.show_frame("me", frame)
        x, y = centre(frame)
        one = canvas.asks([[x + 0.3, y, 1]])
        two = canvas.asks([*one["points"], [5, 180, 0]])
        assert [p[2] for p in two["points"]] == [1, 0]
        assert item_of(tab).prompts[frame].points_xy.tolist() == [pytest.approx(p[:2]) for p in two["points"]]
        assert iou(work_of(tab).session.masks(frame).mask(1), disc(frame)) > 0.6
    assert masks_in(tab.edit("me", "clear_frame")) == [""]
    assert sorted(item_of(tab).prompts) == [0]
    tab.edit("me", "clear_frame")
    assert "no prompts on this frame" in warnings[-1]
    assert len(scene_of(tab.edit("me", "undo"))["points"]) == 2, "undo brings them back"
    canvas.asks([], [0, 0, 200, 150])
    second = canvas.asks([], [x - 28, y - 28, x + 28, y + 28])
    assert second["box"] == [x - 28, y - 28, x + 28, y + 28], "a box replaces a box"
    assert iou(work_of(tab).session.masks(8).mask(1), disc(8)) > 0.6


def test_mistakes_get_one_sentence(tab: ClickTab, warnings: list[str]) -> None:
    track(tab)
    assert "click on something first" in warnings[-1]
    tab.take_part("me", 9, 3, 1)
    assert "first before last" in warnings[-1]
    with pytest.raises(gr.Error, match="click on something"):
        list(tab.downloads.clip_file("video", "me", "overlay", "original", False))


# tracking


def test_tracking_finds_the_disc_on_every_frame_and_what_goes_comes_back(tab: ClickTab, canvas: Canvas) -> None:
    click_disc(tab)
    pages = track(tab)
    assert "Done" in pages[-1].status
    before = masks_of(tab)
    assert np.mean([iou(mask, disc(f)) for f, mask in enumerate(before)]) > 0.75
    assert not (work_of(tab).states()[1] == UNTRACKED).any()
    assert pages[-1].stop["visible"] is False
    gesture(tab, "drop", 1)
    tab.edit("me", "undo")
    assert "Undo brings them back" in tab.edit("me", "clear").status
    tab.edit("me", "undo")
    assert all(map(np.array_equal, before, masks_of(tab)))


def test_stop_keeps_what_is_done_and_go_on_does_the_rest(tab: ClickTab, monkeypatch: pytest.MonkeyPatch) -> None:
    click_disc(tab)
    pages = running(tab, monkeypatch, 3)
    tab.jobs.stop("me")
    stopped = list(pages)[-1]
    assert "Stopped" in stopped.status
    assert stopped.resume["visible"] is True
    done = dict(item_of(tab).tracked)
    assert 2 <= len(done) < FRAMES - 1
    tab.jobs.begin("me")
    assert "Done" in list(tab.jobs.resume("me"))[-1].status
    after = item_of(tab).tracked
    assert len(after) == FRAMES - 1
    assert all(after[f] is result for f, result in done.items())


def test_while_tracking_the_slider_answers_and_prompts_wait(
    tab: ClickTab, canvas: Canvas, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    click_disc(tab)
    pages = running(tab, monkeypatch, 2)
    answered = Event()

    def slide() -> None:
        tab.show_frame("me", 13)
        answered.set()

    Thread(target=slide, daemon=True).start()
    assert answered.wait(20), "no lock is held between frames"
    assert next(pages).slider == 13, "the view stays where the visitor looks"
    assert "press Stop" in canvas.clicks(*centre(13))["says"]
    assert tab.preview(canvas.request([[5, 5, 1]]))["stale"]
    assert names_in(gesture(tab, "rename", 1, name="ball")) == ["ball"]
    gesture(tab, "drop", 1)
    assert "press Stop" in warnings[-1]
    assert len(list(tab.jobs.track("me"))) == 1
    assert len(warnings) == 2
    assert "Done" in list(pages)[-1].status


def test_a_closed_page_leaves_the_work_usable(tab: ClickTab, monkeypatch: pytest.MonkeyPatch) -> None:
    click_disc(tab)
    running(tab, monkeypatch, 1).close()
    assert not work_of(tab).busy
    assert tab.queue.count == 0
    assert "Done" in track(tab)[-1].status


def test_who_is_put_away_while_it_tracks_is_told(tab: ClickTab, monkeypatch: pytest.MonkeyPatch) -> None:
    click_disc(tab)
    pages = running(tab, monkeypatch, 2)
    tab.store.visitors.drop("me")
    assert "put away" in list(pages)[-1].status
    assert tab.queue.count == 0


def test_a_correction_stays_and_its_undo_brings_the_tracked_mask_back(tracked: ClickTab) -> None:
    tab, canvas = tracked, Canvas(tracked)
    before = masks_of(tab)[8]
    tab.show_frame("me", 8)
    canvas.clicks(*centre(8), 0)
    tab.show_frame("me", 9)
    assert tab.edit("me", "undo").slider == 8, "undo shows what it undid"
    assert np.array_equal(masks_of(tab)[8], before)
    answer = canvas.clicks(10, 180, 0)
    corrected = masks_of(tab)[8]
    assert answer["page"]["timeline"].count("◆") == 3, "two, and the legend"
    track(tab)
    assert np.array_equal(masks_of(tab)[8], corrected)
    assert iou(masks_of(tab)[12], disc(12)) > 0.6
    tab.show_frame("me", 10)
    assert "Done: 6 frames" in list(tab.jobs.track_from_here("me", "forward"))[-1].status


def test_the_estimate_leaves_the_session_as_it_is_and_long_jobs_are_offered_shorter(
    tab: ClickTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tab.jobs.estimate("me").estimate == ""
    assert click_disc(tab)["measure"] is True
    session, item = work_of(tab).session, item_of(tab)
    before = (dict(item.prompts), dict(item.prompted), dict(item.tracked), session.run)
    assert "will take about" in tab.jobs.estimate("me").estimate
    assert before == (item.prompts, item.prompted, item.tracked, session.run)
    assert not session.plan and item.memories == {}
    seconds = work_of(tab).seconds[1]
    tab.jobs.estimate("me")
    assert work_of(tab).seconds[1] == seconds, "measured once"
    assert Canvas(tab).clicks(5, 5, 0)["measure"] is False
    monkeypatch.setattr(page, "_LONG", 0)
    asked = track(tab)[-1]
    assert "press the button again" in asked.status
    assert asked.shorten["open"] is True
    assert "Done" in track(tab)[-1].status, "asked once"


@pytest.mark.slow
def test_the_lines_say_what_is_true_after_each_step(
    tab: ClickTab, canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = f"{FRAMES} of {FRAMES} frames have masks"
    assert "then press Track" in click_disc(tab)["page"]["status"]
    done = track(tab)[-1]
    assert (done.estimate, done.track["value"]) == ("", "Track")
    assert everything in tab.show_frame("me", 3).status
    corrected = click_disc(tab, 8)["page"]
    assert "Press Track again" in corrected["status"]
    assert corrected["track"]["value"] == "Track again"
    assert "will take about" in corrected["estimate"]
    undone = tab.edit("me", "undo")
    assert "Track again" not in undone.status, "without the correction there is nothing to track again"
    assert (undone.track["value"], undone.estimate) == ("Track", "")
    options = work_of(tab).session.options
    values = [getattr(options, name) for name in MASK_OPTIONS]
    for careful, said in ((True, "Press Track again"), (False, everything)):
        tab.clean("me", careful, *values)
        assert said in tab.show_frame("me", 4).status, "memories are to be chosen otherwise, or not"
    tab.edit("me", "clear")
    assert everything in tab.edit("me", "undo").status
    tab.edit("me", "new")
    canvas.clicks(12, 12)
    assert "Press Track again" in tab.step_frame("me", 0).status, "a new object is not tracked yet"
    pages = running(tab, monkeypatch, 3)
    tab.jobs.stop("me")
    assert "Stopped" in list(pages)[-1].status
    assert "press Go on" in tab.show_frame("me", 2).status


def test_a_page_that_is_loaded_again_shows_the_tracks(tracked: ClickTab) -> None:
    tab = tracked
    work_of(tab).busy = True  # the old page's tracking has one frame to go
    Timer(0.3, lambda: setattr(work_of(tab, "you"), "busy", False)).start()
    assert tab.store.visitors.move("me", "you")
    again = tab.bring_back("you")
    assert again.stop["visible"] is False
    assert f"{FRAMES} of {FRAMES} frames have masks" in again.status
    assert again.slider["maximum"] == FRAMES - 1
    assert "Press Track again" in click_disc(tab, 5, "you")["page"]["status"]
    tab.store.visitors.drop("you")


def test_another_video_is_asked_for_whatever_still_runs(tab: ClickTab, monkeypatch: pytest.MonkeyPatch) -> None:
    click_disc(tab)
    pages = running(tab, monkeypatch, 2)
    assert tab.start_over("me").upload["visible"] is True
    assert list(pages) == [], "the old clip does not come back"
    assert not work_of(tab).busy
    assert "press Go on" in tab.bring_back("me").status, "unless the page is loaded again"
    played = tab.jobs.play("me")
    next(played)
    tab.start_over("me")
    assert all(shown == Page() for shown in played)


def test_tracking_waits_its_turn_and_a_visitor_who_left_holds_up_nobody(tab: ClickTab) -> None:
    tab.open_example(0, "you")
    for key in ("me", "you"):
        click_disc(tab, key=key)
        tab.jobs.begin(key)
    mine, yours = tab.jobs.track("me"), tab.jobs.track("you")
    while "Tracking" not in str(next(mine).status):
        pass
    next(mine)
    while "Waiting" not in str((shown := next(yours)).status):
        pass
    assert "1 job before yours" in shown.status
    tab.queue.leave("me")  # the browser was closed: nobody drives `mine` any more
    assert "Done" in list(yours)[-1].status
    mine.close()
    for _ in range(2):
        tab.queue.join("me")
    tab.queue.leave("me")
    assert tab.queue.count == 0


def test_playing_goes_with_the_clock_and_stops(tab: ClickTab) -> None:
    first = next(pages := tab.jobs.play("me"))
    assert first.play == "❚❚"
    assert next(pages).slider >= first.slider
    assert list(tab.jobs.play("me"))[-1].play == "▶", "a second press stops"
    assert list(pages)[-1].play == "▶"
    *_, last, end = as_gradio_does(tab.jobs.play("me"))
    assert last.slider == FRAMES - 1, "to the end"
    assert (end.view, end.slider, end.where) == (SKIP,) * 3, "a jump may have come between"


# parts, models, quality


def test_a_part_keeps_frame_numbers_masks_and_prompts(tab: ClickTab, canvas: Canvas) -> None:
    click_disc(tab, 4)
    track(tab)
    click_disc(tab, 9)
    before = masks_of(tab)
    part = tab.take_part("me", 4, 10, 2)
    assert "the prompts on: 9." in part.status
    assert (part.slider["minimum"], part.slider["maximum"], part.slider["step"]) == (4, 10, 2)
    assert tab.show_frame("me", 7.2).where.startswith("**Frame 8**")
    assert tab.step_frame("me", 1).slider == tab.step_frame("me", 1).slider == 10, "the last one"
    assert all(np.array_equal(masks_of(tab)[f], before[f]) for f in (4, 6, 8))
    assert "in use: 4 to 10, every 2" in tab.step_frame("me", 0).where
    assert "Done: 4 frames" in track(tab)[-1].status
    tab.edit("me", "new")
    tab.show_frame("me", 6)
    canvas.clicks(20, 170)
    tab.take_part("me", 0, -1, 1)
    assert sorted(item_of(tab).prompts) == [4, 9]
    assert len(item_of(tab).tracked) == FRAMES - 1
    tab.take_part("me", 8, FRAMES - 1, 1)
    kept = work_of(tab).session.objects[2].prompted[6]
    assert "Done" in track(tab)[-1].status
    assert work_of(tab).session.objects[2].prompted[6] is kept, "an object without a prompt in the part stays as it is"
    assert not work_of(tab).session.objects[2].tracked


def test_the_draft_asks_the_prompts_again(tracked: ClickTab, models: Models) -> None:
    tab, full = tracked, models.base.predictor.model
    small = model_at_side(full, 128)
    assert small.no_mem_embed.data_ptr() == full.no_mem_embed.data_ptr(), "weights are shared"
    assert not models.base.has_draft
    both = replace(models.base)
    vars(both)["draft"] = VideoPredictor(small)
    tab.models = Models(both)
    tab.change_model("me")
    assert "Draft" in tab.take_draft("me", True).status
    assert (list(item_of(tab).prompted), item_of(tab).tracked) == ([0], {})
    assert "Done" in track(tab)[-1].status


def test_uncertain_frames_are_found(tab: ClickTab, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(gr, "Info", said.append)
    click_disc(tab)
    tab.next_uncertain("me")
    assert "No frame is uncertain" in said[0]
    work_of(tab).model = replace(tab.models.base, quality=QualityLimits(min_iou=1.1))
    track(tab)
    assert (work_of(tab).states()[1][1:] == UNCERTAIN).all()
    tab.show_frame("me", 0)
    assert tab.next_uncertain("me").slider == 1


def test_a_picture_model_says_why_it_does_not_track(toy: SAM2) -> None:
    for trained in (True, False):
        toy.memory_is_trained = trained
        blocks = build_app(AppModel(toy, "toy"), [], []).blocks.values()
        shown = {block.elem_id for block in blocks if hasattr(block, "elem_id")}
        assert ("video-track" in shown, "video-untrained" in shown) == (trained, not trained)


def test_no_two_events_of_a_tab_have_one_name(toy: SAM2) -> None:
    names = [str(fn.api_name) for fn in build_app(AppModel(toy, "toy"), [], []).fns.values()]
    assert {"image_take_masks", "video_masks"} <= set(names)
    assert not [name for name in names if re.match(r"(image|video|finetune)_\w+_\d+$", name)], "Gradio numbers twins"


# downloads and sessions


def made(tab: ClickTab, kind: str, background: str = "spotlight", objects: str = "original") -> Path:
    return Path(list(tab.downloads.clip_file(kind, "me", objects, background, True))[-1][0])


def test_files_of_a_clip_hold_its_frames_times_masks_and_colours(tracked: ClickTab) -> None:
    work_of(tracked).editor.colours.places = {1: 6}
    shown, masks = gesture(tracked, "pick", 1), masks_of(tracked)
    assert scene_of(shown)["objects"][0]["colour"] == PALETTE[6]
    assert "rgb({},{},{})".format(*rgb(PALETTE[6])) in shown.timeline
    with open_clip(made(tracked, "side")) as clip:
        assert (len(clip), clip.size_hw, clip.has_audio) == (FRAMES, (SIZE_HW[0], 2 * SIZE_HW[1]), True)
        assert np.abs(np.array(clip.timestamps) - np.array(TIMES)).max() < 1e-3
        frame = clip.frame(5)[:, -SIZE_HW[1] :].astype(int)
        assert frame[disc(5)].mean() > 2 * frame[~disc(5)].mean(), "all but the disc is dark"
    with open_clip(made(tracked, "video", "original", "fill_object")) as clip:
        assert (len(clip), clip.has_audio) == (FRAMES, True)
        assert np.abs(clip.frame(5)[masks[5]].mean(axis=0) - rgb(PALETTE[6])).max() < 30
    with open_clip(made(tracked, "gif")) as clip:
        assert len(clip) > 3
    assert made(tracked, "alpha").stat().st_size > 1000
    with zipfile.ZipFile(made(tracked, "masks")) as archive:
        for frame in (0, FRAMES - 1):
            with archive.open(f"{frame:05d}.png") as file:
                assert np.array_equal(np.array(Image.open(file)) == 1, masks[frame])
    coco = json.loads(made(tracked, "coco").read_text())
    assert [a["area"] for a in coco["annotations"]] == [int(mask.sum()) for mask in masks]
    assert coco["objects"][0]["name"] == "ball"


def test_several_downloads_are_written_at_once_and_can_be_stopped(
    tracked: ClickTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_SAY_EVERY", 0)

    def begin(*kinds: str) -> list[Iterator]:
        return [tracked.downloads.clip_file(kind, "me", "overlay", "original", False) for kind in kinds]

    (stopped,) = begin("video")
    while "Video with effect: 2" not in next(stopped)[1]:
        pass
    tracked.downloads.stop_writing("me")
    assert "no file was made" in list(stopped)[-1][1]
    assert list(work_of(tracked).file.downloads.iterdir()) == []
    with pytest.raises(gr.Error, match="no transparency"):
        made(tracked, "video", "cut_out")
    tracked.step_frame("me", 0)
    one, two, three = begin("video", "side", "masks")
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
    late, later = begin("video", "side")
    next(late)
    tracked.downloads.stop_writing("me")
    next(later)  # asked for after Stop, which is not meant for it
    assert list(late)[-1][0] is None
    assert list(later)[-1][0] is not None


def test_effects_are_shown_until_the_next_click(tracked: ClickTab) -> None:
    normal = scene_of(tracked.show_frame("me", 0))
    for effects in (("original", "blur_background"), ("overlay", "cut_out"), ("trail", "spotlight")):
        shown = tracked.show_effect("me", *effects, True)
        assert scene_of(shown)["picture"] != normal["picture"]
        assert masks_in(shown) == [""]
        assert shown.previews is True
    answered = click_disc(tracked)["page"]
    assert answered["previews"] is False
    assert answered["view"]["value"]["picture"] == normal["picture"]


def test_tracks_of_a_part_are_saved_and_opened_again(tracked: ClickTab, tmp_path: Path) -> None:
    tracked.take_part("me", 0, 12, 1)
    kept = tmp_path / "kept.session.safetensors"
    kept.write_bytes(Path(tracked.downloads.session_file("me")[0]).read_bytes())
    tracked.take_part("me", 0, -1, 1)
    tracked.open_example(0, "you")
    assert names_in(tracked.open_session("you", str(kept))) == ["ball"]
    assert all(map(np.array_equal, masks_of(tracked), masks_of(tracked, "you")))
    assert "Done" in track(tracked, "you")[-1].status
    tracked.store.visitors.drop("you")
