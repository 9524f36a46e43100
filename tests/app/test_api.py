"""The named endpoints, called by name through gradio_client against a running app."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import gradio as gr
import httpx
import numpy as np
import pytest
from gradio.route_utils import delete_files_created_by_app
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from sam2kit.app.api import Endpoints, add_api, hide_others, result_folder
from sam2kit.app.limits import Limits
from sam2kit.app.models import LoadedModel
from sam2kit.app.queue import FairQueue
from sam2kit.media.clips import open_clip
from sam2kit.media.mask_files import runs_to_mask
from sam2kit.model.sam2 import SAM2
from tests.app.moving_disc import SIZE_HW, centre, disc, iou, write_disc_clip
from tests.finder import drawn, trained_finder
from tests.test_package import ROOT, readme_blocks

NAMES = {"/segment_image", "/segment_everything", "/detect", "/track_video"}
LIMITS = Limits(upload_mb=2, picture_megapixels=1, clip_seconds=30)


class Running(NamedTuple):
    page: gr.Blocks
    endpoints: Endpoints
    address: str


@pytest.fixture(scope="module")
def app(nano: SAM2) -> Iterator[Running]:
    """A page with nothing but the endpoints."""
    with gr.Blocks(analytics_enabled=False) as page:
        added = add_api(LoadedModel.of(nano, "nano", FairQueue()), FairQueue(), LIMITS)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, show_error=True, max_file_size="2mb")
    yield Running(page, added, address)
    page.close()


@pytest.fixture(scope="module")
def client(app: Running, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(
        app.address, verbose=False, analytics_enabled=False, download_files=tmp_path_factory.mktemp("downloads")
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc_clip(tmp_path_factory.mktemp("clip") / "my disc.mp4")


@pytest.fixture(scope="module")
def two_discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture = np.full((200, 300, 3), 90, np.uint8)
    cv2.circle(picture, (80, 100), 40, (230, 200, 40), -1)
    cv2.circle(picture, (220, 100), 30, (40, 200, 230), -1)
    path = tmp_path_factory.mktemp("picture") / "two discs.png"
    Image.fromarray(picture).save(path)
    return path


def truth(x: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:200, :300]
    return (columns - x) ** 2 + (rows - 100) ** 2 <= radius**2


def test_exactly_our_endpoints_with_documentation(client: Client) -> None:
    told: Any = client.view_api(return_format="dict", print_info=False)
    assert set(told["named_endpoints"]) == NAMES
    assert not told["unnamed_endpoints"]
    for name, endpoint in told["named_endpoints"].items():
        assert "SAM 2" in endpoint["description"], name
        assert all(p["python_type"]["description"] for p in endpoint["parameters"]), name
        assert len(endpoint["returns"]) == 2
    names = [p["parameter_name"] for p in told["named_endpoints"]["/track_video"]["parameters"]]
    assert names == ["video", "prompts", "effect", "exports", "start", "stop", "every"]
    with redirect_stdout(io.StringIO()) as text:
        client.view_api()
    assert "in pixels of the video" in text.getvalue()


def test_what_a_model_finds_by_itself(
    client: Client, app: Running, two_discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AppError, match="finds nothing by itself"):
        client.predict(handle_file(two_discs), api_name="/detect")
    monkeypatch.setattr(app.endpoints, "model", LoadedModel.of(trained_finder(), "mine", FairQueue()))
    path = tmp_path / "things.png"
    Image.fromarray(drawn([("disc", 40, 45), ("square", 112, 60)], seed=9).image).save(path)
    labels, coco = client.predict(handle_file(path), api_name="/detect")
    assert sorted(c["name"] for c in coco["categories"]) == ["disc", "square"]
    assert np.array(Image.open(labels)).max() == len(coco["annotations"]) == 2
    assert client.predict(handle_file(path), least=1, api_name="/detect")[1]["annotations"] == []
    with pytest.raises(AppError, match="least"):
        client.predict(handle_file(path), least=2, api_name="/detect")


def test_a_picture_with_two_objects(client: Client, two_discs: Path) -> None:
    prompts = [{"points": [[220, 100], [80, 100]], "labels": [1, 0]}, {"box": [40, 60, 120, 140], "object": "left"}]
    labels, coco = client.predict(handle_file(two_discs), prompts, api_name="/segment_image")
    numbers = np.array(Image.open(labels))
    assert Path(labels).name == "two_discs_labels.png"
    assert iou(numbers == 1, truth(220, 30)) > 0.8
    assert iou(numbers == 2, truth(80, 40)) > 0.8
    assert [c["name"] for c in coco["categories"]] == ["object 1", "left"]
    assert coco["images"][0] | {"id": 1} == {"id": 1, "file_name": "two discs.png", "width": 300, "height": 200}
    for number, annotation in enumerate(coco["annotations"], start=1):
        assert np.array_equal(runs_to_mask(annotation["segmentation"]), numbers == number)
        assert 0 < annotation["score"] <= 1


def test_everything(client: Client, two_discs: Path) -> None:
    labels, coco = client.predict(handle_file(two_discs), points_per_side=8, api_name="/segment_everything")
    masks = [runs_to_mask(a["segmentation"]) for a in coco["annotations"]]
    assert max(iou(m, truth(220, 30)) for m in masks) > 0.8
    assert max(iou(m, truth(80, 40)) for m in masks) > 0.8
    assert np.array(Image.open(labels)).max() <= len(masks)


def test_a_video(client: Client, clip: Path, app: Running) -> None:
    prompts = [{"frame": 4, "object": "disc", "points": [centre(4)], "labels": [1]}]
    with app.endpoints.jobs.join():  # somebody else's job
        job = client.submit(
            handle_file(clip), prompts, effect="outline", exports=["video", "masks", "coco"], start=2, every=2,
            api_name="/track_video",
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while app.endpoints.jobs.count < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not job.done()
    (video, masks, coco), told = job.result(60)
    assert told == {"frames": 7, "objects": ["disc"], "notes": []}
    assert [Path(f).name for f in (video, masks, coco)] == [
        "my_disc_outline.mp4", "my_disc_masks.zip", "my_disc_coco.json",
    ]  # fmt: skip
    with open_clip(video) as made:
        assert (len(made), made.size_hw) == (7, SIZE_HW)
    with zipfile.ZipFile(masks) as archive:
        pictures = [np.array(Image.open(archive.open(f"{i:05d}.png"))) for i in range(2, 16, 2)]
    assert np.mean([iou(picture == 1, disc(2 + 2 * i)) for i, picture in enumerate(pictures)]) > 0.7
    annotations = json.loads(Path(coco).read_text())["annotations"]
    assert np.array_equal(runs_to_mask(annotations[0]["segmentation"]), pictures[0] == 1)
    assert app.endpoints.jobs.count == 0


def test_where_an_answer_lies(app: Running, two_discs: Path) -> None:
    """Under a name that nobody can guess, in the folder that Gradio serves and tidies."""
    client = Client(app.address, verbose=False, analytics_enabled=False, download_files=False)
    asked = [{"points": [[80, 100]]}]
    told = [client.predict(handle_file(two_discs), asked, api_name="/segment_image")[0] for _ in "ab"]
    paths = [Path(file["path"]) for file in told]
    assert len({path.parent.name for path in paths}) == 2
    for path, file in zip(paths, told, strict=True):
        assert len(path.parent.name) == 32
        assert path.parent.parent == Path(get_upload_folder())
        assert httpx.get(file["url"]).content == path.read_bytes()
    delete_files_created_by_app(app.page, age=0)
    assert not any(path.exists() for path in paths)
    with suppress(InterruptedError), result_folder() as folder:
        (folder / "half.png").write_bytes(b"half")
        raise InterruptedError
    assert not folder.exists(), "no answer leaves no files"


MISTAKES = [
    ("/segment_image", {"prompts": []}, "prompts must be a list such as"),
    ("/segment_image", {"prompts": [{}]}, "entry 0 of prompts has neither a point nor a box"),
    ("/segment_image", {"prompts": [{"points": [[999, 5]]}]}, r"point \(999, 5\) lies outside the 300x200 picture"),
    ("/segment_image", {"prompts": [{"points": [[9, 5]], "labels": [3]}]}, "labels must be 1"),
    ("/segment_image", {"prompts": [{"mask": "/etc/passwd"}]}, "a mask, which cannot be given here"),
    ("/segment_image", {"prompts": [{"points": [[1, 1]]}] * 65}, "64 prompts, got 65"),
    ("/segment_everything", {"points_per_side": 1000}, "points_per_side must be a number from 1 to 64, got 1000"),
    ("/segment_everything", {"min_stability": "much"}, "min_stability must be a number from 0 to 1"),
    ("/track_video", {"prompts": [{"frame": 99, "points": [[5, 5]]}]}, "not among the frames in use"),
    ("/track_video", {"prompts": [{"points": [[5, 5]]}], "exports": ["exe"]}, "exports must be a list of video"),
    ("/track_video", {"prompts": [{"points": [[5, 5]]}], "effect": "magic"}, "unknown effect 'magic'"),
    ("/track_video", {"prompts": [{"points": [[5, 5]]}], "stop": 3, "start": 5}, "cannot cut frames 5 to 3"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), MISTAKES)
def test_mistakes_are_told_in_one_sentence(
    client: Client, two_discs: Path, clip: Path, name: str, arguments: dict[str, Any], message: str
) -> None:
    file = handle_file(clip if name == "/track_video" else two_discs)
    with pytest.raises(AppError, match=message) as caught:
        client.predict(file, **arguments, api_name=name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "file",
    [
        {"path": "/etc/passwd"}, {"path": str(ROOT / "README.md"), "orig_name": "a.png"}, {"path": None}, "a.png", None,
        {"path": "/tmp/gradio/../../etc/passwd"},
    ],
)  # fmt: skip
def test_only_uploads_can_be_named(app: Running, file: Any) -> None:
    """Without the mark of a file, Gradio lets everything through."""
    with pytest.raises(gr.Error, match="a file is needed"):
        app.endpoints.segment_image(file, [{"points": [[1, 1]]}])


def test_limits(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (2000, 1000)).save(path)
    with pytest.raises(AppError, match=r"large\.png has 2000x1000 pixels, more than the limit of 1 million"):
        client.predict(handle_file(path), [{"points": [[1, 1]]}], api_name="/segment_image")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(AppError, match=r"^'?broken\.png is not a picture"):  # without the server's path
        client.predict(handle_file(broken), [{"points": [[1, 1]]}], api_name="/segment_image")


def test_nobody_holds_up_everybody_for_hours(app: Running) -> None:
    app.endpoints._check_speed(done=10, total=3600, seconds=29)
    with pytest.raises(ValueError, match="tracking 3600 frames would take about 181 min here"):
        app.endpoints._check_speed(done=10, total=3600, seconds=30.1)


def test_the_readme_says_how(app: Running, two_discs: Path, clip: Path) -> None:
    """The client snippets of the README, against this app."""
    blocks = [block for block in readme_blocks("py") if "gradio_client" in block]
    assert blocks
    for block in blocks:
        code = re.sub(r'Client\("[^"]+"\)', f'Client("{app.address}", verbose=False, analytics_enabled=False)', block)
        code = code.replace('"photo.jpg"', repr(str(two_discs))).replace('"clip.mp4"', repr(str(clip)))
        exec(compile(code, "README.md", "exec"), {})


def test_nothing_else_is_an_endpoint(toy: SAM2) -> None:
    for trained, names in ((True, NAMES), (False, NAMES - {"/track_video"})):
        toy.memory_is_trained = trained
        with gr.Blocks() as page:
            gr.State(lambda: "key")
            add_api(LoadedModel.of(toy, "toy", FairQueue()), FairQueue(), Limits())
        assert len(page.get_api_info()["named_endpoints"]) == len(names) + 1, "if not, hide_others is not needed"
        hide_others(page)
        assert set(page.get_api_info()["named_endpoints"]) == names
