"""What anybody may send to a running app: `python -m pytest tests/trust -m corpus`.

The requests go over HTTP, past every check that the page or gradio_client would make.
"""

from __future__ import annotations

import re
import time
from typing import Any

import psutil
import pytest

from tests.app.conftest import ROOT
from tests.figures import FIGURES
from tests.trust import breaking
from tests.trust.attacked_app import CLIP, DEFAULTS, PHOTO, AttackedApp
from tests.trust.bounds import MOST_BYTES, MOST_SECONDS, assert_clear
from tests.trust.corpus_pictures import WHOLE as PICTURES

pytestmark = pytest.mark.corpus
NAN, HUGE = float("nan"), 10**400
POINTS: list[Any] = [[9, 9]]
OURS = f'File "{ROOT / "sam2kit"}'  # in a traceback


_prompts: list[Any] = [
    None, 7, "x", {}, [], [7], [{}], [{"points": None}], [{"points": "x"}], [{"points": [[HUGE, 1]]}], [{"points": [[NAN, 1]]}],
    [{"points": [["a", "b"]]}], [{"points": POINTS * 10_000}], [{"points": POINTS, "labels": [7]}], [{"points": POINTS, "labels": "x"}],
    [{"points": [[-5, 1]]}], [{"points": [[1e9, 1]]}], [{"box": [1]}], [{"box": [9, 9, 1, 1]}], [{"box": [NAN, 0, 1, 1]}], [{"box": "x"}],
    [{"mask": "/etc/passwd"}], [{"points": POINTS}] * 1000, [{"points": POINTS, "frame": 1e999}], [[[[]]]],
]  # fmt: skip
CALLS: list[tuple[str, list[Any]]] = [
    *(("segment_image", [PHOTO, prompts]) for prompts in _prompts if prompts != [{"points": POINTS, "frame": 1e999}]),
    *(("track_video", [CLIP, prompts]) for prompts in _prompts),
    *(("segment_image", [file, [{"points": POINTS}]]) for file in (None, 7, "x", {}, [], "/etc/passwd", "../../etc/passwd", CLIP, "/dev/zero")),
    *(("track_video", [file, [{"points": POINTS}]]) for file in (None, "/etc/passwd", {"path": None}, {"url": "http://127.0.0.1:9/a"})),
    *(("segment_everything", [PHOTO, value, None, None]) for value in (0, -1, 65, 10**9, "x", None, NAN, [], HUGE)),
    *(("segment_everything", [PHOTO, 4, value, None]) for value in (-1, 2, NAN, "x", [])),
    *(("track_video", [CLIP, [{"points": POINTS}], effect]) for effect in (7, "sparkle", "+".join(["overlay"] * 10_000), [])),
    *(("track_video", [CLIP, [{"points": POINTS}], "overlay", exports]) for exports in (None, [], "video", [[]], ["film"], ["video"] * 10_000, 7)),
    *(("track_video", [CLIP, [{"points": POINTS}], "overlay", ["masks"], *cut, *[0, None, 1][len(cut) :]]) for cut in (
        (-1,), (99,), ("x",), (None,), (0, 99), (5, 2), (0, "x"), (0, None, 0), (0, None, -1), (0.5,), (NAN,), (True,),
    )),
    ("segment_image", []), ("segment_image", [PHOTO]), ("nothing", []),
]  # fmt: skip
_scene = {"key": "a", "scene": "1", "sequence": 1, "number": 0, "points": [[5, 5, 1]], "box": None}
TOUCHES: list[Any] = [
    None, 7, "x", [], {}, [[]], {"key": "a"}, {**_scene}, {**_scene, "key": 7}, {**_scene, "key": "x" * 10**6}, {**_scene, "scene": None},
    {**_scene, "sequence": -1}, {**_scene, "sequence": "x"}, {**_scene, "sequence": HUGE}, {**_scene, "number": NAN}, {**_scene, "number": True},
    {**_scene, "points": "x"}, {**_scene, "points": [[5, 5]]}, {**_scene, "points": [[HUGE, 1, 1]]}, {**_scene, "points": [[NAN, 1, 1]]},
    {**_scene, "points": [[5, 5, 7]]}, {**_scene, "points": [[5, 5, 1]] * 100_000}, {**_scene, "points": [[None] * 3]}, {**_scene, "box": [1]},
    {**_scene, "box": "x"}, {**_scene, "box": [HUGE, 1, 1, 1]}, {**_scene, "box": [NAN] * 4}, {**_scene, "box": {"a": 1}},
    *({**_scene, "strokes": [{"path": path, "radius": radius, "adds": True}]} for path, radius in (
        ([[HUGE, 1]], 3), ([[NAN, 1]], 3), ([[1, 1]], HUGE), ([[1, 1]], NAN), ([[1, 1]] * 100_000, 3), ("x", "x"),
    )),
]  # fmt: skip


