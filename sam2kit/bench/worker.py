"""One contender in a process of its own: does work when told so, and says how long it took.

Lines of JSON come on stdin and go to stdout; whatever libraries print goes to stderr.

    {"load": true}                       ->  {}    the model is there
    {"begin": "encode", "frames": 20}    ->  {}    prepared
    {"run": 100}         ->  {"seconds": 0.2, "encoded": 100, "found": null}    done so often; the seconds of each
    {"peak": true}       ->  {"bytes": 123456}    memory held at most: on a GPU by this work, else since it began

A GPU is waited for once in a run, at its end. `encoded` says how many pictures went into the image encoder meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam2kit.bench.contenders import CONTENDERS, Contender, Work, work_of
from sam2kit.bench.memory import peak_memory


def main(name: str, folder: str, device: str, dtype: str) -> None:
    """Serve until stdin ends; where something fails the answer is {"error": ...}."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no answer
    server = Server(name, Path(folder), device, dtype)
    for line in sys.stdin:
        try:
            told = server.answer(json.loads(line))
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), file=answers, flush=True)


class Server:
    """Answers requests; see above."""

    def __init__(self, name: str, folder: Path, device: str, dtype: str) -> None:
        self._given = (folder, device, dtype)
        self._name, self._device = name, device
        self._contender: Contender | None = None
        self._work: Work | None = None
        self._encoded: int | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What is told in return.

        Raises:
            ValueError: if the order of requests is wrong; and whatever goes wrong in the work.
        """
        if "load" in request:
            self._contender = CONTENDERS[self._name](*self._given)
            for encoder in self._contender.encoders:
                self._encoded = 0
                encoder.register_forward_pre_hook(self._count)
        elif "begin" in request:
            if self._contender is None:
                raise ValueError("no model is loaded; load one before work begins")
            if self._device.startswith("cuda"):
                torch.cuda.reset_peak_memory_stats(self._device)
            self._work = work_of(self._contender, request["begin"], request["frames"])
            next(self._work)
        elif "run" in request:
            return self._run(request["run"])
        elif "peak" in request:
            return {"bytes": _peak(self._device)}
        return {}

    def _run(self, times: int) -> dict[str, Any]:
        if self._work is None:
            raise ValueError("no work has begun; begin some before the first run")
        before, found = self._encoded, None
        started = time.perf_counter()
        for _ in range(times):
            found = next(self._work)
        finish(self._device)
        seconds = (time.perf_counter() - started) / times
        encoded = None if before is None or self._encoded is None else self._encoded - before
        return {"seconds": seconds, "encoded": encoded, "found": found}

    def _count(self, encoder: nn.Module, pictures: tuple[Tensor, ...]) -> None:
        assert self._encoded is not None, "it begins at 0"
        self._encoded += len(pictures[0])


def finish(device: str) -> None:
    """Wait until the GPU is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else peak_memory()


if __name__ == "__main__":
    main(*sys.argv[1:])
