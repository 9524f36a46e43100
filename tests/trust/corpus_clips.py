"""Clips that are broken, extreme, or something else."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from sam2kit.media.clips import open_clip
from sam2kit.media.video_exports import export_video
from tests.media.clip_factory import write_clip
from tests.trust import breaking
from tests.trust.bounds import Case, is_picture
from tests.trust.corpus_pictures import WHOLE as PICTURES

KINDS = {
    "mp4": ("a.mp4", {"audio": "aac"}),
    "webm": ("a.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    "avi": ("a.avi", {"codec": "mpeg4"}),
    "mkv": ("a.mkv", {}),
}


@cache
def whole(kind: str) -> bytes:
    """A clip of a second or less."""
    name, options = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        return write_clip(Path(folder) / name, 12, **options).read_bytes()


def look(source: Any) -> None:
    """Open a clip and read what somebody would look at first."""
    with open_clip(source) as clip:
        assert len(clip) > 0
        assert all(a < b for a, b in zip(clip.timestamps, clip.timestamps[1:], strict=False))
        for index in {0, len(clip) // 2, len(clip) - 1}:
            is_picture(clip.frame(index))
            assert clip.frame(index).shape[:2] == tuple(clip.size_hw)


def _damaged(kind: str, number: int) -> Case:
    """One kind of damage; made when it is its turn, because encoding takes a moment."""

    how = breaking.DAMAGES[number].replace("/", "")
    return of_file(f"{how}.{kind}", lambda _: breaking.damaged(whole(kind), number), "either" if number else "error")


def of_file(name: str, content: bytes | Callable[[Path], bytes], wanted: str = "error") -> Case:
    """Bytes that stand in a file of a name."""

    def make(room: Path) -> Path:
        return breaking.file(room / name, content if isinstance(content, bytes) else content(room))

    return of_source(f"the clip {name}", make, wanted)


def of_source(name: str, make: Callable[[Path], Any], wanted: str = "error") -> Case:
    """What a program passes in place of a clip."""
    return Case(name, lambda room: look(make(room)), wanted)


def _two_sizes(room: Path) -> Path:
    """A raw stream that goes on in another size: two clips, one after the other."""
    parts = [
        write_clip(room / f"{i}.h264", 8, size_hw=size).read_bytes() for i, size in enumerate([(64, 96), (48, 64)])
    ]
    (room / "both.h264").write_bytes(b"".join(parts))
    return room / "both.h264"


def _sound_alone(room: Path) -> Path:
    path = room / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, 1024 * i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _index_without_frames(room: Path) -> Path:
    path = room / "empty.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    return path


def _folder(room: Path, **files: bytes) -> Path:
    for name, content in files.items():
        breaking.file(room / f"{name}.png", content)
    return room


def _secret_playlist(room: Path) -> bytes:
    return f"ffconcat version 1.0\nfile '{room.parent / 'beside' / 'secret.txt'}'\n".encode()


def _grown(room: Path) -> None:
    """The file is replaced by another one while it is open."""
    path = write_clip(room / "a.mp4", 12)
    with open_clip(path) as clip:
        path.write_bytes(b"gone")
        clip.frame(11)


def _closed(room: Path) -> None:
    clip = open_clip(write_clip(room / "a.mp4", 4))
    clip.close()
    clip.frame(0)


def _cut(room: Path, *arguments: int) -> None:
    with open_clip(np.zeros((4, 8, 8, 3), np.uint8)) as clip:
        clip.cut(*arguments)


def _export(
    room: Path, name: str, effect: str = "overlay", masks: Any = None, size_hw: tuple[int, int] = (8, 8)
) -> None:
    clip = np.zeros((2, *size_hw, 3), np.uint8)
    for _ in export_video(open_clip(clip), masks or (lambda index: {}), room / name, effect):
        pass


CASES = [_damaged(kind, number) for kind in KINDS for number in range(len(breaking.DAMAGES))] + [
    of_file("words.mp4", b"this is no video at all"),
    of_file("picture.mp4", PICTURES["jpeg"], "either"),
    of_file("zeros.mp4", bytes(100_000)),
    of_file("bomb.gif", breaking.gif_of(65_535, 65_535)),
    of_file("large.gif", breaking.gif_of(9_999, 9_999)),
    of_file("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
    of_file("list.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"),
    of_file("secret.mp4", _secret_playlist),
    of_file("session.sdp", b"v=0\nm=video 5004 RTP/AVP 96\nc=IN IP4 127.0.0.1\n"),
    of_file("photo.jpg", PICTURES["jpeg"], "result"),
    of_source("a clip that changes its size", _two_sizes, "either"),
    of_source("sound without pictures", _sound_alone),
    of_source("an index without frames", _index_without_frames),
    of_source("one frame", lambda room: write_clip(room / "a.mp4", 1), "result"),
    of_source("a frame of 16 by 16", lambda room: write_clip(room / "a.mp4", 2, size_hw=(16, 16)), "result"),
    of_source("a name in four scripts", lambda room: write_clip(room / "видео 動画 فيديو 🎬.mp4", 2), "result"),
    of_source("a name like an address", lambda room: Path("http://127.0.0.1:9/a.mp4")),
    of_source("a name like a device", lambda room: Path("concat:a|b")),
    of_source("a name of 300 characters", lambda room: room / ("n" * 300 + ".mp4")),
    of_source("a name with a zero byte", lambda room: room / "a\0b.mp4"),
    of_source("a pipe that nobody writes to", lambda room: breaking.pipe(room / "pipe.mp4")),
    of_source("a device without end", lambda room: breaking.link(room / "link.mp4", "/dev/zero")),
    of_source("a link to itself", lambda room: breaking.link(room / "link.mp4", "link.mp4")),
    of_source("an empty folder", lambda room: room),
    of_source("a folder of broken pictures", lambda room: _folder(room, a=b"x", b=b"y")),
    of_source("a folder whose frames shrink", lambda room: _folder(room, a=PICTURES["png"], b=breaking.png_of(9, 9, bytes(100)))),
    of_source("a folder that holds itself", lambda room: breaking.link(room / "loop", ".")),
    of_source("no frames", lambda room: []),
    of_source("an array without frames", lambda room: np.zeros((0, 8, 8, 3), np.uint8)),
    of_source("an array without pixels", lambda room: np.zeros((3, 0, 8, 3), np.uint8)),
    of_source("floats", lambda room: np.zeros((3, 8, 8, 3))),
    of_source("frames of two sizes", lambda room: [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)]),
    of_source("frames that are none", lambda room: [None, None]),
    of_source("numbers for frames", lambda room: [1, 2]),
    of_source("nothing", lambda room: None),
    of_source("a dictionary", lambda room: {}),
    of_source("an open file", lambda room: io.BytesIO(b"")),
    *(
        Case(f"{fps!r} frames per second", lambda room, fps=fps: open_clip([np.zeros((8, 8, 3), np.uint8)], fps=fps))
        for fps in (0, 1e-9, -1, float("nan"), float("inf"), 1e9, "25", None)
    ),
    Case("a clip that was replaced while open", _grown, "either"),
    Case("a clip that was closed", _closed),
    *(Case(f"cut {a}", lambda room, a=a: _cut(room, *a)) for a in ((4,), (-1,), (0, 9), (2, 1), (0, 4, 0), (0, 4, -1))),
    Case("a video of no kind", lambda room: _export(room, "a.xyz")),
    Case("wider than the codec allows", lambda room: _export(room, "a.mp4", size_hw=(8, 17_000))),
    Case("an unknown effect", lambda room: _export(room, "a.mp4", "sparkle")),
    Case("a folder that is not there", lambda room: _export(room, "none/a.mp4")),
    Case("masks of another size", lambda room: _export(room, "a.mp4", masks=lambda i: {1: np.ones((3, 3), bool)})),
    of_source("an hour between frames", lambda room: write_clip(room / "a.mkv", times=[Fraction(0), Fraction(3600)]), "result"),
]  # fmt: skip
