"""Runs a protocol over a dataset, sample by sample, so that nothing is lost and nothing is done twice.

    out/rows-0.jsonl, rows-1.jsonl, ...   one file per process; a line per finished sample, after a line that says
                                          what model and protocol these are

Stop it, start it again: finished samples are read back, also when the number of processes has changed. A line that was
only half written is done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sam2kit.evaluation.processes import Team
from sam2kit.evaluation.rows import ObjectRow
from sam2kit.files import make_folder, told_when_full
from sam2kit.finetuned import fingerprint
from sam2kit.model.sam2 import SAM2

Identity = dict[str, str | int | float | bool | None]  # what must be the same for rows to belong together


class NamedSample(Protocol):
    """A picture or clip sample."""

    name: str


Sample = TypeVar("Sample", bound=NamedSample)


@dataclass
class RunResult:
    """What a run over a dataset gave."""

    rows: list[ObjectRow] = field(default_factory=list)  # in the order of the samples
    skipped: dict[str, str] = field(default_factory=dict)  # sample -> why it could not be used


def run_samples(
    samples: Sequence[Sample],
    score: Callable[[Sample], list[ObjectRow]],
    identity: Identity,
    *,
    out: Path | None = None,
    team: Team | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RunResult | None:
    """Score every sample that is not finished yet.

    Args:
        samples: with names of their own.
        score: rows of one sample; a ValueError means that this sample cannot be used.
        identity: model, protocol and settings; see `model_fingerprint`.
        out: folder for the rows; None keeps them in memory.
        team: the processes that share the work; each takes its part, the main one gathers.
        progress: is told how many samples of this process are done, of how many.
    Returns:
        all rows; None in processes other than the main one.
    Raises:
        ValueError: if the folder holds rows of another model or protocol, several processes have no folder, or no
            sample could be used.
    """
    team = team or Team()
    if out is None and team.size > 1:
        raise ValueError("several processes meet in a folder: give one with --out")
    names = hashlib.sha256("\n".join(s.name for s in samples).encode()).hexdigest()[:16]
    store = _Store(out, identity | {"samples": names}, team.rank)
    own = team.share(samples)
    if progress:
        progress(0, len(own))
    for number, sample in enumerate(own):
        _, why_not = store.finished.get(sample.name, ([], "not yet"))
        if why_not is not None:  # what could not be used may have been repaired
            store.add(sample.name, *_scored(sample, score))
        if progress:
            progress(number + 1, len(own))
    team.wait()
    if not team.is_main:
        return None
    store.read()
    return _gathered(samples, store.finished)


def _scored(sample: Sample, score: Callable[[Sample], list[ObjectRow]]) -> tuple[list[ObjectRow], str | None]:
    try:
        return score(sample), None
    except (ValueError, OSError) as error:
        return [], str(error)


def _gathered(samples: Iterable[NamedSample], finished: dict[str, tuple[list[ObjectRow], str | None]]) -> RunResult:
    result = RunResult()
    for sample in samples:
        rows, why_not = finished[sample.name]
        result.rows += rows
        if why_not is not None:
            result.skipped[sample.name] = why_not
    if not result.rows and result.skipped:
        raise ValueError(f"no sample could be used; the first: {next(iter(result.skipped.values()))}")
    return result


class _Store:
    """The finished samples of all processes, in files of lines."""

    def __init__(self, out: Path | None, identity: Identity, rank: int) -> None:
        self.out, self.identity = out, identity
        self.finished: dict[str, tuple[list[ObjectRow], str | None]] = {}
        self.path = None if out is None else out / f"rows-{rank}.jsonl"
        if self.path is not None:
            make_folder(self.path.parent)
            self.read()
            self._mend()

    def add(self, name: str, rows: list[ObjectRow], why_not: str | None) -> None:
        """One more finished sample."""
        self.finished[name] = rows, why_not
        line = {"sample": name, "rows": [r.as_dict() for r in rows]}
        self._write(line if why_not is None else line | {"skipped": why_not})

    def read(self) -> None:
        """What all processes have written until now.

        Raises:
            ValueError: if it belongs to another run.
        """
        for path in sorted(self.out.glob("rows-*.jsonl")) if self.out else ():
            try:
                for content in _whole_lines(path):
                    if "identity" in content:
                        self._check(dict(content["identity"]))
                    else:
                        rows = [ObjectRow.from_dict(r) for r in content["rows"]]
                        self.finished[content["sample"]] = rows, content.get("skipped")
            except (TypeError, LookupError, AttributeError) as error:
                raise ValueError(f"{path} is damaged; delete it, and its samples are done again") from error

    def _check(self, found: Identity) -> None:
        differ = sorted(k for k in found.keys() | self.identity.keys() if found.get(k) != self.identity.get(k))
        if differ:
            raise ValueError(
                f"{self.out} holds results of another run (other {', '.join(differ)}); give another folder, or empty it"
            )

    def _mend(self) -> None:
        """Begin the own file, or cut off the half line at which it was interrupted."""
        assert self.path is not None, "only a store with a folder has a file"
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self.path.write_bytes(whole)
        if not whole:
            self._write({"identity": self.identity})

    def _write(self, content: dict[str, Any]) -> None:
        if self.path is not None:
            with told_when_full(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(content) + "\n")


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON of every line that was written to its end.

    Raises:
        ValueError: if a whole line is no JSON.
    """
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if line.endswith("\n"):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path} is damaged; delete it, and its samples are done again") from error


def model_fingerprint(model: SAM2) -> str:
    """A short text that recognises the same weights and settings, on any device."""
    about = [model.config.as_dict(), str(model.compute_dtype), fingerprint(model.state_dict())]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
