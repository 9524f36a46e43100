"""Many files as one result: a folder, or a zip when the name ends in .zip. Nothing half-written is left behind."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
import time
import zipfile
from pathlib import Path
from types import TracebackType

from PIL import Image

from sam2kit.files import told_when_full

_READABLE = stat.S_IFREG | 0o644


class FileBundle:
    """Collects files under a temporary name and moves them into place at the end; use it with `with`.

    Args:
        path: a new or empty folder, or a file that ends in .zip, which is replaced.
    Raises:
        ValueError: if the folder holds something, or a file is in its place.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._zips = self.path.suffix.lower() == ".zip"
        if not self.path.name:
            raise ValueError(f"{str(path)!r} has no name; give a folder that is not there yet, or a name in .zip")
        if not self._zips and self.path.exists() and (self.path.is_file() or any(self.path.iterdir())):
            raise ValueError(f"{self.path} is there already and not an empty folder; choose another name")
        self._part = self.path.with_name(f"{self.path.stem}.part.zip")

    def __enter__(self) -> FileBundle:
        with told_when_full(self.path):
            if self._zips:
                self._archive = zipfile.ZipFile(self._part, "w")
            else:  # a name of its own: what lies beside the folder is somebody's
                self.path.parent.mkdir(parents=True, exist_ok=True)
                place = tempfile.mkdtemp(suffix=".part", prefix=f"{self.path.name}.", dir=self.path.parent)
                self._place = Path(place)
                self._part = (
                    self._place / self.path.name
                )  # mkdtemp's own is closed to others; this one is as the umask says
                self._part.mkdir()
        return self

    def write(self, name: str, content: bytes | str) -> None:
        """Add a file; `name` may have folders, with forward slashes."""
        content = content.encode() if isinstance(content, str) else content
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name!r} would lie outside {self.path}; give its sample another name")
        with told_when_full(self.path):
            if self._zips:
                # pictures are compressed already
                entry = zipfile.ZipInfo(name, time.localtime()[:6])
                entry.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
                entry.external_attr = _READABLE << 16  # zipfile's own choice lets only the owner read what is unpacked
                self._archive.writestr(entry, content)
                return
            file = self._part / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with told_when_full(self.path):
                    self._complete()
            elif self._zips:
                with contextlib.suppress(OSError):  # a second one would hide why it failed
                    self._archive.close()
        finally:
            self._discard()

    def _complete(self) -> None:
        if self._zips:
            self._archive.close()
        elif self.path.exists():
            self.path.rmdir()
        os.replace(self._part, self.path)

    def _discard(self) -> None:
        if self._zips:
            self._part.unlink(missing_ok=True)
        else:
            shutil.rmtree(self._place, ignore_errors=True)


def png_bytes(image: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
