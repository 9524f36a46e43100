"""Pictures that are broken, extreme, or something else."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam2kit.media.pictures import read_picture
from tests.trust import breaking
from tests.trust.bounds import Case, is_picture

SIZE_HW = (24, 36)


def _photo(mode: str = "RGB", size_hw: tuple[int, int] = SIZE_HW) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """A small picture as a file of a kind that Pillow names."""
    written = io.BytesIO()
    _photo(mode).save(written, kind, **options)
    return written.getvalue()


WHOLE = {
    "jpeg": encoded("JPEG"),
    "progressive jpeg": encoded("JPEG", progressive=True),
    "png": encoded("PNG"),
    "palette png": encoded("PNG", "P"),
    "webp": encoded("WEBP"),
    "gif": encoded("GIF"),
    "tiff": encoded("TIFF", compression="tiff_lzw"),
    "bmp": encoded("BMP"),
    "animated gif": encoded("GIF", save_all=True, append_images=[_photo()] * 3, duration=40),
}


def of_file(name: str, content: bytes, wanted: str) -> Case:
    """Bytes that stand in a file of a name."""
    return of_path(f"{name}, {len(content)} bytes", lambda room: breaking.file(room / name, content), wanted)


def of_path(name: str, make: Callable[[Path], Path], wanted: str = "error") -> Case:
    """A path that leads to something unusual."""
    return Case(name, lambda room: is_picture(read_picture(make(room))), wanted)


def of_array(name: str, array: Callable[[], Any], wanted: str = "error") -> Case:
    """What a program passes in place of a picture."""
    return Case(name, lambda room: is_picture(read_picture(array())), wanted)


def _unreadable(room: Path) -> Path:
    (room / "folder.png").mkdir()
    return room / "folder.png"


def _eps(room: Path) -> Path:
    return breaking.file(room / "art.eps", breaking.eps_that_runs(room.parent / "beside" / "canary"))


def _turned_by_999() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 999
    return encoded("JPEG", exif=exif)


_large_jpeg = WHOLE["jpeg"].replace(struct.pack(">HH", *SIZE_HW), struct.pack(">HH", 65500, 65500), 1)

CASES = [
    Case(
        f"{kind}, {how}",
        lambda room, content=content: is_picture(read_picture(content)),
        "error" if not content else "either",
    )
    for kind, whole in WHOLE.items()
    for how, content in breaking.broken(whole)
] + [
    of_file("bomb.png", breaking.png_of(50_000, 50_000), "error"),
    of_file("cheat.png", breaking.png_of(9_000, 9_000, b"\0"), "error"),
    of_file("none.png", breaking.png_of(0, 0, b""), "error"),
    of_file("text.png", breaking.png_text_bomb(), "error"),
    of_file("bomb.gif", breaking.gif_of(65_535, 65_535), "error"),
    of_file("bomb.bmp", breaking.bmp_of(2**30, 2**30), "error"),
    of_file("negative.bmp", breaking.bmp_of(-5, -5), "error"),
    of_file("bomb.jpg", _large_jpeg, "error"),
    of_file("turned.jpg", _turned_by_999(), "result"),
    of_file("words.jpg", b"this is no picture at all", "error"),
    of_file("page.jpg", b"<!DOCTYPE html><html>not found</html>", "error"),
    of_file("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "error"),
    of_file("is a png.jpg", WHOLE["png"], "result"),
    of_file("one.png", breaking.png_of(1, 1, b"\0\0"), "result"),
    of_file("wide.png", breaking.png_of(40_000, 10), "result"),
    of_array("sixty megapixels with alpha", lambda: breaking.black_png(10_000, 6_000, bits=8, kind=6), "result"),
    of_array("twenty megapixels, 16 bits, with alpha", lambda: breaking.black_png(5_000, 4_000, bits=16, kind=6), "result"),
    of_array("an array of twenty megapixels, 16 bits", lambda: np.zeros((4_000, 5_000, 3), np.uint16), "result"),
    of_file("tall.png", breaking.png_of(10, 40_000), "result"),
    of_path("a program as a picture", _eps),
    of_path("a pipe that nobody writes to", lambda room: breaking.pipe(room / "pipe.jpg")),
    of_path("a device without end", lambda room: breaking.link(room / "link.png", "/dev/zero")),
    of_path("a link to itself", lambda room: breaking.link(room / "link.png", "link.png")),
    of_path("a link to nothing", lambda room: breaking.link(room / "link.png", "gone.png")),
    of_path("a link to a folder", lambda room: breaking.link(room / "link.png", ".")),
    of_path("a folder with a picture's name", _unreadable),
    of_path("a name of 300 characters", lambda room: room / ("n" * 300 + ".png")),
    of_path("a name with a zero byte", lambda room: room / "a\0b.png"),
    of_path("no name", lambda room: Path("")),
    *(of_file(name, WHOLE["png"], "result") for name in ("фото 写真 صورة 📷.png", "a\nb.png", "--help.png")),
    of_array("no pixels", lambda: np.zeros((0, 10, 3), np.uint8)),
    of_array("one pixel", lambda: np.zeros((1, 1, 3), np.uint8), "result"),
    of_array("two channels", lambda: np.zeros((4, 4, 2), np.uint8)),
    of_array("five axes", lambda: np.zeros((1, 1, 4, 4, 3), np.uint8)),
    of_array("one number", lambda: np.array(3)),
    of_array("NaN", lambda: np.full((4, 4, 3), np.nan)),
    of_array("infinity", lambda: np.full((4, 4), np.inf, np.float32)),
    of_array("floats up to 255", lambda: np.full((4, 4, 3), 255.0)),
    of_array("complex numbers", lambda: np.zeros((4, 4, 3), complex)),
    of_array("objects", lambda: np.full((4, 4, 3), None, object)),
    of_array("texts", lambda: np.full((4, 4, 3), "red")),
    of_array("int64", lambda: np.zeros((4, 4, 3), np.int64)),
    of_array("a list", lambda: [[0, 0], [0, 0]]),
    of_array("nothing", lambda: None),
    of_array("a number", lambda: 7),
    of_array("no bytes", lambda: b""),
    of_array("a larger picture than any camera's", lambda: np.broadcast_to(np.zeros(3, np.uint8), (20_000, 20_000, 3))),
    of_array("channels first", lambda: np.zeros((3, 24, 36), np.uint8)),
    of_array("every second row", lambda: np.zeros((8, 8, 3), np.uint8)[::2, ::-1], "result"),
    of_array("CMYK", lambda: _photo("CMYK"), "result"),
    of_array("a closed picture", lambda: _closed()),
]  # fmt: skip


def _closed() -> Image.Image:
    image = Image.open(io.BytesIO(WHOLE["png"]))
    image.close()
    return image
