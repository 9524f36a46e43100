"""One contender in a process of its own: does a step of work when told so, and says how long it took.

Lines of JSON come on stdin and go to stdout; whatever libraries print goes to stderr.

    {"load": true}                        ->  {}                   the model is there
    {"begin": "encode", "frames": 20}    ->  {}                   prepared
    {"step": true}       ->  {"seconds": 1.2}     done once more
    {"peak": true}       ->  {"bytes": 123456}    memory held at most so far
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from sam2kit.bench.contenders import CONTENDERS, Contender, Work, work_of
from sam2kit.bench.memory import peak_memory


def main(name: str, folder: str, device: str, dtype: str) -> None:
    """Serve until stdin ends; the first answer says that the model is loaded, or {"error": ...} why it is not."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no answer
    contender: Contender | None = None
    work: Work | None = None

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal contender, work
        if "load" in request:
            contender = CONTENDERS[name](Path(folder), device, dtype)
        elif "begin" in request:
            if contender is None:
                raise ValueError("no model is loaded; load one before work begins")
            work = work_of(contender, request["begin"], request["frames"])
            next(work)
        elif "step" in request:
            if work is None:
                raise ValueError("no work has begun; begin some before the first step")
            started = time.perf_counter()
            next(work)
            finish(device)
            return {"seconds": time.perf_counter() - started}
        elif "peak" in request:
            return {"bytes": _peak(device)}
        return {}

    for line in sys.stdin:
        try:
            told = answer(json.loads(line))
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), file=answers, flush=True)


def finish(device: str) -> None:
    """Wait until the GPU is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else peak_memory()


if __name__ == "__main__":
    main(*sys.argv[1:])
