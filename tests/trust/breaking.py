"""Ways to break what is whole, and files that were never meant well. All of them are small; none needs a download."""

from __future__ import annotations

import binascii
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

DEEP = 100_000  # levels of a JSON that no parser should follow


def broken(
    content: bytes, *, cuts: tuple[float, ...] = (0.0, 0.02, 0.3, 0.9), flips: int = 3
) -> Iterator[tuple[str, bytes]]:
    """A file cut off at several places, with bits flipped, with a block of zeros in it, and with its end written twice.

    Yields:
        what was done, and the outcome.
    """
    for share in cuts:
        yield f"cut to {share:.0%}", content[: int(len(content) * share)]
    yield "without its last byte", content[:-1]
    for seed in range(flips):
        yield f"{4**seed * 2} bits flipped", flipped(content, 4**seed * 2, seed)
    middle, length = len(content) // 3, max(1, len(content) // 8)
    yield "zeros in the middle", content[:middle] + bytes(length) + content[middle + length :]
    yield "its end twice", content + content[-length:]


def file(path: Path, content: bytes) -> Path:
    """Bytes under a name."""
    path.write_bytes(content)
    return path


def pipe(path: Path) -> Path:
    """A pipe that nobody writes to."""
    os.mkfifo(path)
    return path


def link(path: Path, target: str) -> Path:
    """A symbolic link."""
    path.symlink_to(target)
    return path


def flipped(content: bytes, count: int, seed: int) -> bytes:
    """The same with some bits turned over."""
    turned = np.frombuffer(content, np.uint8).copy()
    rng = np.random.default_rng(seed)
    places = rng.integers(0, len(turned), count)
    np.bitwise_xor.at(turned, places, (1 << rng.integers(0, 8, count)).astype(np.uint8))
    return turned.tobytes()


DAMAGES = tuple(how for how, _ in broken(b"x" * 100))


def damaged(content: bytes, number: int) -> bytes:
    """One of the damages alone, for files that are made when it is their turn."""
    return list(broken(content))[number][1]


def png_of(width: int, height: int, rows: bytes | None = None, *, extra: bytes = b"") -> bytes:
    """A grey PNG of one bit whose header says any size at all; its rows are as many zeros as fit into a small file."""
    packed = zlib.compress(bytes(min(height * (width // 8 + 2), 10**7)) if rows is None else rows, 9)
    return _png((width, height, 1, 0), packed, extra)


def black_png(width: int, height: int, *, bits: int, kind: int) -> bytes:
    """A whole black PNG; the kind of colour as the format numbers it: 2 is RGB, 6 has alpha."""
    row = bytes(1 + width * bits // 8 * {0: 1, 2: 3, 6: 4}[kind])
    return _png((width, height, bits, kind), _packed(row, height, 1))


def png_text_bomb() -> bytes:
    """A picture of one pixel with a comment that unpacks to a gigabyte."""
    return png_of(1, 1, b"\0\0", extra=_chunk(b"zTXt", b"Comment\0\0" + _packed(bytes(2**20), 1024, 9)))


def _packed(block: bytes, times: int, level: int) -> bytes:
    packer = zlib.compressobj(level)
    return b"".join(packer.compress(block) for _ in range(times)) + packer.flush()


def _png(size_and_kind: tuple[int, ...], rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", *size_and_kind, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), extra, _chunk(b"IDAT", rows), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", binascii.crc32(kind + content))


def gif_of(width: int, height: int) -> bytes:
    """A GIF whose screen has any size up to 65,535, with one frame as large."""
    header = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return header + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"


def bmp_of(width: int, height: int) -> bytes:
    """A BMP that says any size, and has no pixels."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def eps_that_runs(canary: Path) -> bytes:
    """A picture that is a program; Pillow would give it to Ghostscript."""
    program = f"({canary}) (w) file closefile showpage\n"
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n" + program.encode() + b"%%EOF\n"


def pickle_that_runs(canary: Path) -> bytes:
    """What calls `os.system` when it is unpickled."""
    return pickle.dumps(_Runs(f"touch {canary}"))


class _Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        import os

        return os.system, (self.command,)


def checkpoint_that_runs(canary: Path) -> bytes:
    """The same where torch would look for weights: inside its zip."""
    inside = io.BytesIO()
    with zipfile.ZipFile(inside, "w") as archive:
        archive.writestr("archive/data.pkl", pickle_that_runs(canary))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return inside.getvalue()


def packed_tightly(checkpoint: bytes) -> bytes:
    """A checkpoint whose zip is compressed: torch would unpack it to any size."""
    inside = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as before, zipfile.ZipFile(inside, "w") as after:
        for entry in before.infolist():
            after.writestr(entry.filename, before.read(entry), compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
    return inside.getvalue()


def checkpoint_of(content: object) -> bytes:
    """Anything, as torch saves it."""
    written = io.BytesIO()
    torch.save(content, written)
    return written.getvalue()


def safetensors_of(header: bytes, tensors: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with any header at all."""
    return struct.pack("<Q", len(header) if length is None else length) + header + tensors


def nested(levels: int = DEEP) -> str:
    """JSON of lists in lists in lists."""
    return "[" * levels + "]" * levels
