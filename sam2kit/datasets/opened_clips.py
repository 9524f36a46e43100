"""The clips that samples are reading from: the latest few stay open, because opening a video decodes it once.

A sample keeps only a path, so that fifty thousand videos are not fifty thousand open files, and a sample can be sent to
another process.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sam2kit.datasets.samples import BadSampleError
from sam2kit.media.clips import Clip, open_clip

_KEPT = 4  # each may cache some 100 MB of frames


def opened_clip(path: Path) -> Clip:
    """The clip at a path; not to be closed, others may read from it.

    Raises:
        BadSampleError: if it cannot be read.
    """
    try:
        return _opened(path, stamp_of(path))
    except FileNotFoundError as error:
        raise BadSampleError(f"there is no clip {path}; put it back", "missing") from error
    except (ValueError, OSError) as error:
        raise BadSampleError(f"{error}; replace the file, or remove it") from error


@lru_cache(maxsize=_KEPT)
def _opened(path: Path, stamp: tuple[int, int]) -> Clip:
    return open_clip(path)


def stamp_of(path: Path) -> tuple[int, int]:
    """Time and size of a file: a part of what is remembered by, because files are replaced."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size
