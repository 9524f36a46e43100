"""What the machine has to give: threads for a CPU, as many as there are cores free; and when memory is full.

torch takes a thread for each core and makes all of them wait for the slowest, many hundred times for each picture.
Where a container may use less than the machine has, or other programs compute, that makes tracking five to ten times
slower than a single thread. So before a pass through the network, once in a second at most, this looks at

    which cores the process may run on    (its affinity)
    how much of them it may use           (the quota of its container: cgroup, versions 1 and 2)
    what other programs used since        (/proc/stat, less what this process used itself)

Surprise: torch keeps the number for each calling thread, so it is compared, and set, at each pass. A number that was
chosen (OMP_NUM_THREADS, MKL_NUM_THREADS, `fix`, or torch.set_num_threads before the first pass) is never exceeded; with
the environment variables or `fix` nothing is changed at all.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from threading import Lock
from time import monotonic, sleep

import torch

_EVERY = 1.0  # seconds between two looks; jiffies of 10 ms are counted
_SHARE = 0.6  # of a core that must be free to be worth a thread
_BY_HAND = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# what a RuntimeError says when a device is full: Apple's GPUs and CUDA's driver, CPUs, cuBLAS and cuDNN
_FULL = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")


def is_out_of_memory(error: object) -> bool:
    """Whether an error says that a device is full: only CUDA's allocator has a class of its own for it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _FULL)


def usable_cores(root: Path = Path("/")) -> int:
    """How many cores this process may keep busy: its affinity, and its container's quota rounded up."""
    quota = _quota(root)
    return len(_affinity()) if quota is None else max(1, min(len(_affinity()), ceil(quota)))


@dataclass
class ThreadCount:
    """Follows what is free; one for the process, see `fit_threads`."""

    root: Path = Path("/")  # of the file system
    others: float | None = None  # cores that other programs used lately, once that is known
    fixed: bool = field(default_factory=lambda: any(name in os.environ for name in _BY_HAND))
    _most: int = 0  # what torch took by itself, or was told before the first pass
    _chosen: int = 0
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._looked_at, self._busy, self._mine = monotonic(), _busy(self.root), _mine()

    def fit(self) -> None:
        """Let torch use as many threads as are worth it now; for the calling thread."""
        if self.fixed:
            return
        if not self._most:
            self._most = self._chosen = torch.get_num_threads()
        if monotonic() - self._looked_at >= _EVERY and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        if torch.get_num_threads() != self._chosen:
            torch.set_num_threads(self._chosen)

    def fix(self, count: int) -> None:
        """Use this many from now on, whatever happens."""
        self.fixed = True
        torch.set_num_threads(count)

    def describe(self) -> str:
        """For people: how many, and why."""
        name = next((n for n in _BY_HAND if n in os.environ), None)
        if name is not None:
            return f"{torch.get_num_threads()}, as {name} says"
        if self.others is None:
            sleep(_EVERY)
        self.fit()
        quota, cores = _quota(self.root), len(_affinity())
        reasons = [f"{cores} cores"]
        reasons += [f"of which the container may use {quota:g}"] if quota is not None and quota < cores else []
        reasons += [f"other programs use {self.others:.1f}"] if self.others and self.others >= 0.1 else []
        return f"{torch.get_num_threads()} ({', '.join(reasons)})"

    def _look(self) -> None:
        now, busy, mine = monotonic(), _busy(self.root), _mine()
        passed = now - self._looked_at
        if busy is not None and self._busy is not None:
            self.others = max(0.0, (busy - self._busy - (mine - self._mine)) / passed)
            free = min(len(_affinity()) - self.others, _quota(self.root) or float("inf"))
            self._chosen = max(1, min(self._most, int(free + 1 - _SHARE)))
        self._looked_at, self._busy, self._mine = now, busy, mine


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _mine() -> float:
    """Seconds that all cores together worked for this process."""
    used = os.times()
    return used.user + used.system


def _busy(root: Path) -> float | None:
    """Seconds that the usable cores worked for anybody; None where the system does not say."""
    try:
        lines = (root / "proc/stat").read_text().splitlines()
        wanted = {f"cpu{number}" for number in _affinity()}
        counted = [line.split() for line in lines if line.partition(" ")[0] in wanted]
        # user, nice, system, idle, iowait, irq, softirq, steal
        ticks = sum(sum(map(int, line[1:4])) + sum(map(int, line[6:9])) for line in counted)
        return ticks / os.sysconf("SC_CLK_TCK") if counted else None
    except (OSError, ValueError, AttributeError):  # not Linux, or a sandbox that hides it
        return None


def _quota(root: Path) -> float | None:
    """Cores that the process's container may use in all: the least of its control groups and of all above them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits: list[float] = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if not controllers or "cpu" in controllers.split(","):
            base = root / "sys/fs/cgroup" / controllers  # which may be the container's own group
            inside = base / path.lstrip("/")
            limits += (n for f in (inside, *inside.parents) if f.is_relative_to(base) for n in _limits_in(f))
    return min(limits, default=None)


def _limits_in(folder: Path) -> Iterator[float]:
    for quota_and_period in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text() for name in quota_and_period).split()
            if quota != "max" and int(quota) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue


THREADS = ThreadCount()


def fit_threads() -> None:
    """Before a pass through the network on a CPU: as many threads as there are cores free."""
    THREADS.fit()


def processor_name() -> str:
    """What the CPU calls itself; its kind where it does not say."""
    about = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.*)$", about.read_text() if about.exists() else "", re.M)
    return named[1] if named else platform.machine()
