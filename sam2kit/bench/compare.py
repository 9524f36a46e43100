"""The same work by us and by others, in turns, on the same weights: medians and ratios.

Each contender has a process of its own, and only one works at a time. They take turns step by step, so that a busy or
throttled machine slows all of them alike; the ratio is the median over pairs of neighbouring steps.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import torch

from sam2kit.bench.contenders import installed
from sam2kit.config import preset
from sam2kit.exports import save_transformers
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import save_model

_PRESENT = 6.0  # object score of the made-up weights: else their masks would be empty
_FULL = POINTER_FRAMES + 2  # frames after which there is no more to recall; those before are not counted


@dataclass(frozen=True)
class Measured:
    """One kind of work by one contender."""

    work: str
    contender: str
    seconds: tuple[float, ...]  # of each counted step
    peak: int | None = None  # bytes that its process (on a GPU: its tensors) held at most, since it began
    times_ours: float | None = None  # median of their seconds by ours, of neighbouring steps; None for ourselves
    problem: str | None = None  # why there is nothing to count

    @property
    def median(self) -> float | None:
        """Seconds."""
        return median(self.seconds) if self.seconds else None


def write_weights(folder: Path, name: str) -> None:
    """Made-up weights of a preset, for all contenders: speed does not depend on what was learned."""
    torch.manual_seed(0)
    model = SAM2(preset(name)).eval()
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(_PRESENT)
    save_model(model, folder / "model.safetensors")
    save_transformers(model, folder / "transformers")


def compare(
    works: Sequence[str],
    *,
    model: str = "sam2.1-hiera-tiny",
    device: str = "cpu",
    dtype: str = "float32",
    contenders: Sequence[str] | None = None,
    rounds: int = 5,
    progress: Callable[[str], None] | None = None,
) -> list[Measured]:
    """Measure.

    Args:
        works: kinds of work, see contenders.py.
        model: a preset; its weights are made up.
        device, dtype: as `load_model`.
        contenders: names; None takes all that are installed. We are always among them.
        rounds: counted steps of each.
        progress: is told what is being measured.
    Raises:
        ValueError: if a contender's model cannot be loaded.
    """
    names = installed(device) if contenders is None else ["sam2kit", *(c for c in contenders if c != "sam2kit")]
    found: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write_weights(Path(folder), model)
        workers = {n: stack.enter_context(_Worker(n, Path(folder), device, dtype)) for n in names}
        for work in works:
            if progress:
                progress(f"{work}: {', '.join(names)}")
            found += _in_turns(work, workers, rounds)
    return found


def _in_turns(work: str, workers: dict[str, _Worker], rounds: int) -> list[Measured]:
    skipped = _FULL if work.startswith("frame") else 1  # warming up
    times: dict[str, list[float]] = {}
    problems: dict[str, str] = {}
    for name, worker in workers.items():
        try:
            worker.ask({"begin": work, "frames": skipped + rounds + 1})
            times[name] = []
        except ValueError as error:
            problems[name] = str(error)
    for _ in range(skipped + rounds):
        for name in list(times):
            try:
                times[name].append(workers[name].ask({"step": True})["seconds"])
            except ValueError as error:  # the others go on
                problems[name] = str(error)
                del times[name]
    ours = times.get("sam2kit", [])[skipped:]
    rows = []
    for name in workers:
        seconds = times.get(name, [])[skipped:]
        pairs = list(zip(seconds, ours, strict=True)) if seconds and ours and name != "sam2kit" else []
        ratio = median(t / o for t, o in pairs) if pairs else None
        peak = workers[name].ask({"peak": True})["bytes"] if seconds else None
        rows.append(Measured(work, name, tuple(seconds), peak, ratio, problems.get(name)))
    return rows


class _Worker:
    """A contender in its process."""

    def __init__(self, name: str, folder: Path, device: str, dtype: str) -> None:
        command = [sys.executable, "-m", "sam2kit.bench.worker", name, str(folder), device, dtype]
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None and answers is not None, "both are pipes"
        self._requests, self._answers = requests, answers

    def __enter__(self) -> _Worker:
        self.ask({"load": True})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer.

        Raises:
            ValueError: if the work fails; says how.
        """
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        line = self._answers.readline()
        if not line:
            raise ValueError(f"{self.name} ended with code {self._process.wait()}; was memory short?")
        told = json.loads(line)
        if "error" in told:
            raise ValueError(f"{self.name}: {told['error']}")
        return told


def machine() -> dict[str, str | int]:
    """What was measured on."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in facts.read_text().splitlines() if line.startswith("model name")]
        if facts.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def markdown(found: Sequence[Measured], about: dict[str, Any]) -> str:
    """A table with a line for each kind of work."""
    others = list(dict.fromkeys(m.contender for m in found if m.contender != "sam2kit"))
    head = ["work", "sam2kit", "held", *(cell for o in others for cell in (o, "held", "ratio"))]
    lines = [
        ", ".join(f"{k} {v}" for k, v in about.items()),
        "",
        _line(head),
        _line(["---"] + ["---:"] * (len(head) - 1)),
    ]
    for work in dict.fromkeys(m.work for m in found):
        of = {m.contender: m for m in found if m.work == work}
        cells = [work, *_shown(of["sam2kit"])]
        for other in others:
            ratio = of[other].times_ours
            cells += [*_shown(of[other]), f"{ratio:.2f}" if ratio else ""]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _shown(measured: Measured) -> tuple[str, str]:
    """Time and memory."""
    seconds, peak = measured.median, measured.peak
    if seconds is None or peak is None:
        return "-", ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms", f"{peak / 2**20:.0f} MB"


def as_json(found: Sequence[Measured], about: dict[str, Any]) -> dict[str, Any]:
    """Plain data."""
    return {**about, "measured": [{**asdict(m), "median": m.median} for m in found]}
