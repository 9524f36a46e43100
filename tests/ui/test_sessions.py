"""The store of visitors' work, and the work itself, without any page."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import gradio as gr
import numpy as np
import pytest
import torch

import app
from sam2kit.clicking.views import VIEW_SIDES
from sam2kit.hub import HubError
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions
from sam2kit.predict.image import ImagePredictor
from sam2kit.ui import layout
from sam2kit.ui.picture_work import PictureWork
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.start import load_for_app
from tests.loopback_hub import LoopbackHub


class TestStore:
    def test_each_key_has_its_own_work(self) -> None:
        store: SessionStore[list] = SessionStore(list)
        with store.using("a") as work:
            work.append(1)
        with store.using("b") as work:
            assert work == []
        with store.using("a") as work:
            assert work == [1]

    def test_the_least_recently_used_goes_first(self) -> None:
        store: SessionStore[list] = SessionStore(list, capacity=2)
        for key in ("a", "b", "a", "c"):
            with store.using(key) as work:
                work.append(key)
        assert len(store) == 2
        with store.using("a") as work:
            assert work == ["a", "a"]
        with store.using("b") as work:
            assert work == []

    def test_keys_cannot_be_guessed(self) -> None:
        keys = {SessionStore.new_key() for _ in range(100)}
        assert len(keys) == 100
        assert min(map(len, keys)) >= 32

    def test_one_visitor_at_a_time_in_one_session(self) -> None:
        store: SessionStore[dict] = SessionStore(lambda: {"n": 0})

        def add(_: int) -> None:
            with store.using("a") as work:
                n = work["n"]
                work["n"] = n + 1

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(200)))
        with store.using("a") as work:
            assert work["n"] == 200

    def test_dropped_work_starts_anew(self) -> None:
        store: SessionStore[list] = SessionStore(list)
        with store.using("a") as work:
            work.append(1)
        store.drop("a")
        with store.using("a") as work:
            assert work == []

    def test_requests_past_gradio_make_no_work_and_the_newest_counts(self) -> None:
        store: SessionStore[list] = SessionStore(list)
        with pytest.raises(KeyError), store.newest("guessed", 1):
            pass
        with pytest.raises(KeyError), store.if_free("guessed"):
            pass
        assert len(store) == 0
        with store.using("a"), store.newest("a", 5) as work, store.newest("a", 4) as late:
            assert work == []
            assert late is None

    def test_who_leaves_is_forgotten_after_a_while_unless_they_come_back(self) -> None:
        gone, forgotten, kept_seconds = [], [], 0.2
        store: SessionStore[list] = SessionStore(
            list, discard=gone.append, forgotten=forgotten.append, seconds_after_leaving=kept_seconds
        )
        for key in ("stays", "leaves"):
            with store.using(key) as work:
                work.append(key)
            store.leave(key)
        stopped = store._slots["leaves"].cancelled
        assert stopped.is_set(), "a job that nobody watches ends"
        store.leave("never was there")
        with store.using("stays") as work:
            assert work == ["stays"]
        time.sleep(5 * kept_seconds)
        assert gone == [["leaves"]]
        assert forgotten == ["leaves"]
        assert len(store) == 1

    def test_a_job_goes_on_only_with_work_that_is_still_there(self) -> None:
        store: SessionStore[list] = SessionStore(list, seconds_after_leaving=0.2)
        with store.still("never") as work:
            assert work is None
        with store.using("a"):
            pass
        store.leave("a")
        with store.still("a") as work:
            assert work == []
        time.sleep(0.8)
        assert len(store) == 0, "the end of a job is no sign of its visitor"

    def test_who_waited_for_dropped_work_gets_new_work(self) -> None:
        store: SessionStore[list] = SessionStore(list)
        got: list[list] = []

        def use() -> None:
            with store.using("a") as work:
                got.append(work)

        with store.using("a") as old:
            thread = Thread(target=use)
            thread.start()
            time.sleep(0.05)
            store._slots.pop("a")
        thread.join(10)
        assert got[0] is not old

    def test_what_is_forgotten_is_let_go_of(self) -> None:
        gone: list[str] = []
        made = iter("abcd")
        store: SessionStore[str] = SessionStore(lambda: next(made), capacity=2, discard=gone.append)
        stopped = store.cancelled("1")
        for key in ("1", "2", "3"):
            with store.using(key):
                pass
        for _ in range(100):  # what is forgotten is let go of by another thread
            if gone:
                break
            time.sleep(0.02)
        assert gone == ["a"]
        assert stopped.is_set()
        store.drop("3")
        store.drop("3")
        assert gone == ["a", "c"]


@pytest.fixture
def predictor(nano: SAM2) -> ImagePredictor:
    return ImagePredictor(nano)


@pytest.fixture
def work(predictor: ImagePredictor, assets: Path) -> PictureWork:
    """The coffee photo, opened; its view is larger than the photo."""
    work = PictureWork()
    work.open(predictor, assets / "photos" / "coffee.jpg")
    return work


class TestPictureWork:
    def test_the_view_suits_a_page(self, predictor: ImagePredictor) -> None:
        for size_hw in ((30, 40), (400, 600), (1000, 1000), (500, 4000)):
            work = PictureWork()
            work.open(predictor, np.zeros((*size_hw, 3), np.uint8))
            assert VIEW_SIDES[0] <= max(work.view.shape) <= VIEW_SIDES[1]
            assert work.draw().shape == work.view.shape

    def test_clicks_stay_in_the_picture(self, predictor: ImagePredictor, work: PictureWork) -> None:
        work.click(predictor, (290, 60), positive=True)
        (x, y, label) = work.active.points[0]
        assert (x, y) == (290, 60)
        assert label == 1
        work.click(predictor, (10_000, -5), positive=False)
        assert work.active.points[1] == (599, 0, 0)

    def test_a_click_gives_three_candidates_and_more_give_one(
        self, predictor: ImagePredictor, work: PictureWork
    ) -> None:
        work.click(predictor, (290, 60), positive=True)
        assert len(work.active.predicted_iou) == 3
        first = work.finished()[0]
        work.choose((work.active.chosen + 1) % 3)
        assert not np.array_equal(work.finished()[0].mask, first.mask)
        work.click(predictor, (19, 375), positive=False)
        assert len(work.active.predicted_iou) == 1
        with pytest.raises(ValueError, match="no candidate"):
            work.choose(2)

    def test_undo_goes_all_the_way_back(self, predictor: ImagePredictor, work: PictureWork) -> None:
        pictures = [work.draw()]
        work.click(predictor, (290, 60), positive=True)
        pictures.append(work.draw())
        work.new_object()
        work.corner(predictor, (325, 190))
        work.corner(predictor, (410, 330))
        pictures.append(work.draw())
        work.clear()
        assert work.finished() == []
        work.undo()
        assert np.array_equal(work.draw(), pictures[2])
        work.undo()
        work.undo()
        work.undo()
        assert np.array_equal(work.draw(), pictures[1])
        work.undo()
        assert np.array_equal(work.draw(), pictures[0])
        work.undo()
        assert np.array_equal(work.draw(), pictures[0])

    def test_objects_are_apart(self, predictor: ImagePredictor, work: PictureWork) -> None:
        work.click(predictor, (290, 60), positive=True)
        before = work.finished()[0].mask
        work.new_object()
        work.new_object()
        assert len(work.now.objects) == 2, "an empty object is used before another is made"
        work.click(predictor, (369, 275), positive=True)
        names = [o.name for o in work.finished()]
        assert names == ["Object 1", "Object 2"]
        assert np.array_equal(work.finished()[0].mask, before)
        with pytest.raises(ValueError, match="no such object"):
            work.select(8)

    def test_a_box_may_be_drawn_from_any_corner(self, predictor: ImagePredictor, work: PictureWork) -> None:
        work.corner(predictor, (410, 330))
        assert work.now.corner is not None
        work.corner(predictor, (325, 190))
        x0, y0, x1, y1 = work.active.box_xyxy
        assert (x0, y0, x1, y1) == pytest.approx((325, 190, 410, 330), abs=1)
        assert work.now.corner is None

    def test_everything_becomes_objects_that_can_be_refined(self, predictor: ImagePredictor, work: PictureWork) -> None:
        options = AutomaticOptions(points_per_side=4, min_predicted_iou=0.3, min_stability=0.5)
        found = AutomaticMasks(predictor.model, options).generate(work.image)
        count = work.add_found(found, predictor.model.config.low_res_side)
        assert count == len(work.finished()) > 0
        before = work.finished()[0].mask
        x, y = np.argwhere(before)[len(np.argwhere(before)) // 2][::-1]
        work.click(predictor, (x, y), positive=True)
        assert len(work.finished()) == count
        work.undo()
        work.undo()
        assert work.finished() == []

    def test_a_bad_picture_leaves_the_open_one(
        self, predictor: ImagePredictor, work: PictureWork, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.jpg").write_text("no")
        before = work.image
        with pytest.raises(ValueError, match=r"bad\.jpg"):
            work.open(predictor, tmp_path / "bad.jpg")
        assert work.image is before


class TestStart:
    def test_no_hub_means_nano_and_a_notice_with_the_reason(self, hub: LoopbackHub) -> None:
        hub.stop()
        app_model = load_for_app("sam2.1-hiera-tiny", "cpu")
        assert app_model.name == "nano"
        assert "instead of sam2.1-hiera-tiny" in app_model.notice
        assert "cannot be reached" in app_model.reason

    def test_the_terminal_says_so_too_with_the_reason_and_the_cure(
        self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        hub.stop()
        monkeypatch.setattr(gr.Blocks, "launch", lambda *_, **__: None)
        assert app.main(["--model", "sam2.1-hiera-tiny", "--device", "cpu"]) == 0
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("app.py:")]
        assert "instead of sam2.1-hiera-tiny" in line
        assert "cannot be reached" in line, "the reason"
        assert "--model path/to/sam2.1-hiera-tiny.pt" in line, "the cure"
        assert app.main(["--model", "nano", "--device", "cpu"]) == 0
        assert "instead of" not in capsys.readouterr().err, "nano was asked for"

    def test_the_precision_that_was_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert load_for_app("nano", "cpu").model.compute_dtype == torch.float32
        monkeypatch.setattr(gr.Blocks, "launch", lambda *_, **__: None)
        loaded, build = [], layout.build_app
        monkeypatch.setattr(layout, "build_app", lambda model, *a, **k: loaded.append(model) or build(model, *a, **k))
        assert app.main(["--model", "nano", "--device", "cpu", "--dtype", "bfloat16"]) == 0
        assert loaded[0].model.compute_dtype == torch.bfloat16

    def test_other_mistakes_are_not_papered_over(self, hub: LoopbackHub) -> None:
        with pytest.raises(ValueError, match="unknown model"):
            load_for_app("huge")
        with pytest.raises(FileNotFoundError):
            load_for_app("./missing.pt")
        assert issubclass(HubError, RuntimeError)
