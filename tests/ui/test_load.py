"""Eight visitors at once, without a browser: nobody gets another's masks, nobody is shut out, nothing is left behind.

Clicks come as fast as the app answers: in the suite 40 of each visitor. With SAM2KIT_LOAD_CLICKS=100 each clicks as
often as in twenty minutes, at one click in twelve seconds.
"""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from tests.figures import FIGURES
from tests.ui.conftest import ROOT
from tests.ui.moving_disc import FRAMES, centre, disc, iou, write_disc_clip

VISITORS = 8
CLICKS = int(os.environ.get("SAM2KIT_LOAD_CLICKS", "40"))  # of each, on four photos
SIZE_HW = (240, 320)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a running app."""
    temporary = tmp_path_factory.mktemp("of_the_app")
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tests.ui.load_app"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    found = next((m for line in process.stdout if (m := re.search(r"http://127\.0\.0\.1:\d+", line))), None)
    assert found, "the app did not start"
    yield found.group(), psutil.Process(process.pid)
    process.terminate()
    process.wait(20)


class Visitor:
    """One visitor, with a photo and a clip of their own."""

    def __init__(self, address: str, number: int, folder: Path) -> None:
        self.address, self.number, self.folder = address, number, folder
        self.client = Client(address, verbose=False, download_files=str(folder / f"downloads{number}"))
        surfaces = [c for c in self.client.config["components"] if c["props"].get("elem_id") == "image-view"]
        self.surface = surfaces[0]["id"]
        self.video_surface = next(
            c["id"] for c in self.client.config["components"] if c["props"].get("elem_id") == "video-view"
        )
        self.web = httpx.Client(timeout=60)
        self.sequence = 0

    def ask(self, surface: int, scene: dict[str, Any], points: list) -> dict[str, Any]:
        """A gesture on the click surface, as its JavaScript sends it."""
        self.sequence += 1
        sent = {
            "key": scene["key"], "scene": scene["scene"], "sequence": self.sequence, "number": scene["active"],
            "points": points, "box": None,
        }  # fmt: skip
        session = self.client.session_hash
        body = {"data": sent, "component_id": surface, "fn_name": "ask_server", "session_hash": session}
        reply = self.web.post(f"{self.address}/gradio_api/component_server", json=body)
        reply.raise_for_status()
        return reply.json()

    def work_on_photos(self) -> list[float]:
        """Click on discs whose places nobody else has; IoU of each answer."""
        rng, scores = np.random.default_rng(self.number), []
        for photo in range(4):
            x, y = (int(v) for v in rng.integers((60, 60), (SIZE_HW[1] - 60, SIZE_HW[0] - 60)))
            image = np.full((*SIZE_HW, 3), (90, 110, 90), np.uint8)
            cv2.circle(image, (x, y), 45, (210, 50, 40), -1, cv2.LINE_AA)
            path = self.folder / f"photo{self.number}-{photo}.png"
            Image.fromarray(image).save(path)
            scene = shown(self.client.predict(handle_file(path), api_name="/image_open"))
            truth = np.zeros(SIZE_HW, np.uint8)
            cv2.circle(truth, (x, y), 45, 1, -1)
            for click in range(CLICKS // 4):
                reach = 10 + click % 15
                answer = self.ask(self.surface, scene, [[x + reach * np.cos(click), y + reach * np.sin(click), 1]])
                mask = np.array(Image.open(io.BytesIO(base64.b64decode(answer["object"]["mask"]))))
                small = cv2.resize(mask.astype(np.uint8), SIZE_HW[::-1], interpolation=cv2.INTER_AREA) > 0
                scores.append(iou(small, truth > 0))
        return scores

    def work_on_a_clip(self) -> float:
        """Track the disc through a clip; mean IoU of the masks in the download."""
        path = write_disc_clip(self.folder / f"clip{self.number}.mp4")
        scene = shown(self.client.predict(handle_file(path), api_name="/video_open"))
        x, y = centre(0)
        assert self.ask(self.video_surface, scene, [[x, y, 1]])["object"]["mask"]
        self.client.predict(api_name="/video_begin")
        self.client.predict(api_name="/video_track")
        file, _ = self.client.predict("overlay", "original", False, api_name="/video_masks")
        with zipfile.ZipFile(file["value"] if isinstance(file, dict) else file) as archive:
            masks = [np.array(Image.open(io.BytesIO(archive.read(f"{i:05d}.png")))) == 1 for i in range(FRAMES)]
        return float(np.mean([iou(mask, disc(f)) for f, mask in enumerate(masks)]))

    def leave(self) -> None:
        self.client.close()
        self.web.close()


def shown(outputs: tuple) -> dict[str, Any]:
    """The scene among what a handler gave."""
    return next(o["value"] for o in outputs if isinstance(o, dict) and isinstance(o.get("value"), dict))


def visit(address: str, number: int, folder: Path) -> tuple[list[float], float, str]:
    visitor = Visitor(address, number, folder)
    try:
        scores = visitor.work_on_photos()
        tracked = visitor.work_on_a_clip()
        key = shown(visitor.client.predict(api_name="/image_undo"))["key"]
    finally:
        visitor.leave()
    return scores, tracked, key


def visitors_folders(process: psutil.Process) -> list[Path]:
    """What the app has in its own temporary folder for visitors."""
    return list(Path(process.environ()["TMPDIR"]).glob("sam2kit-*"))


def resident(process: psutil.Process) -> int:
    """Bytes in memory when everybody is gone; Gradio looks after connections every few seconds only."""
    deadline = time.monotonic() + 60
    while visitors_folders(process):
        assert time.monotonic() < deadline, "the files of visitors who left are still there"
        time.sleep(0.5)
    time.sleep(2)
    return process.memory_info().rss


def test_eight_visitors_at_once(app: tuple[str, psutil.Process], tmp_path: Path) -> None:
    address, process = app
    with ThreadPoolExecutor(VISITORS) as pool:  # the first of all bring what stays: code, threads, libraries' caches
        list(pool.map(lambda n: visit(address, 100 + n, tmp_path), range(VISITORS)))
    before = resident(process)
    began = time.perf_counter()
    with ThreadPoolExecutor(VISITORS) as pool:
        visits = list(pool.map(lambda n: visit(address, n, tmp_path), range(VISITORS)))
    seconds = time.perf_counter() - began
    after = resident(process)
    FIGURES.append(
        f"load: {VISITORS} visitors, {VISITORS * CLICKS} clicks and {VISITORS} clips in {seconds:.0f} s; memory "
        f"{before / 2**20:.0f} MB before, {after / 2**20:.0f} MB after they left ({after / before - 1:+.1%})"
    )
    for scores, tracked, _ in visits:
        assert len(scores) == CLICKS
        assert min(scores) > 0.5, "another's disc would be elsewhere"
        assert np.mean(scores) > 0.75
        assert tracked > 0.7
    assert len({key for _, _, key in visits}) == VISITORS
    assert after < 1.1 * before


def test_a_visitor_cannot_use_anothers_surface_without_the_key(app: tuple[str, psutil.Process], tmp_path: Path) -> None:
    address, _ = app
    one, two = Visitor(address, 1, tmp_path), Visitor(address, 2, tmp_path)
    path = tmp_path / "grey.png"
    Image.new("RGB", (64, 48), "grey").save(path)
    scene = shown(one.client.predict(handle_file(path), api_name="/image_open"))
    shown(two.client.predict(handle_file(path), api_name="/image_open"))
    for key in ("", "x" * 32, two.client.session_hash, scene["key"][:-1]):
        assert two.ask(two.surface, {**scene, "key": key}, [[5, 5, 1]])["refused"]
    assert two.web.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)
    one.leave()
    two.leave()
