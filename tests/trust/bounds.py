"""What every input must keep to, however hostile: a clear sentence or a correct result, within bounds.

a sentence   of ours, that says what is wrong in the user's terms; not what Python stumbled over
10 seconds   at most
1 GB         of memory at most, beyond what was taken before
no file      is written outside the folders that are for output, and what lies beside them stays as it is
no code      of the input's runs
"""

from __future__ import annotations

import faulthandler
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sam2kit.hub import HubError

MOST_SECONDS = 10.0
MOST_BYTES = 2**30
OURS = (ValueError, FileNotFoundError, IndexError, KeyError, OSError, HubError)
_INTERNALS = re.compile(
    r"has no attribute|not subscriptable|'NoneType'|invalid literal|list ind|unhashable|could not convert|"
    r"can't convert|"
    r"unexpected keyword|positional argument|<class|Traceback|\[Errno|inhomogeneous|must be real number|not iterable|"
    r"cannot reshape|dtype\(|unsupported operand|not supported between|object is not|cv2|embedded null"
)


@dataclass(frozen=True)
class Case:
    """One input."""

    name: str
    feed: Callable[[Path], object]  # takes an empty folder to work in, and gives the result
    wanted: str = "error"  # or "result", or "either": the damage may or may not matter


class Stuck(BaseException):
    """Raised into what takes too long; not an Exception, so that nobody catches it by accident."""


def judge(case: Case, folder: Path) -> str:
    """Feed an input, and fail if a bound is broken; says whether it ended in an "error" or a "result"."""
    work, canary = folder / "work", folder / "beside" / "canary"
    work.mkdir()
    canary.parent.mkdir()
    (folder / "beside" / "secret.txt").write_text("secret")
    ended, error = "result", None
    with bounded() as used:
        try:
            case.feed(work)
        except OURS as raised:
            ended, error = "error", raised
        except KeyboardInterrupt:
            raise AssertionError("the input stopped the program") from None
    assert not canary.exists(), "the input ran code"
    assert [p.name for p in canary.parent.iterdir()] == ["secret.txt"], "something was written beside the output"
    assert {p.name for p in folder.iterdir()} == {"work", "beside"}, "something was written outside the output"
    assert used.seconds < MOST_SECONDS
    assert used.bytes < MOST_BYTES
    if error is not None:
        assert_clear(error)
    assert case.wanted in (ended, "either"), f"wanted {case.wanted}, got {ended}: {error}"
    return ended


def assert_clear(error: BaseException) -> None:
    """A sentence for people; the reason that a library gave may stand in brackets."""
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    plain = re.sub(r"\(.*\)", "", message, flags=re.DOTALL)
    assert len(message.split()) >= 4, f"no sentence: {message!r}"
    assert len(message) < 1000, f"a novel: {message!r}"
    assert not _INTERNALS.search(plain), f"not in the user's terms: {message!r}"


@dataclass
class Used:
    """Of a block."""

    seconds: float = 0.0
    bytes: int = 0


@contextmanager
def bounded() -> Iterator[Used]:
    """Stop what takes far too long, and measure time and memory."""
    used, before = Used(), _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    faulthandler.dump_traceback_later(10 * MOST_SECONDS, exit=True)  # for what no signal reaches
    earlier = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, 3 * MOST_SECONDS)
    began = time.perf_counter()
    try:
        yield used
    except Stuck:
        pytest.fail(f"it was stopped after {3 * MOST_SECONDS:.0f} seconds")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        faulthandler.cancel_dump_traceback_later()
        used.seconds = time.perf_counter() - began
        used.bytes = max(0, _resident("VmHWM") - before)


def _stop(*_: object) -> None:
    raise Stuck


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def is_picture(array: object) -> None:
    """Fails unless this is uint8 [H, W, 3]."""
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.uint8
    assert array.ndim == 3
    assert array.shape[2] == 3
    assert min(array.shape) > 0
