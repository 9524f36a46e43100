"""Command lines that cannot be: one line on stderr that says why, and exit code 2."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sam2kit.cli import main
from tests.media.clip_factory import write_clip
from tests.trust import breaking
from tests.trust.bounds import Case
from tests.trust.corpus_clips import _two_sizes
from tests.trust.corpus_sessions import picture_bytes, video_bytes
from tests.trust.corpus_weights import safetensors_bytes

Prepare = Callable[[Path], object]
POINT = "frame=0,object=1,point=9,9"


class Refused(ValueError):
    """What the command said."""


def run(room: Path, line: list[str]) -> None:
    """Run a command as the shell would; its sentence becomes an error."""
    told, said = io.StringIO(), io.StringIO()
    before = Path.cwd()
    os.chdir(room)
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(said):
            code = main(line)
    finally:
        os.chdir(before)
    if code != 0:
        last = told.getvalue().strip().splitlines()[-1:]
        assert code in (1, 2), f"exit code {code}"
        if code == 2:
            assert last, "nothing was said"
            assert last[0].startswith("sam2kit: "), told.getvalue()
            assert "Traceback" not in told.getvalue()
        raise Refused(last[0].removeprefix("sam2kit: ") if last else said.getvalue().strip())


def command(line: str, prepare: Prepare = lambda room: None, wanted: str = "error") -> Case:
    """A command in a folder with photo.png, clip.mp4 and toy.safetensors."""

    def feed(room: Path) -> None:
        Image.fromarray(np.zeros((24, 36, 3), np.uint8)).save(room / "photo.png")
        if "clip.mp4" in line or "LIST" in line:
            write_clip(room / "clip.mp4", 3)
        (room / "toy.safetensors").write_bytes(safetensors_bytes())
        prepare(room)
        words = [word.replace("~", " ") for word in line.replace("LIST", "list.json").split()]
        run(room, words)

    return Case(f"sam2kit {line:.80}", feed, wanted)


def _write(name: str, content: bytes | str) -> Prepare:
    def prepare(room: Path) -> None:
        (room / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def _list(entries: object) -> Prepare:
    return _write("list.json", json.dumps(entries))


IMAGE, VIDEO = "image photo.png --model toy.safetensors --out out", "video clip.mp4 --model toy.safetensors --out out"
AUTO = "auto photo.png --model toy.safetensors --out out"
ASKED = [{"points": [[9, 9]]}]

CASES = [
    *(command(f"{IMAGE} {more}") for more in (
        "", "--point", "--point 1", "--point a,b", "--point 1,2,3,4", "--point nan,1", "--point inf,1", "--point 1e400,1", "--point 99,99",
        "--point -5,5", "--point 5,5,7", "--point 5,5,0.5", "--box 1,2,3", "--box 9,9,1,1", "--box nan,0,1,1", "--point 5,5 --box 0,0,9,9 --box 0,0,5,5",
        "--point 5,5 --device gpu", "--point 5,5 --device cuda:77", "--point 5,5 --side 33", "--point 5,5 --side 1048576", "--point 5,5 --side x",
        "--point 5,5 --unknown", "--point 5,5 --side -64",
    )),
    command(f"{IMAGE} --point 5,5", wanted="result"),
    command(f"{IMAGE} --point 5,5 --json", wanted="result"),
    command("image none.png --model toy.safetensors --point 5,5 --out out"),
    command("image . --model toy.safetensors --point 5,5 --out out"),
    command("image photo.png --model none.safetensors --point 5,5 --out out"),
    command("image photo.png --model photo.png --point 5,5 --out out"),
    command("image photo.png --model toy.safetensors --point 5,5 --out photo.png"),
    command("image photo.png --model toy.safetensors --point 5,5 --out photo.png/deep"),
    command("image photo.png --model toy.safetensors --point 5,5 --out /proc/none"),
    command("image photo.png --model toy.safetensors --point 5,5"),
    command("image cut.png --model toy.safetensors --point 5,5 --out out", _write("cut.png", breaking.png_of(9, 9, b"\0"))),
    command("image wide.png --model toy.safetensors --point 5,5 --out out", _write("wide.png", breaking.png_of(40_000, 10)), "result"),
    command("image one.png --model toy.safetensors --point 0,0 --out out", _write("one.png", breaking.png_of(1, 1, b"\0\0")), "result"),
    command("image ../beside/secret.txt --model toy.safetensors --point 5,5 --out out"),
    *(command(f"{AUTO} {more}") for more in ("--points-per-side 0", "--points-per-side 1000000", "--points-per-side x", "--min-iou nan", "--min-stability nan")),
    *(command(f"{VIDEO} {more}") for more in (
        "", "--prompt x", "--prompt frame=0", "--prompt frame=9,object=1,point=9,9", "--prompt frame=-1,object=1,point=9,9",
        "--prompt frame=0,object=1,point=999,9", "--prompt frame=0,object=1,point=9,9,7", "--prompt frame=0,frame=1,object=1,point=9,9",
        "--prompt frame=0,object=1,box=1,2", "--prompt frame=0,object=1,mask=none.png", "--prompt frame=0,object=1,mask=photo.png",
        "--prompt frame=1e999,object=1,point=9,9", "--prompt frame=0,object=1,point=nan,9", "--prompts none.json", "--resume",
        f"--prompt {POINT} --start 5", f"--prompt {POINT} --start -1", f"--prompt {POINT} --every 0", f"--prompt {POINT} --stop 0",
        f"--prompt {POINT} --stop 99", f"--prompt {POINT} --start 1", f"--prompt {POINT} --effect sparkle", f"--prompt {POINT} --effect " + "+".join(["overlay"] * 99),
        f"--prompt {POINT} --export film", f"--prompt {POINT} --direction up", f"--prompt {POINT} --fast", f"--prompt {POINT} --compile",
        "--batch LIST",
    )),
    command(f"{VIDEO} --prompt frame=0,object=../../../evil,point=9,9 --export masks --export coco --export yolo --export sav", wanted="result"),
    command(f"{VIDEO} --prompt {POINT} --export gif", wanted="result"),
    command("video --model toy.safetensors --out out"),
    command(f"video photo.png --model toy.safetensors --out out --prompt {POINT}", wanted="result"),  # a clip of one frame
    command(f"video none.mp4 --model toy.safetensors --out out --prompt {POINT}"),
    command(f"video both.h264 --model toy.safetensors --out out --prompt {POINT}", _two_sizes, "either"),
    command(f"{VIDEO} --prompts deep.json", _write("deep.json", breaking.nested())),
    command(f"{VIDEO} --prompts far.json", _write("far.json", '[{"frame": 1e999, "points": [[1, 1]]}]')),
    command(f"{VIDEO} --resume", lambda room: ((room / "out").mkdir(), (room / "out" / "session.sam2kit").write_bytes(video_bytes()[:500]))),
    *(command("video --batch LIST --model toy.safetensors --out out", prepare) for prepare in (
        _list([]), _list({}), _list([7]), _list([{}]), _list([{"clip": "clip.mp4"}]), _list([{"clip": "clip.mp4", "prompts": []}]),
        _list([{"clip": "clip.mp4", "prompts": ASKED, "name": "../evil"}]), _list([{"clip": "clip.mp4", "prompts": ASKED, "name": ".."}]),
        _list([{"clip": "clip.mp4", "prompts": ASKED, "name": "/etc/x"}]), _list([{"clip": "none.mp4", "prompts": ASKED}]),
        _list([{"clip": "clip.mp4", "prompts": ASKED}] * 2), _list([{"clip": 7, "prompts": ASKED}]), _list([{"clip": "clip.mp4", "prompts": 7}]),
        _list([{"clip": "clip.mp4", "prompts": "a\0b"}]), _list([{"clip": "clip.mp4", "prompts": ASKED, "name": "n" * 300}]),
        _write("list.json", breaking.nested()), _write("list.json", b"\xff\xfe"), lambda room: None,
        lambda room: (_list([{"clip": "clip.mp4", "prompts": ASKED}])(room), (room / "out" / "clip").mkdir(parents=True), (room / "out" / "clip" / "batch.json").write_text("[]")),
    )),
    command("session none.safetensors --out out"),
    command("session toy.safetensors --out out"),
    command("session photo.png --out out"),
    command("session p.safetensors --out photo.png", lambda room: (room / "p.safetensors").write_bytes(picture_bytes())),
    command("session p.safetensors --out out", lambda room: (room / "p.safetensors").write_bytes(picture_bytes()), "result"),
    command("session v.safetensors --out out", lambda room: (room / "v.safetensors").write_bytes(video_bytes())),
    command("session v.safetensors clip.mp4 --out out", lambda room: (room / "v.safetensors").write_bytes(video_bytes())),
    command("data check none"), command("data check photo.png"), command("data check ."), command("data convert . --to coco --out out"),
    command("data convert . --to tarot --out out"), command("data check . --sheet s.psd"), command("data"), command("data check"),
    command("train none --base toy.safetensors --out out"), command("train . --base toy.safetensors --out out"),
    command("train . --base none --out out"), command("train . --recipe magic --base toy.safetensors --out out"),
    command("train . --base toy.safetensors --out out --epochs 0"), command("train . --base toy.safetensors --out out --minutes nan"),
    command("train . --base toy.safetensors --out out --rate -1"), command("train . --base toy.safetensors"),
    command("merge none --out a.safetensors"), command("merge . --out a.safetensors"), command("export none --to official --out a.pt"),
    command("export toy.safetensors --to official --out a.txt"), command("export toy.safetensors --to tarot --out a.pt"), command("push none you/mine"),
    command("push . you/mine"), command("push toy.safetensors not~an~id"),
    command("evaluate none --model toy.safetensors"), command("evaluate . --model toy.safetensors --out out"), command("evaluate --model none"),
    command("evaluate --masks none --truth none"), command("evaluate --masks . --truth ."), command("evaluate none --model toy.safetensors"),
    command("evaluate . --model toy.safetensors --limit -1 --out out"), command("evaluate --limit 1 --model toy.safetensors"),
    command("doctor --model none.pt"), command(""), command("fly"), command("image"), command("--version~"),
]  # fmt: skip
