"""A visitor's clip and the files that go with it: linked into a folder of their own, deleted with it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sam2kit.media.clips import Clip
from sam2kit.ui.limits import Limits


@dataclass(frozen=True)
class OpenedClip:
    """A clip and the folder that goes with it."""

    clip: Clip
    file_name: str
    folder: TemporaryDirectory[str]
    upload: Path | None  # the uploaded copy, which goes too

    @property
    def stem(self) -> str:
        """What downloads are called after."""
        return Path(self.file_name).stem

    @property
    def downloads(self) -> Path:
        """A folder for the visitor's files."""
        folder = Path(self.folder.name) / "downloads"
        folder.mkdir(exist_ok=True)
        return folder

    def close(self) -> None:
        """Close the clip and delete all its files."""
        self.clip.close()
        self.folder.cleanup()
        if self.upload is not None:
            _remove(self.upload)


def open_video(source: str | Path, limits: Limits, *, uploaded: bool) -> OpenedClip:
    """Open a video for a visitor; an upload is linked into the visitor's own folder, where nobody tidies it away.

    Raises:
        ValueError, FileNotFoundError: if it is no video, or beyond a limit; nothing is left behind.
    """
    source = path = Path(source)
    folder = TemporaryDirectory(prefix="sam2kit-", ignore_cleanup_errors=True)
    try:
        limits.check_file(source)
        if uploaded:
            path = Path(folder.name) / source.name
            try:
                os.link(source, path)
            except OSError:  # another disk
                shutil.copyfile(source, path)
        clip = limits.open_clip(path, source.name)
    except BaseException as error:
        folder.cleanup()
        if uploaded and isinstance(error, ValueError):  # no use in trying it again
            _remove(source)
        raise
    return OpenedClip(clip, source.name, folder, source if uploaded else None)


def _remove(upload: Path) -> None:
    with suppress(OSError):
        upload.unlink()
