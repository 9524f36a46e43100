"""Files, read and written with care.

What is read must be a file: a pipe or a device has no end. What is written is there whole or not at all: it gets its
name when it is complete, so that a crash leaves what was there before. A full disk is a sentence, not an error number.

Surprise: some libraries (safetensors) write files that only their owner may read. Ours all have the mode that the umask
gives to a new file.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_AS_GOOD_AS_FULL = 2**16  # free bytes


def check_file(path: Path, what: str) -> None:
    """Raise unless there is a file to read.

    Args:
        what: is looked for, in the words of the user: "picture", "video".
    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if it is a folder, a pipe or a device.
    """
    if os.path.isfile(path):  # pathlib's own questions fail on names that are too long
        return
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder; give the path of one {what}")
    if os.path.exists(path):
        raise ValueError(f"{path} is a pipe or a device, which may never end; give the path of one {what}")
    raise FileNotFoundError(f"there is no {what} at {path}")


def parse_json(text: str | bytes, name: str) -> Any:
    """What JSON holds.

    Raises:
        ValueError: if it is none, or lists lie in lists without end.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is damaged at line {error.lineno} ({error.msg}), or is not JSON") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not JSON: its characters are not UTF-8 ({error})") from error
    except RecursionError as error:
        raise ValueError(f"{name} is not JSON that can be read: it is nested too deeply") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        FileNotFoundError, ValueError: if there is none; says why.
    """
    check_file(path, "JSON file")
    return parse_json(path.read_bytes(), str(path))


@contextmanager
def written_whole(path: Path, unfinished: Path | None = None) -> Iterator[Path]:
    """A name to write to, which takes the place of `path` when the block has ended well.

    Args:
        unfinished: that name, where the ending decides what is written; else `path` with ".part".
    Raises:
        OSError: if it cannot be written; says what to do.
    """
    unfinished = path.with_name(path.name + ".part") if unfinished is None else unfinished
    try:
        with told_when_full(path):
            mode = _mode_of_new(unfinished)
            yield unfinished
            if stat.S_IMODE(unfinished.stat().st_mode) != mode:
                unfinished.chmod(mode)
            os.replace(unfinished, path)
    finally:
        with suppress(OSError):  # where nothing could be written, nothing can be removed either
            unfinished.unlink(missing_ok=True)


def _mode_of_new(path: Path) -> int:
    """The permissions of a file that is new at `path`; asking the umask itself would change it for all threads."""
    path.unlink(missing_ok=True)
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


@contextmanager
def told_when_full(path: Path) -> Iterator[None]:
    """Say in one sentence why writing to `path` failed.

    Raises:
        OSError: if the disk is full, or nothing may be written there.
    """
    try:
        yield
    except Exception as error:
        within = re.search(r"\(os error (\d+)\)", str(error))  # as safetensors says it
        number = int(within[1]) if within else getattr(error, "errno", None)
        if number in _FULL or _has_no_room(path.parent):  # torch and safetensors have errors of their own for it
            raise OSError(f"the disk is full, so {path} was not written; make room and try again") from error
        if number in _FORBIDDEN:
            raise OSError(f"nothing may be written to {path}; choose another folder") from error
        if isinstance(error, OSError) and error.strerror:
            raise OSError(f"{path} cannot be written ({error.strerror}); choose another place") from error
        raise


def _has_no_room(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _AS_GOOD_AS_FULL
    except OSError:
        return False


def check_folder(folder: Path) -> None:
    """Raise ValueError if a file is where a folder for results is wanted; for before the work is done."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"{folder} is a file; give a folder for the results")


def make_folder(folder: Path) -> Path:
    """A folder for results, made if it is not there.

    Raises:
        ValueError, OSError: if a file is in its place, or nothing may be written there.
    """
    check_folder(folder)
    with told_when_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
