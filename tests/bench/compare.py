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

import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import torch

from sam2kit.config import preset
from sam2kit.hardware import processor_name
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import save_model, save_transformers
from tests.bench.contenders import CONTENDERS, installed, kind_of
from tests.bench.worker import Worker, started

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
    with suppress(ValueError):  # what they do not have
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
        for name in sorted({CONTENDERS[n].preset for n in names} - {None}):
            write_weights(Path(folder, name), name)
        for last in (False, True):
            with ExitStack() as stack:
                some = [n for n in names if n.endswith("-compiled") == last]
                given = (Path(folder), conditions.device, conditions.dtype, conditions.deadline)
                workers = [stack.enter_context(started(n, *given)) for n in some]
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
        self._put(replace(row, seconds=seconds, steps=steps, encoded=encoded, ratios=ratios))

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


def machine() -> dict[str, str | int]:
    """What was measured on."""
    gpu = "none"
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        gpu = f"{about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    facts: dict[str, str | int] = {"processor": processor_name()}
    facts |= {"threads": torch.get_num_threads(), "gpu": gpu, "python": platform.python_version()}
    facts["torch"] = torch.__version__
    with suppress(PackageNotFoundError):
        facts["transformers"] = version("transformers")
    return facts


def markdown(found: Sequence[Measured], about: Mapping[str, Any]) -> str:
    """A table with a line for each kind of work of each contender."""
    head = ["work", "contender", "median", "min to max", "times ours", "min to max", "held", "notes"]
    rows = [head, ["---", "---", *["---:"] * 5, "---"], *map(_cells, found)]
    facts = [f"{name}: {fact}  " for name, fact in about.items()]
    return "\n".join([*facts, "", *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _cells(measured: Measured) -> list[str]:
    times, notes = measured.seconds, []
    unit, factor = ("s", 1) if (measured.median or 0) >= 1 else ("ms", 1000)
    cells = ["-", "", "", ""]
    if times:
        cells[:2] = f"{factor * median(times):.2f} {unit}", f"{factor * min(times):.2f} to {factor * max(times):.2f}"
        notes.append(f"{len(times)} runs of {measured.steps}")
    if ratios := measured.ratios:
        cells[2:] = f"{median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"
    if measured.encoded and kind_of(measured.work) == "frame":
        notes.append(f"{sum(measured.encoded)} frames encoded")
    if measured.problem:
        notes.append(" ".join(measured.problem.split()).replace("|", "/")[:300])
    held = "" if measured.peak is None else f"{measured.peak / 2**20:.0f} MB"
    return [measured.work, measured.contender, *cells, held, "; ".join(notes)]


def as_json(found: Sequence[Measured], about: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data."""
    return {**about, "measured": [{**asdict(m), "median": m.median} for m in found]}
