"""Files, read and written with care: JSON, results in one piece, folders and zips of many files.

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
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# what a file of another shape than expected makes Python stumble over
MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_AS_GOOD_AS_FULL = 2**16  # free bytes
_READABLE = stat.S_IFREG | 0o644


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
    """What JSON holds; a ValueError that says `name` if it is none, or lists lie in lists without end."""
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


def write_json(content: Mapping[str, Any] | list[Any], path: Path, *, indent: int | None = None) -> Path:
    """Write a JSON file; an older one is replaced only when the new one is complete."""

    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)  # numbers of NumPy and torch; paths

    make_folder(path.parent)
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=indent, default=plain) + "\n", encoding="utf-8")
    return path


def refuse_unknown_keys(stated: Iterable[str], known: Iterable[str], where: str, aliases: Mapping[str, str]) -> None:
    """Check the keys of a file that was written by hand: a misspelt one must not be passed over.

    Args:
        where: what holds the keys, as it is called in the error.
        aliases: what other programs call them -> the key that is meant.
    Raises:
        ValueError: for the first key that is not known; names the one that was meant, or all.
    """
    known = list(known)
    for key in stated:
        if key not in known:
            near = [aliases[key]] if key in aliases else get_close_matches(str(key), known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known are: {', '.join(known)}"
            raise ValueError(f'{where} has the unknown key "{key}"; {hint}')


@contextmanager
def atomic_write(path: Path, unfinished: Path | None = None) -> Iterator[Path]:
    """A name to write to, which takes the place of `path` when the block has ended well.

    Args:
        unfinished: that name, where the ending decides what is written; else `path` with ".part".
    Raises:
        OSError: if it cannot be written; says what to do.
    """
    unfinished = path.with_name(path.name + ".part") if unfinished is None else unfinished
    try:
        with explain_write_errors(path):
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
def explain_write_errors(path: Path) -> Iterator[None]:
    """Say in one sentence, as an OSError, that the disk is full or that nothing may be written to `path`."""
    try:
        yield
    except Exception as error:
        within = re.search(r"\(os error (\d+)\)", str(error))  # as safetensors says it
        number = int(within[1]) if within else getattr(error, "errno", None)
        if number in _FULL or _has_no_room(path.parent):  # torch and safetensors have errors of their own for it
            raise OSError(f"the disk is full, so {path} was not written; free some space and try again") from error
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
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


class FileBundle:
    """Collects files under a temporary name and moves them into place at the end; use it with `with`.

    Args:
        path: a new or empty folder, or a file that ends in .zip, which is replaced.
    Raises:
        ValueError: if the folder holds something, or a file is in its place.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        self._is_zip = self.path.suffix.lower() == ".zip"
        if not self.path.name:
            raise ValueError(f"{str(path)!r} has no name; give a folder that is not there yet, or a name in .zip")
        if not self._is_zip and self.path.exists() and (self.path.is_file() or any(self.path.iterdir())):
            raise ValueError(f"{self.path} is there already and not an empty folder; choose another name")

    def __enter__(self) -> FileBundle:
        folder, name = self.path.parent, self.path.name
        with explain_write_errors(self.path), ExitStack() as cleaning:
            if self._is_zip:
                self._part = folder / f"{self.path.stem}.part.zip"
                cleaning.callback(self._part.unlink, missing_ok=True)
                self._archive = zipfile.ZipFile(self._part, "w")
            else:  # a name of its own: what lies beside the folder is somebody's
                folder.mkdir(parents=True, exist_ok=True)
                place = TemporaryDirectory(".part", f"{name}.", folder, ignore_cleanup_errors=True)
                self._part = Path(cleaning.enter_context(place), name)  # that itself is closed to others
                self._part.mkdir()
            self._cleaning = cleaning.pop_all()
        return self

    def write(self, name: str, content: bytes | str) -> None:
        """Add a file; `name` may have folders, with forward slashes."""
        content = content.encode() if isinstance(content, str) else content
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{name!r} would lie outside {self.path}; give its sample another name")
        with explain_write_errors(self.path):
            if self._archive is not None:
                entry = zipfile.ZipInfo(name, time.localtime()[:6])
                # pictures are compressed already
                entry.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
                entry.external_attr = _READABLE << 16  # zipfile's own choice lets only the owner read what is unpacked
                self._archive.writestr(entry, content)
                return
            file = self._part / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        with self._cleaning:
            if failed is None:
                with explain_write_errors(self.path):
                    self._complete()
            elif self._archive is not None:
                with suppress(OSError):  # a second one would hide why it failed
                    self._archive.close()

    def _complete(self) -> None:
        if self._archive is not None:
            self._archive.close()
        elif self.path.exists():
            self.path.rmdir()
        os.replace(self._part, self.path)
