"""One contender in a process of its own: works when asked, says how long it took, is ended when it takes too long.

    load()               the model is there
    begin(work, frames)  prepared, in a new process if the last has failed
    run(100)             {"seconds": of each, "encoded": pictures that went into the image encoder}
    peak()               bytes held at most: on a GPU by this work, else since the process began

A GPU is waited for once in a run, at its end.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.bench.contenders import CONTENDERS, Work, work_of


class Worker:
    """A contender as it is asked; all requests raise ValueError if it fails or does not answer in time, and say how.

    Args:
        folder: with the weights.
        deadline: seconds that it may take to load, and for each kind of work.
    """

    def __init__(self, name: str, folder: Path, device: str, dtype: str, deadline: float) -> None:
        self.name, self.deadline = name, deadline
        self._given = (name, folder, device, dtype)
        self._loaded, self._unloadable = False, ""
        self._left = 0.0  # seconds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *self._given))
        self.process.start()
        theirs.close()

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self._pipe.close()
        self._loaded = False

    def begin(self, work: str, frames: int) -> None:
        """Prepare for a kind of work; `frames` of the clip, if it is about one."""
        if self._unloadable:
            raise ValueError(self._unloadable)
        if self._pipe.closed:
            self._start()
        self._left = self.deadline
        if not self._loaded:
            try:
                self._ask("load")
            except ValueError as error:
                self._unloadable = f"it did not load: {error}"
                raise ValueError(self._unloadable) from error
            self._loaded, self._left = True, self.deadline
        self._ask("begin", work, frames)

    def run(self, times: int) -> dict[str, Any]:
        """Do it so often."""
        return self._ask("run", times)

    def peak(self) -> int:
        """Bytes held at most."""
        return self._ask("peak")

    def _ask(self, *request: object) -> Any:
        began, problem, answer = time.monotonic(), None, None
        try:
            self._pipe.send(request)
            if self._pipe.poll(max(self._left, 0)):
                problem, answer = self._pipe.recv()
            else:
                problem = f"no answer within {self.deadline:g} s"
        except (EOFError, OSError):
            self.process.join()
            problem = f"its process ended with code {self.process.exitcode}; was memory short?"
        self._left -= time.monotonic() - began
        if problem:
            self.stop()
            raise ValueError(problem)
        return answer


@contextmanager
def started(name: str, folder: Path, device: str, dtype: str, deadline: float) -> Iterator[Worker]:
    """A contender that begins to load its libraries at once."""
    worker = Worker(name, folder, device, dtype, deadline)
    try:
        yield worker
    finally:
        if worker.process.is_alive():
            worker.stop()


def serve(pipe: Connection, name: str, folder: Path, device: str, dtype: str) -> None:
    """Answer requests until the other end is gone, with (problem or None, answer)."""
    os.dup2(2, 1)  # what libraries print is no result
    server = Server(name, folder, device, dtype)
    while True:
        try:
            what, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = None, getattr(server, what)(*arguments)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}", None
        pipe.send(answer)


class Server:
    """A contender as it works; see above."""

    def __init__(self, name: str, folder: Path, device: str, dtype: str) -> None:
        self._name, self._given, self._device = name, (folder, device, dtype), device
        self._work: Work = iter(())
        self._encoded: int | None = None

    def load(self) -> None:
        self._contender = CONTENDERS[self._name](*self._given)
        for encoder in self._contender.encoders:
            self._encoded = 0
            encoder.register_forward_pre_hook(self._count)

    def begin(self, work: str, frames: int) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self._device)
        self._work = work_of(self._contender, work, frames)
        next(self._work)

    def run(self, times: int) -> dict[str, Any]:
        before = self._encoded
        started = time.perf_counter()
        for _ in range(times):
            next(self._work)
        finish(self._device)
        seconds = (time.perf_counter() - started) / times
        encoded = None if before is None or self._encoded is None else self._encoded - before
        return {"seconds": seconds, "encoded": encoded}

    def peak(self) -> int:
        on_gpu = self._device.startswith("cuda")
        return torch.cuda.max_memory_allocated(self._device) if on_gpu else peak_memory()

    def _count(self, encoder: nn.Module, pictures: tuple[Tensor, ...]) -> None:
        self._encoded = (self._encoded or 0) + len(pictures[0])


def finish(device: str) -> None:
    """Wait until the GPU is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_memory() -> int:
    """Bytes of memory that this process has held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would also count what the parent held before this program began
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, kilobytes elsewhere
