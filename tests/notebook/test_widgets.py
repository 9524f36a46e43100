"""The click widget without a browser: what cells do, what messages of a browser do, and what its buttons do."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from threading import Thread, current_thread
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from sam2kit import Session
from sam2kit.model.sam2 import SAM2
from sam2kit.notebook import ClickWidget, click_widget
from sam2kit.notebook.click_widget import still_picture
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor

HEAD, PATCH = (230, 84), (130.0, 344.0, 212.0, 424.0)
CUP = (150, 215)


class Browser:
    """Stands in for the page: sends what it would send, keeps what it would hear, and presses buttons."""

    def __init__(self, widget: ClickWidget) -> None:
        self.widget, self.heard = widget, []
        widget._canvas.send = self.heard.append  # type: ignore[method-assign]

    @property
    def scene(self) -> dict[str, Any]:
        return self.widget._canvas.scene

    def sends(self, **content: Any) -> dict[str, Any]:
        """One message, and its one answer."""
        self.widget._canvas._handle_custom_msg({"id": "7", **content}, [])
        (reply,) = self.heard
        self.heard.clear()
        assert reply["id"] == "7"
        return reply["answer"]

    def asks(self, points: list, box: list | None = None, kind: str = "ask", **changes: Any) -> dict[str, Any]:
        """All prompts of the active object."""
        request = {"key": "", "scene": self.scene["scene"], "sequence": 1, "number": self.scene["active"]}
        return self.sends(**{kind: {**request, "points": points, "box": box, **changes}})

    def presses(self, what: str) -> None:
        """A button."""
        getattr(self.widget, f"_{what}").click()

    def row(self, number: int) -> Any:
        """An object in the list."""
        return self.widget._rows[number]

    @property
    def says(self) -> str:
        return self.widget._says.value


@pytest.fixture
def predictor(nano: SAM2) -> ImagePredictor:
    return ImagePredictor(nano)


@pytest.fixture
def widget(predictor: ImagePredictor, assets: Path) -> ClickWidget:
    return ClickWidget(predictor, assets / "photos" / "astronaut.jpg")


@pytest.fixture
def video(nano: SAM2, assets: Path) -> ClickWidget:
    predictor = VideoPredictor(nano)
    return ClickWidget(predictor, predictor.open(assets / "clips" / "cup_grows.mp4").clip.cut(0, 12, 2))


class TestPicture:
    def test_a_click_gives_the_predictors_mask(self, widget: ClickWidget, predictor: ImagePredictor) -> None:
        browser = Browser(widget)
        assert browser.asks([[*HEAD, 1]], kind="preview")["object"]["mask"]
        assert widget.prompts == widget.masks == {}, "a preview changes nothing"
        answer = browser.asks([[*HEAD, 1]])
        photo = widget.session.clip.frame(0)
        expected = predictor.predict(predictor.encode(photo), Prompt([HEAD])).best().masks[0, 0].numpy()
        assert np.array_equal(widget.masks["Object 1"], expected)
        assert widget.prompts["Object 1"].points_xy.tolist() == [list(map(float, HEAD))]
        rows, chosen = answer["candidates"]["rows"], answer["candidates"]["chosen"]
        assert len(rows) == 3 and rows[chosen]["mask"] == answer["object"]["mask"]
        assert "predicted IoU" in browser.row(1)._pick.description
        assert browser.sends(gesture="choose", candidate=(chosen + 1) % 3) == {}
        assert not np.array_equal(widget.masks["Object 1"], expected)
        assert browser.scene["candidates"]["chosen"] == (chosen + 1) % 3

    def test_objects_undo_and_names(self, widget: ClickWidget) -> None:
        browser = Browser(widget)
        browser.asks([[*HEAD, 1]])
        browser.presses("new")
        browser.asks([], list(PATCH))
        widget._name.value = "patch"
        assert list(widget.masks) == ["Object 1", "patch"]
        assert widget.prompts["patch"].box_xyxy.tolist() == list(PATCH)
        browser.row(1)._pick.click()
        assert (browser.scene["active"], widget._name.value) == (1, "Object 1")
        assert browser.scene["points"] == [[*map(float, HEAD), 1]]
        widget._name.value = "patch"
        assert "already" in browser.says
        browser.row(1)._drop.click()
        assert list(widget.masks) == ["patch"] and browser.says == ""
        browser.presses("undo")
        browser.presses("clear")
        assert widget.masks == {}
        browser.presses("undo")
        assert len(widget.masks) == 2

    def test_cells_can_prompt_too(self, widget: ClickWidget, predictor: ImagePredictor, tmp_path: Path) -> None:
        widget.prompt("head", [HEAD])
        widget.prompt("patch", box_xyxy=PATCH)
        widget.prompt("head", [HEAD, (20, 20)], [1, 0])
        assert list(widget.masks) == ["head", "patch"]
        assert widget.prompts["head"].labels.tolist() == [1, 0]
        found = widget.to_detections()
        assert found.data["class_name"].tolist() == ["head", "patch"]
        assert np.array_equal(found.mask[1], widget.masks["patch"])
        path = widget.session.save(tmp_path / "work.session.safetensors")
        for again in (ClickWidget(predictor, widget.session), ClickWidget(predictor, Session.load(path))):
            assert all(np.array_equal(again.masks[name], mask) for name, mask in widget.masks.items())

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [({"points_xy": [[900, 10]]}, "outside the 512x512 picture"), ({"box_xyxy": [1, 2, 3]}, "box must be four")],
    )
    def test_mistakes_in_a_cell_get_one_sentence(self, widget: ClickWidget, arguments: dict, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            widget.prompt("head", **arguments)
        assert widget.masks == {}

    def test_mistakes_of_a_browser_get_an_answer(self, widget: ClickWidget, monkeypatch: pytest.MonkeyPatch) -> None:
        browser = Browser(widget)
        assert "another picture" in browser.asks([[1, 1, 1]], scene="0")["says"]
        assert "no such object" in browser.asks([[1, 1, 1]], number=5)["says"]
        assert "a request is an object" in browser.sends(explode=True)["says"]
        browser.heard.clear()
        widget._canvas._handle_custom_msg("nonsense", [])
        assert browser.heard == []

        def broken(_: object) -> None:
            raise TypeError("a mistake in the program")

        monkeypatch.setattr(widget._editor, "answer", broken)
        request = {"key": "", "scene": "", "sequence": 1, "number": 0, "points": [], "box": None}
        with pytest.raises(TypeError, match="a mistake in the program"):
            widget._canvas._heard(widget, {"id": "1", "ask": request}, [])
        assert "could not answer" in browser.heard[0]["answer"]["says"]


class TestClip:
    def test_clicks_on_several_frames_and_tracking(self, video: ClickWidget, nano: SAM2) -> None:
        browser = Browser(video)
        browser.asks([[*CUP, 1]])
        video._slider.value = 5
        assert (video.frame, video.masks) == (5, {})
        browser.asks([[150, 210, 1], [10, 10, 0]])
        assert sorted(video.session.objects["Object 1"].prompts) == [0, 5]

        async def press_and_wait() -> None:
            browser.presses("track")
            assert browser.scene["editable"] is False
            assert "tracking is running" in browser.asks([[9, 9, 1]])["says"]
            for change in (lambda: video.prompt("cup", [CUP]), lambda: setattr(video, "frame", 1)):
                with pytest.raises(ValueError, match="tracking is running"):
                    change()
            await video._task

        asyncio.run(press_and_wait())
        assert browser.scene["editable"] is True
        # the same by the predictor alone
        predictor = VideoPredictor(nano)
        session = predictor.open(video.session.clip)
        predictor.add_points(session, 0, "Object 1", [CUP])
        predictor.add_points(session, 5, "Object 1", [[150, 210], [10, 10]], [1, 0])
        for frame in predictor.propagate(session):
            t = frame.frame_index
            assert np.array_equal(video.session.masks(t).mask("Object 1"), session.masks(t).mask("Object 1"))

    def test_stopping_keeps_what_was_tracked(self, video: ClickWidget, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(click_widget, "_SHOWN_EVERY", 1e-9)
        browser = Browser(video)
        browser.asks([[*CUP, 1]])

        async def press_twice() -> None:
            browser.presses("track")
            await asyncio.sleep(0.05)
            browser.presses("track")
            await video._task

        asyncio.run(press_twice())
        done = [f for f in range(6) if len(video.session.masks(f))]
        assert 1 <= len(done) < 6
        browser.asks([[*CUP, 1], [5, 5, 0]])  # prompts are taken again

    def test_presses_in_another_thread_wait(self, video: ClickWidget, monkeypatch: pytest.MonkeyPatch) -> None:
        """JupyterLab sends the first press to the kernel's main thread, and later ones to another."""
        browser, tracked = Browser(video), []
        browser.asks([[*CUP, 1]])
        predictor = video._editor.predictor
        track = predictor.track_frame

        async def press(times: int) -> None:
            for _ in range(times):
                browser.presses("track")
            await video._task

        other = Thread(target=lambda: asyncio.run(press(2)))

        def pressed_meanwhile(session: Session, step: Any) -> Any:
            tracked.append((current_thread(), step.frame))
            if len(tracked) == 1:
                other.start()
                other.join(0.3)  # it would be through, if nothing made it wait
            return track(session, step)

        monkeypatch.setattr(predictor, "track_frame", pressed_meanwhile)
        monkeypatch.setattr(click_widget, "_SHOWN_EVERY", 1e-9)
        asyncio.run(press(1))
        other.join()
        assert [frame for thread, frame in tracked if thread is other] == list(range(6)), "stopped, and begun again"
        assert tracked[-1] == (other, 5) and browser.says == ""
        assert browser.scene["editable"] is True

    def test_an_interrupted_cell_keeps_what_was_tracked(
        self, video: ClickWidget, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        video.prompt("cup", [CUP])
        predictor = video._editor.predictor
        track = predictor.track_frame

        def interrupted(session: Session, step: Any) -> Any:
            if step.frame == 3:
                raise KeyboardInterrupt
            return track(session, step)

        monkeypatch.setattr(predictor, "track_frame", interrupted)
        with pytest.raises(KeyboardInterrupt):
            video.track()
        assert video._canvas.scene["editable"]
        assert len(video.session.masks(2)) and not len(video.session.masks(3))
        monkeypatch.undo()
        video.track()
        assert len(video.session.masks(3))

    def test_the_session_is_a_copy_with_names(self, video: ClickWidget, nano: SAM2) -> None:
        video.prompt("cup", [CUP])
        video.prompt("grass", [[20, 300]], frame=3)
        video.track()
        session = video.session
        assert list(session.objects) == ["cup", "grass"]
        session.remove_object("grass")
        assert list(video.session.objects) == ["cup", "grass"]
        again = ClickWidget(VideoPredictor(nano), session)
        assert [row._pick.description.split(" · ")[0] for row in again._rows.values()] == ["cup"]
        assert np.array_equal(again.session.masks(2).mask("cup"), video.session.masks(2).mask("cup"))
        Browser(again).presses("clear")
        assert list(session.objects) == ["cup"]

    def test_mistakes_get_one_sentence(self, video: ClickWidget) -> None:
        browser = Browser(video)
        browser.presses("track")
        assert "nothing to track" in browser.says
        with pytest.raises(IndexError, match="frame 99 is outside"):
            video.prompt("cup", [CUP], frame=99)
        with pytest.raises(IndexError, match="frame 99 is outside"):
            video.frame = 99


class TestStillPicture:
    def test_where_no_widget_can_be_shown_there_is_a_picture(self, widget: ClickWidget) -> None:
        widget.prompt("patch", box_xyxy=PATCH)
        data = widget._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in data
        assert "patch" in data["text/plain"]
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))).convert("RGB"), int)
        assert picture.shape[:2] == (512 + 26, 512)
        changed = np.abs(picture[:512] - widget.session.clip.frame(0)).max(axis=2) > 60
        x = np.nonzero(changed)[1]
        assert PATCH[0] - 8 <= np.percentile(x, 2)
        assert np.percentile(x, 98) <= PATCH[2] + 8
        assert (picture[512:] < 150).any(), "the line below has letters"
        assert still_picture(np.zeros((1000, 2000, 3), np.uint8)).shape == (360 + 26, 720, 3), "it is never wide"

    @pytest.mark.slow
    def test_it_reaches_a_stored_notebook(self, tmp_path: Path, assets: Path) -> None:
        """Run in a real kernel, as a notebook's cell."""
        root = assets.parent
        code = f"""import sys; sys.path.insert(0, {str(root)!r})
import sam2kit
from sam2kit.notebook import ClickWidget
ClickWidget(sam2kit.ImagePredictor(sam2kit.load_model("nano")), {str(assets / "photos" / "coffee.jpg")!r})"""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
        (output,) = notebook.cells[0].outputs
        assert {"image/jpeg", "application/vnd.jupyter.widget-view+json"} <= set(output.data)
