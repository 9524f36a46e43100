"""The file in which work is kept, of a picture or of a video: tensors, and everything else as JSON in the header.

safetensors, so that opening a file from a stranger runs no code. picture_session.py and session_files.py say what is
in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sam2kit.errors import ODD
from sam2kit.files import check_file, written_whole

PICTURE_FORMAT = "sam2kit picture session 1"
VIDEO_FORMAT = "sam2kit session 1"
ODD_SESSION = (*ODD, RuntimeError, SafetensorError)  # what a damaged or made-up session makes its readers stumble over


def write_session_file(path: Path, kind: str, content: Mapping[str, Any], tensors: dict[str, Tensor]) -> Path:
    """Write a session; a crash while writing leaves the file that was there.

    Args:
        kind: PICTURE_FORMAT or VIDEO_FORMAT.
        content: what is not in tensors, ready for JSON.
    Raises:
        FileNotFoundError: if the folder does not exist.
        OSError: if it cannot be written.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save the session in")
    try:
        with written_whole(path) as unfinished:
            # not save_file, which would leave files of its own behind if it were killed, every minute another
            unfinished.write_bytes(save(tensors, {"format": kind, "session": json.dumps(content)}))
    except SafetensorError as error:
        raise OSError(f"the session could not be written to {path} ({error}); choose another place") from error
    return path


def open_session_file(path: Path) -> tuple[Any, str]:
    """An open session file of either kind, and what it says it is.

    Raises:
        FileNotFoundError, ValueError: if there is none.
    """
    check_file(path, "session file")
    try:
        file = safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a session file ({error})") from error
    return file, (file.metadata() or {}).get("format", "")


def is_picture_session(path: Path) -> bool:
    """Whether a session file is about a picture.

    Raises:
        FileNotFoundError, ValueError: if it is no such file at all.
    """
    return open_session_file(path)[1] == PICTURE_FORMAT