def test_every_request_is_answered_with_a_sentence(attacked: AttackedApp) -> None:
    memory, slowest = psutil.Process(attacked.process.pid), (0.0, "")
    assert attacked.ask("segment_image", attacked.file(PHOTO), [{"points": POINTS}])[0], "the app works at all"
    before = memory.memory_info().rss
    for endpoint, data in CALLS:
        began = time.perf_counter()
        first = data[0] if data else None
        sent = [attacked.file(first), *data[1:]] if isinstance(first, str) else data
        answered, told = attacked.ask(endpoint, *sent)
        slowest = max(slowest, (time.perf_counter() - began, f"{endpoint} {data!s:.60}"))
        assert not answered, f"{endpoint} took {data!r:.200} and said {told[:300]}"
        assert "Traceback" not in told
        if (
            "event: error" in told
            and len(data) == len(DEFAULTS.get(endpoint, []))
            and (found := re.search(r'"error": ?"(.*?)"[,}]', told))
        ):
            assert_clear(ValueError(found[1]))
    for surface in ("image-view", "video-view", "finetune-view"):
        for sent in TOUCHES:
            reply = attacked.touch(surface, sent)
            assert reply.status_code == 200, f"{surface}, {sent!r:.200}: {reply.status_code} {reply.text[:300]}"
            assert reply.json().get("refused") or reply.json().get("stale"), reply.text[:300]
    assert attacked.ask("segment_image", attacked.file(PHOTO), [{"points": POINTS}])[0], "the app works no more"
    used = memory.memory_info().rss - before
    log = "".join(attacked.log)
    assert OURS not in log, log[-3000:]  # Gradio has its own about a wrong number of inputs
    assert slowest[0] < MOST_SECONDS, slowest
    assert used < MOST_BYTES
    FIGURES.append(
        f"corpus: {len(CALLS)} requests and {3 * len(TOUCHES)} gestures to a running app: each refused in a sentence, "
        f"the slowest in {slowest[0]:.1f} s ({slowest[1]}), memory {used / 2**20:+.0f} MB, no traceback in its log"
    )


def test_broken_uploads(attacked: AttackedApp) -> None:
    """What comes as a photo or a clip is looked at, not believed."""
    bombs = {
        "bomb.png": breaking.png_of(50_000, 50_000),
        "bomb.gif": breaking.gif_of(65_535, 65_535),
        "text.png": breaking.png_text_bomb(),
    }
    photos = {f"{i}.png": content for i, (_, content) in enumerate(breaking.broken(PICTURES["png"]))}
    odd = {
        "../../evil.png": PICTURES["png"],
        "name\n.png": PICTURES["png"],
        "写真.png": PICTURES["png"],
        "a" * 200 + ".png": PICTURES["png"],
    }
    tried = 0
    for name, content in {
        **bombs,
        **photos,
        **odd,
        "list.m3u8": b"#EXTM3U\nfile:///etc/passwd\n",
        "run.pt": b"\x80\x04.",
    }.items():
        path = attacked.upload(name, content)
        for endpoint in ("segment_image", "track_video"):
            answered, told = attacked.ask(endpoint, attacked.file(path), [{"points": POINTS}])
            assert "Traceback" not in told
            assert not answered or name in odd or name in photos, f"{endpoint} took {name}"
            tried += 1
    assert OURS not in "".join(attacked.log), "".join(attacked.log)[-3000:]
    FIGURES.append(f"corpus: {tried} requests about broken uploads, each answered")
