"""The same work by us and by others, in turns, on the same weights: medians, ratios and their spread.

Each contender has a process of its own, and only one works at a time. They take turns run by run, so that a busy or
throttled machine slows all of them alike; a ratio is that of neighbouring runs. Only compiled contenders come last,
after all others: compiling takes minutes.

A run is a loop, of frames or of repetitions, at whose end a GPU is waited for once. Frames count when the memory bank
is full, and all runs of a contender are stretches of one propagation: what it encodes ahead before a run it also does
at its end, where the frames of a run are a multiple of those that are encoded together; `encoded` shows whether it did.

A contender that does not answer in time is ended, and begins anew with the next kind of work; one that fails is noted.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from statistics import median
from threading import Timer
from typing import Any

import torch

from sam2kit.bench.contenders import CONTENDERS, installed, kind_of
from sam2kit.config import preset
from sam2kit.exports import save_transformers
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import save_model

_PRESENT = 6.0  # object score of the made-up weights: else their masks would be empty
_FULL = POINTER_FRAMES + 2  # frames after which there is no more to recall; those before are not counted
_BEYOND = 32  # frames of the clip after the last that counts: what is encoded ahead must not run dry
_RUN = 0.5  # seconds that a run takes at least, if it is not of frames
_MOST = 200  # repetitions in a run


@dataclass(frozen=True)
class Conditions:
    """What is measured, and how.

    Args:
        model: a preset; its weights are made up.
        device, dtype, side: as `load_model`.
        rounds: counted runs of each contender.
        frames: of a run; best a multiple of 4, of which a GPU encodes so many together. None: 100, on a CPU 1.
        deadline: seconds that a contender may take to load, and for each kind of work.
    """

    model: str = "sam2.1-hiera-tiny"
    device: str = "cpu"
    dtype: str = "float32"
    side: int | None = None
    rounds: int = 5
    frames: int | None = None
    deadline: float = 120.0

    @property
    def frames_of_run(self) -> int:
        """Frames of a run."""
        return self.frames or (1 if self.device == "cpu" else 100)


@dataclass(frozen=True)
class Measured:
    """One kind of work by one contender."""

    work: str
    contender: str
    seconds: tuple[float, ...] = ()  # of one frame or repetition, a number for each run
    steps: int = 1  # frames or repetitions of a run
    encoded: tuple[int, ...] = ()  # pictures that went through the image encoder in each run, where that is known
    found: int | None = None  # masks, where the work is to find them
    ratios: tuple[float, ...] = ()  # its seconds by ours, run by run; none for ourselves
    peak: int | None = None  # bytes held at most: tensors on a GPU, else what its process held since it began
    problem: str | None = None  # why there is nothing to count, or no more

    @property
    def median(self) -> float | None:
        """Seconds."""
        return median(self.seconds) if self.seconds else None


def write_weights(folder: Path, name: str, side: int | None = None) -> None:
    """Made-up weights of a preset, for all contenders: speed does not depend on what was learned."""
    torch.manual_seed(0)
    config = preset(name)
    model = SAM2(config if side is None else replace(config, side=side)).eval()
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(_PRESENT)
    save_model(model, folder / "model.safetensors")
    save_transformers(model, folder / "transformers")


Report = Callable[[list[Measured]], None]


def compare(
    works: Sequence[str],
    conditions: Conditions,
    *,
    contenders: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
    report: Report | None = None,
) -> list[Measured]:
    """Measure.

    Args:
        works: kinds of work, see contenders.py.
        contenders: names; None takes all that are installed. We are always among them.
        progress: is told what is being measured.
        report: is given all that is known after each run.
    Raises:
        ValueError: if there is no such contender.
    """
    here = installed(conditions.device, conditions.dtype)
    names = here if contenders is None else ["sam2kit", *(c for c in contenders if c != "sam2kit")]
    if not set(names) <= set(CONTENDERS):
        raise ValueError(f"contenders are {', '.join(CONTENDERS)}, got {', '.join(names)}")
    table = Table(report)
    with tempfile.TemporaryDirectory() as folder:
        write_weights(Path(folder), conditions.model, conditions.side)
        for last in (False, True):
            with ExitStack() as stack:
                some = [n for n in names if n.endswith("-compiled") == last]
                workers = [stack.enter_context(started(n, Path(folder), conditions)) for n in some]
                for work in works:
                    able = {w.name: w for w in workers if kind_of(work) in CONTENDERS[w.name].works}
                    if progress and able:
                        progress(f"{work}: {', '.join(able)}")
                    in_turns(work, able, conditions, table)
    return table.found


class Table:
    """What is known so far, by work and contender."""

    def __init__(self, report: Report | None = None) -> None:
        self.rows: dict[tuple[str, str], Measured] = {}
        self._report = report

    @property
    def found(self) -> list[Measured]:
        """All rows: works in the order in which they were begun, and we first."""
        works, names = list(dict.fromkeys(work for work, _ in self.rows)), list(CONTENDERS)
        return sorted(self.rows.values(), key=lambda m: (works.index(m.work), names.index(m.contender)))

    def add(self, work: str, name: str, steps: int, told: Mapping[str, Any]) -> None:
        """One more run."""
        row, ours = self._row(work, name), self.rows.get((work, "sam2kit"))
        seconds = (*row.seconds, told["seconds"])
        encoded = () if told["encoded"] is None else (*row.encoded, told["encoded"])
        pairs = zip(seconds, ours.seconds, strict=False) if ours and name != "sam2kit" else ()
        ratios = tuple(theirs / our for theirs, our in pairs)
        self._put(replace(row, seconds=seconds, steps=steps, encoded=encoded, found=told["found"], ratios=ratios))

    def note(self, work: str, name: str, **facts: Any) -> None:
        """The peak, or the problem."""
        self._put(replace(self._row(work, name), **facts))

    def _row(self, work: str, name: str) -> Measured:
        return self.rows.get((work, name)) or Measured(work, name)

    def _put(self, row: Measured) -> None:
        self.rows[row.work, row.contender] = row
        if self._report:
            self._report(self.found)


def in_turns(work: str, workers: Mapping[str, Worker], conditions: Conditions, table: Table) -> None:
    """All runs of a kind of work, by all; who fails is left out of the rest."""
    going: dict[str, int] = {}

    @contextmanager
    def noted(name: str) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            table.note(work, name, problem=str(error))
            going.pop(name, None)

    for name, worker in workers.items():
        with noted(name):
            going[name] = _warmed_up(work, worker, conditions)
    for _ in range(conditions.rounds):
        for name in list(going):
            with noted(name):
                table.add(work, name, going[name], workers[name].run(going[name]))
    for name in list(going):
        with noted(name):
            table.note(work, name, peak=workers[name].peak())


def _warmed_up(work: str, worker: Worker, conditions: Conditions) -> int:
    """How many frames or repetitions a run has."""
    frames = conditions.frames_of_run
    worker.begin(work, _FULL + frames * conditions.rounds + _BEYOND)
    if kind_of(work) == "frame":
        worker.run(_FULL)
        return frames
    worker.run(1)
    return min(_MOST, ceil(_RUN / worker.run(1)["seconds"]))


class Worker:
    """A contender in its process."""

    def __init__(self, name: str, folder: Path, conditions: Conditions) -> None:
        self.name, self._deadline = name, conditions.deadline
        self._command = [sys.executable, "-m", "sam2kit.bench.worker", name, str(folder), conditions.device]
        self._command.append(conditions.dtype)
        self._loaded, self._unloadable = False, ""
        self._left = 0.0  # seconds
        self._start()

    def _start(self) -> None:
        self._process: subprocess.Popen[str] | None = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            with suppress(OSError):  # it no longer listens
                self._process.communicate()
        self._process, self._loaded = None, False

    def begin(self, work: str, frames: int) -> None:
        """Prepare for a kind of work, in a new process if the last has failed; this and `run` and `peak` raise alike.

        Args:
            frames: of the clip, if it is about one.
        Raises:
            ValueError: if it fails or does not answer in time; says how.
        """
        if self._unloadable:
            raise ValueError(self._unloadable)
        if self._process is None:
            self._start()
        if not self._loaded:
            self._load()
        self._left = self._deadline
        self._ask({"begin": work, "frames": frames})

    def _load(self) -> None:
        self._left = self._deadline
        try:
            self._ask({"load": True})
        except ValueError as error:
            self._unloadable = f"it did not load: {error}"
            raise ValueError(self._unloadable) from error
        self._loaded = True

    def run(self, times: int) -> dict[str, Any]:
        """A run; what worker.py tells about it."""
        return self._ask({"run": times})

    def peak(self) -> int:
        """Bytes held at most."""
        return int(self._ask({"peak": True})["bytes"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin and process.stdout, "it was begun, with pipes"
        line, began = "", time.monotonic()
        watch = Timer(max(self._left, 0.0), process.kill)
        watch.start()
        try:
            with suppress(OSError):  # it has ended
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
        finally:
            watch.cancel()
        self._left -= time.monotonic() - began
        told = json.loads(line) if line.endswith("\n") else {"error": self._how_it_ended(process)}
        if "error" in told:
            self.stop()
            raise ValueError(told["error"])
        return dict(told)

    def _how_it_ended(self, process: subprocess.Popen[str]) -> str:
        if self._left <= 0:
            return f"no answer within {self._deadline:g} s"
        return f"its process ended with code {process.wait()}; was memory short?"


@contextmanager
def started(name: str, folder: Path, conditions: Conditions) -> Iterator[Worker]:
    """A contender that begins to load its libraries at once."""
    worker = Worker(name, folder, conditions)
    try:
        yield worker
    finally:
        worker.stop()


def machine() -> dict[str, str | int]:
    """What was measured on."""
    gpu = "none"
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        gpu = f"{about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    facts: dict[str, str | int] = {"processor": _processor(), "threads": torch.get_num_threads(), "gpu": gpu}
    facts |= {"python": platform.python_version(), "torch": torch.__version__}
    with suppress(PackageNotFoundError):
        facts["transformers"] = version("transformers")
    return facts


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in facts.read_text().splitlines() if line.startswith("model name")]
        if facts.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def markdown(found: Sequence[Measured], about: Mapping[str, Any]) -> str:
    """A table with a line for each kind of work of each contender."""
    head = ["work", "contender", "median", "min to max", "times ours", "min to max", "held", "notes"]
    lines = [*(f"{name}: {fact}  " for name, fact in about.items()), "", _line(head)]
    lines.append(_line(["---", "---", *["---:"] * 5, "---"]))
    lines += [_line([m.work, m.contender, *_times(m), *_ratios(m), _held(m), _notes(m)]) for m in found]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _times(measured: Measured) -> tuple[str, str]:
    if measured.median is None:
        return "-", ""
    unit, factor = ("s", 1) if measured.median >= 1 else ("ms", 1000)
    low, middle, high = (factor * s for s in (min(measured.seconds), measured.median, max(measured.seconds)))
    return f"{middle:.2f} {unit}", f"{low:.2f} to {high:.2f}"


def _ratios(measured: Measured) -> tuple[str, str]:
    ratios = measured.ratios
    return (f"{median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}") if ratios else ("", "")


def _held(measured: Measured) -> str:
    return "" if measured.peak is None else f"{measured.peak / 2**20:.0f} MB"


def _notes(measured: Measured) -> str:
    notes = [f"{len(measured.seconds)} runs of {measured.steps}"] if measured.seconds else []
    if measured.found is not None:
        notes.append(f"{measured.found} masks found")
    if measured.encoded and kind_of(measured.work) == "frame":
        notes.append(f"{sum(measured.encoded)} frames encoded")
    if measured.problem:
        notes.append(" ".join(measured.problem.split()).replace("|", "/")[:300])
    return "; ".join(notes)


def as_json(found: Sequence[Measured], about: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data."""
    return {**about, "measured": [{**asdict(m), "median": m.median} for m in found]}
