"""The click widgets without a browser: what cells do, and what messages of a browser do."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from sam2kit.clicking.messages import mask_png
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.picture_session import PictureSession
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session import Step, VideoSession
from sam2kit.predict.video import VideoPredictor
from sam2kit.widgets import ClickImage, ClickVideo
from sam2kit.widgets.click_widget import ClickWidget
from sam2kit.widgets.still import still_picture

HEAD, PATCH = (230, 84), (130.0, 344.0, 212.0, 424.0)
CUP = (150, 215)


class Browser:
    """Stands in for the page: sends what it would send, and keeps what it would hear."""

    def __init__(self, widget: ClickWidget) -> None:
        self.widget, self.heard = widget, []
        widget.send = self.heard.append  # type: ignore[method-assign]

    def sends(self, **content: Any) -> dict[str, Any]:
        """One message, and its one answer."""
        self.widget._handle_custom_msg({"id": "7", **content}, [])
        (reply,) = self.heard
        self.heard.clear()
        assert reply["id"] == "7"
        return reply["answer"]

    def asks(self, points: list, box: list | None = None, kind: str = "ask", **changes: Any) -> dict[str, Any]:
        """All prompts of the active object."""
        scene = self.widget.scene
        request = {"key": scene["key"], "scene": scene["scene"], "sequence": 1, "number": scene["active"]}
        return self.sends(**{kind: {**request, "points": points, "box": box, **changes}})


@pytest.fixture
def predictor(nano: SAM2) -> ImagePredictor:
    return ImagePredictor(nano)


@pytest.fixture
def widget(predictor: ImagePredictor, assets: Path) -> ClickImage:
    return ClickImage(predictor, assets / "photos" / "astronaut.jpg")


@pytest.fixture
def video(nano: SAM2, assets: Path) -> ClickVideo:
    predictor = VideoPredictor(nano)
    return ClickVideo(predictor, predictor.open(assets / "clips" / "cup_grows.mp4").clip.cut(0, 12, 2))


class TestClickImage:
    def test_a_click_gives_the_predictors_mask(self, widget: ClickImage, predictor: ImagePredictor) -> None:
        answer = Browser(widget).asks([[*HEAD, 1]])
        photo = widget.session.image
        expected = predictor.predict(predictor.encode(photo), Prompt([HEAD])).best().masks[0, 0].numpy()
        assert np.array_equal(widget.masks["Object 1"], expected)
        assert answer["object"]["mask"] == mask_png(widget._work.view_mask(widget._work.active)) != ""
        assert widget.prompts["Object 1"].points_xy.tolist() == [[list(map(float, HEAD))]]
        assert widget.tools == {"undo": True, "frames": 0}
        assert len(widget.candidates["rows"]) == 3
        assert widget.candidates["rows"][widget.candidates["chosen"]]["mask"] == answer["object"]["mask"]

    def test_objects_undo_and_names(self, widget: ClickImage) -> None:
        browser = Browser(widget)
        browser.asks([[*HEAD, 1]])
        browser.sends(deed="new")
        browser.asks([], list(PATCH))
        browser.sends(deed="rename", number=1, name="patch")
        assert list(widget.masks) == ["Object 1", "patch"]
        assert widget.prompts["patch"].box_xyxy.tolist() == [list(PATCH)]
        assert [row["name"] for row in widget.listed["rows"]] == ["Object 1", "patch"]
        browser.sends(deed="pick", number=0)
        assert widget.scene["active"] == 0
        assert widget.scene["points"] == [[*map(float, HEAD), 1]]
        browser.sends(deed="drop", number=0)
        assert list(widget.masks) == ["patch"]
        browser.sends(deed="undo")
        assert list(widget.masks) == ["Object 1", "patch"]
        browser.sends(deed="clear")
        assert widget.masks == {}
        browser.sends(deed="undo")
        assert len(widget.masks) == 2

    def test_another_candidate(self, widget: ClickImage) -> None:
        browser = Browser(widget)
        browser.asks([[*HEAD, 1]])
        before, other = widget.masks["Object 1"], (widget.candidates["chosen"] + 1) % 3
        browser.sends(deed="choose", candidate=other)
        assert widget.candidates["chosen"] == other
        assert not np.array_equal(widget.masks["Object 1"], before)

    def test_a_preview_changes_nothing(self, widget: ClickImage) -> None:
        answer = Browser(widget).asks([[*HEAD, 1]], kind="preview")
        assert answer["object"]["mask"]
        assert widget.prompts == {}
        assert widget.masks == {}

    def test_cells_can_prompt_too(self, widget: ClickImage, predictor: ImagePredictor) -> None:
        widget.prompt("head", [HEAD])
        widget.prompt("patch", box_xyxy=PATCH)
        widget.prompt("head", [HEAD, (20, 20)], [1, 0])
        assert list(widget.masks) == ["head", "patch"]
        assert widget.prompts["head"].labels.tolist() == [[1, 0]]
        found = widget.to_detections()
        assert found.data["class_name"].tolist() == ["head", "patch"]
        assert np.array_equal(found.mask[1], widget.masks["patch"])
        again = ClickImage(predictor, widget.session)
        assert all(np.array_equal(again.masks[n], m) for n, m in widget.masks.items())

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"points_xy": [[900, 10]]}, "outside the 512x512 picture"),
            ({"points_xy": [[10, 10]], "labels": [1, 0]}, "one label each"),
            ({"points_xy": [[10, 10]], "labels": [3]}, "label is 1"),
            ({"box_xyxy": [1, 2, 3]}, "box is 4 numbers"),
            ({"points_xy": [[[1, 2]]]}, r"clicks are \[N, 2\]"),
        ],
    )
    def test_mistakes_in_a_cell_get_one_sentence(self, widget: ClickImage, arguments: dict, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            widget.prompt("head", **arguments)
        assert widget.masks == {}

    def test_mistakes_of_a_browser_get_an_answer(self, widget: ClickImage) -> None:
        browser = Browser(widget)
        assert "another picture" in browser.asks([[1, 1, 1]], scene="0")["says"]
        assert "no such object" in browser.asks([[1, 1, 1]], number=5)["says"]
        assert "no button" in browser.sends(deed="explode")["says"]
        assert "whole number" in browser.sends(deed="pick", number="x")["says"]
        widget.prompt("head", [HEAD])
        widget.prompt("patch", box_xyxy=PATCH)
        assert "already" in browser.sends(deed="rename", number=1, name="head")["says"]
        browser.heard.clear()
        widget._handle_custom_msg("nonsense", [])
        assert browser.heard == []

    def test_an_error_of_ours_still_answers_the_page(self, widget: ClickImage, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_: object) -> None:
            raise TypeError("a mistake in the program")

        monkeypatch.setattr(widget, "_ask", broken)
        heard = []
        monkeypatch.setattr(widget, "send", heard.append)
        request = {"key": "", "scene": "", "sequence": 1, "number": 0, "points": [], "box": None}
        with pytest.raises(TypeError, match="a mistake in the program"):
            widget._heard(widget, {"id": "1", "ask": request}, [])
        assert "could not answer" in heard[0]["answer"]["says"]


class TestClickVideo:
    def test_clicks_on_several_frames_and_tracking(self, video: ClickVideo, nano: SAM2) -> None:
        browser = Browser(video)
        browser.asks([[*CUP, 1]])
        browser.sends(deed="go", frame=5)
        assert video.frame == 5
        assert video.masks == {}
        browser.asks([[150, 210, 1], [10, 10, 0]])
        assert {f: list(p) for f, p in video.prompts.items()} == {0: ["Object 1"], 5: ["Object 1"]}
        assert browser.sends(deed="track")["goes_on"]
        assert video.scene["editable"] is False
        assert "tracking is running" in browser.asks([[9, 9, 1]])["says"]
        assert "tracking is running" in browser.sends(deed="go", frame=1)["says"]
        while browser.sends(deed="step")["goes_on"]:
            assert video.tools["tracking"]
        assert video.scene["editable"]
        # the same by the predictor alone
        predictor = VideoPredictor(nano)
        session = predictor.open(video.session.clip)
        predictor.add_points(session, 0, "Object 1", [CUP])
        predictor.add_points(session, 5, "Object 1", [[150, 210], [10, 10]], [1, 0])
        for frame in predictor.propagate(session):
            t = frame.frame_index
            assert np.array_equal(video.session.masks(t).mask("Object 1"), session.masks(t).mask("Object 1"))

    def test_stopping_keeps_what_was_tracked(self, video: ClickVideo, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sam2kit.widgets.click_video._SHOWN_EVERY", 1e-9)
        browser = Browser(video)
        browser.asks([[*CUP, 1]])
        browser.sends(deed="track")
        browser.sends(deed="step")
        browser.sends(deed="step")
        assert browser.sends(deed="stop") == {"goes_on": False}
        done = [f for f in range(6) if len(video.session.masks(f))]
        assert 1 <= len(done) < 6
        browser.asks([[*CUP, 1], [5, 5, 0]])  # prompts are taken again

    def test_an_interrupted_cell_keeps_what_was_tracked(
        self, video: ClickVideo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        video.prompt("cup", [CUP])
        tracker = video._work.predictor.tracker
        track = tracker.track

        def interrupted(session: VideoSession, step: Step) -> None:
            if step.frame == 3:
                raise KeyboardInterrupt
            track(session, step)

        monkeypatch.setattr(tracker, "track", interrupted)
        with pytest.raises(KeyboardInterrupt):
            video.track()
        assert not video.tools["tracking"] and video.scene["editable"]
        assert len(video.session.masks(2)) and not len(video.session.masks(3))
        monkeypatch.undo()
        video.track()
        assert len(video.session.masks(3))

    def test_nothing_is_changed_while_tracking_runs(self, video: ClickVideo) -> None:
        video.prompt("cup", [CUP])
        Browser(video).sends(deed="track")
        with pytest.raises(ValueError, match="tracking is running"):
            video.prompt("cup", [CUP])
        with pytest.raises(ValueError, match="tracking is running"):
            video.frame = 2

    def test_the_session_is_a_copy_with_names(self, video: ClickVideo, nano: SAM2) -> None:
        video.prompt("cup", [CUP])
        video.prompt("grass", [[20, 300]], frame=3)
        video.track()
        session = video.session
        assert list(session.tracks) == ["cup", "grass"]
        session.remove_object("grass")
        assert list(video.session.tracks) == ["cup", "grass"]
        again = ClickVideo(VideoPredictor(nano), session)
        assert [row["name"] for row in again.listed["rows"]] == ["cup"]
        assert np.array_equal(again.session.masks(2).mask("cup"), video.session.masks(2).mask("cup"))
        Browser(again).sends(deed="clear")
        assert list(session.tracks) == ["cup"]

    def test_a_removed_object_comes_back(self, video: ClickVideo) -> None:
        video.prompt("cup", [CUP])
        browser = Browser(video)
        browser.sends(deed="drop", number=0)
        assert video.session.tracks == {}
        browser.sends(deed="undo")
        assert list(video.masks) == ["cup"]

    def test_mistakes_get_one_sentence(self, video: ClickVideo) -> None:
        browser = Browser(video)
        assert "nothing to track" in browser.sends(deed="track")["says"]
        assert not video.tools["tracking"]
        assert "no previews" in browser.asks([[1, 1, 1]], kind="preview")["says"]
        with pytest.raises(IndexError, match="frame 99 is outside"):
            video.prompt("cup", [CUP], frame=99)
        with pytest.raises(IndexError, match="frame 99 is outside"):
            video.frame = 99


class TestStaticPicture:
    def test_where_no_widget_can_be_shown_there_is_a_picture(self, widget: ClickImage) -> None:
        widget.prompt("patch", box_xyxy=PATCH)
        data, _ = widget._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in data
        assert "patch" in data["text/plain"]
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))).convert("RGB"), int)
        assert picture.shape[:2] == (512 + 26, 512)
        changed = np.abs(picture[:512] - widget.session.image).max(axis=2) > 60
        x = np.nonzero(changed)[1]
        assert PATCH[0] - 8 <= np.percentile(x, 2)
        assert np.percentile(x, 98) <= PATCH[2] + 8
        assert (picture[512:] < 150).any(), "the line below has letters"

    def test_it_is_never_wide(self) -> None:
        assert still_picture(np.zeros((1000, 2000, 3), np.uint8)).shape == (360 + 26, 720, 3)
        assert still_picture(np.zeros((30, 60, 3), np.uint8)).shape == (30 + 26, 60, 3)

    def test_a_clip_shows_its_frame(self, video: ClickVideo) -> None:
        video.prompt("cup", [CUP])
        mask = video.masks["cup"]
        off = np.abs(video.still().astype(int) - video.session.clip.frame(0)).sum(axis=2)
        assert off[mask].mean() > 2 * off[~mask].mean()


def test_the_picture_reaches_a_stored_notebook(tmp_path: Path, assets: Path) -> None:
    """Run in a real kernel, as a notebook's cell."""
    root = assets.parent
    code = f"""import sys; sys.path.insert(0, {str(root)!r})
import sam2kit
from sam2kit.widgets import ClickImage
ClickImage(sam2kit.ImagePredictor(sam2kit.load_model("nano")), {str(assets / "photos" / "coffee.jpg")!r})"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = notebook.cells[0].outputs
    assert {"image/jpeg", "application/vnd.jupyter.widget-view+json"} <= set(output.data)


def test_sessions_of_pictures_are_the_apps(widget: ClickImage, tmp_path: Path) -> None:
    widget.prompt("head", [HEAD])
    path = widget.session.save(tmp_path / "work.session.safetensors")
    assert np.array_equal(PictureSession.load(path).masks["head"], widget.masks["head"])
