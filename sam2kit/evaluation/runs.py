"""A protocol over a dataset, sample by sample, from a model to a report: what `sam2kit evaluate DATA` does.

    clicks     pictures: 1 to 5 clicks, best of three, box            clicks.py
    vos        clips: shown once, followed to the end                 semi_supervised.py
    offline    clips: the worst frame is corrected, again and again   interactive.py
    online     clips: watched once, corrected where it gets bad       interactive.py

Nothing is lost and nothing is done twice: with a folder, each process writes rows-0.jsonl, rows-1.jsonl, ..., a line
per finished sample after one that says what model and protocol these are. Started again, finished samples are read
back, also when the number of processes has changed. A line that was only half written is done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sam2kit.data.sample import Dataset, Sample, counted
from sam2kit.data.splitting import content_keys, fingerprint
from sam2kit.evaluation.clicks import CLICKS, calibration, picture_rows
from sam2kit.evaluation.interactive import MOST_FRAMES, interactive_rows
from sam2kit.evaluation.reports import ObjectRow, Report
from sam2kit.evaluation.semi_supervised import TrackingProtocol, track_rows
from sam2kit.files import MALFORMED, explain_write_errors, make_folder
from sam2kit.finetuned import fingerprint as weights_fingerprint
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.processes import Team

PROTOCOLS = ("clicks", "vos", "offline", "online")
Identity = dict[str, str | int | float | bool | None]  # what must be the same for rows to belong together
Progress = Callable[[int, int], None]  # gets how many samples of this process are done, of how many
Score = Callable[[Sample], list[ObjectRow]]  # sample -> a row for each object; ValueError if it cannot be used


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Args:
        protocol: one of PROTOCOLS; None takes clicks where there are pictures, else vos.
        clicks: of the protocol "clicks", per object.
        frames: that are corrected at most, of "offline" and "online".
        tracking: how "vos" shows objects and counts frames.
        limit: use only the first samples, so many; None uses all.
        include_training: also score samples that the model was trained on.
    Raises:
        ValueError: if there is no such protocol, or a number is below 1.
    """

    protocol: str | None = None
    clicks: int = CLICKS
    frames: int = MOST_FRAMES
    tracking: TrackingProtocol = field(default_factory=TrackingProtocol)
    limit: int | None = None
    include_training: bool = False

    def __post_init__(self) -> None:
        if self.protocol not in (None, *PROTOCOLS):
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {self.protocol!r}")
        if self.clicks < 1 or self.frames < 1:
            raise ValueError(f"clicks and frames must be 1 or more, got {self.clicks} and {self.frames}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be 1 or more, got {self.limit}")

    def chosen_for(self, dataset: Dataset) -> str:
        """The protocol for this data.

        Raises:
            ValueError: if the data has nothing for it.
        """
        protocol = self.protocol or ("clicks" if dataset.pictures else "vos")
        wanted, there = ("pictures", dataset.pictures) if protocol == "clicks" else ("clips", dataset.clips)
        if not there:
            found = f"{len(dataset.pictures)} pictures and {len(dataset.clips)} clips"
            raise ValueError(f"protocol {protocol} needs {wanted}, but {dataset.path} has {found}")
        return protocol

    def identity(self, protocol: str) -> Identity:
        """What must be the same for results to belong together."""
        if protocol == "clicks":
            return {"protocol": protocol, "clicks": self.clicks}
        if protocol == "vos":
            tracking = self.tracking
            scoring = {f"scoring {k}": v for k, v in asdict(tracking.scoring).items()}
            return {"protocol": protocol, "prompt": tracking.prompt, "non_overlap": tracking.non_overlap, **scoring}
        return {"protocol": protocol, "frames": self.frames}

    def scorer(self, model: SAM2, protocol: str) -> Score:
        """What gives the rows of a sample."""
        if protocol == "clicks":
            pictures = ImagePredictor(model)
            return lambda sample: picture_rows(pictures, sample.name, sample.read(), self.clicks)
        if protocol == "vos":
            tracker = self.tracking.predictor(model)
            return lambda sample: track_rows(tracker, sample, self.tracking)
        clicked = TrackingProtocol().predictor(model)
        return lambda sample: interactive_rows(clicked, sample, online=protocol == "online", frames=self.frames)


def samples_to_score(model: SAM2, dataset: Dataset, settings: Settings) -> tuple[list[Sample], list[str]]:
    """The samples that an evaluation scores: those that the model was not trained on, unless the settings want these.

    Samples are recognised by their pixels, so the data may lie elsewhere under other names. Where the model was
    trained on every one of them, all are scored.

    Returns:
        the samples; and sentences that say what this means for the numbers.
    Raises:
        ValueError: if the data has nothing for the protocol.
    """
    kind = "picture" if settings.chosen_for(dataset) == "clicks" else "clip"
    samples = dataset.pictures if kind == "picture" else dataset.clips
    if not any(model.seen.values()):
        return samples[: settings.limit], []
    notes, everything = [], counted(len(samples), kind)
    keys = dict(zip((s.name for s in samples), content_keys(samples), strict=True))
    trained_on, chosen_on = (model.seen.get(use, frozenset()) for use in ("training", "validation"))
    new = [s for s in samples if keys[s.name] not in trained_on]
    if not new:
        remembers = "the numbers say how well it remembers them, not how good it is on others."
        notes.append(f"This model was trained on all of these {everything}: {remembers}")
    elif len(new) < len(samples):
        trained = f"This model was trained on {len(samples) - len(new)} of these {everything}"
        if settings.include_training:
            notes.append(f"{trained}, which are scored all the same, so the numbers are flattered.")
        else:
            notes.append(f"{trained}; only the other {len(new)} are scored (--include-training scores all).")
            samples = new
    samples = samples[: settings.limit]
    chosen = sum(keys[s.name] in chosen_on - trained_on for s in samples)
    if chosen:
        notes.append(
            f"The best epoch of this model was chosen on {chosen} of the {counted(len(samples), kind)} that are "
            "scored, so expect a little less on new ones."
        )
    return samples, notes


def evaluate_dataset(
    model: SAM2,
    dataset: Dataset,
    settings: Settings | None = None,
    *,
    out: Path | None = None,
    team: Team | None = None,
    progress: Progress | None = None,
) -> Report | None:
    """Measure a model on pictures or clips with true masks.

    Args:
        model: a SAM2.
        dataset: of `open_dataset`, perhaps one split of it.
        settings: protocol and its options.
        out: folder for the rows of finished samples; the same call goes on there after an interruption.
        team: the processes that share the work.
        progress: gets how many samples of this process are done, of how many.
    Returns:
        the report; None in processes other than the main one. Its `notes` say so if the model was trained on samples
        of this data; those are left out, see `samples_to_score`.
    Raises:
        ValueError: if the data has nothing for the protocol, nothing of it can be used, or the folder holds results
            of another model or protocol.
    """
    settings = settings or Settings()
    protocol = settings.chosen_for(dataset)
    identity = {"model": model_fingerprint(model), "data": fingerprint(dataset), **settings.identity(protocol)}
    samples, notes = samples_to_score(model, dataset, settings)
    score = settings.scorer(model, protocol)
    found = run_samples(samples, score, identity, out=out, team=team, progress=progress)
    if found is None:
        return None
    rows, skipped = found
    details = {"calibration": [asdict(b) for b in calibration(rows)]} if protocol == "clicks" and rows else {}
    first = f", first {settings.tracking.prompt}" if protocol == "vos" else ""
    title = f"{protocol}{first}: {dataset.subset(sample.name for sample in samples).describe()}"
    return Report(title, rows, {"path": str(dataset.path), **identity}, skipped, details=details, notes=notes)


Results = tuple[list[ObjectRow], dict[str, str]]  # rows in the order of the samples; sample -> why it could not be used


def run_samples(
    samples: Sequence[Sample],
    score: Score,
    identity: Identity,
    *,
    out: Path | None = None,
    team: Team | None = None,
    progress: Progress | None = None,
) -> Results | None:
    """Score every sample that is not finished yet; the arguments are those of `evaluate_dataset`.

    Returns:
        all rows; None in processes other than the main one.
    Raises:
        ValueError: if the folder holds rows of another identity, several processes have no folder, or no sample could
            be used.
    """
    team, progress = team or Team(), progress or (lambda done, total: None)
    if out is None and team.size > 1:
        raise ValueError("several processes meet in a folder: give one with --out")
    names = hashlib.sha256("\n".join(s.name for s in samples).encode()).hexdigest()[:16]
    store = _Store(out, identity | {"samples": names}, team.rank)
    own = team.share(samples)
    for number, sample in enumerate(own):
        progress(number, len(own))
        _, why_not = store.finished.get(sample.name, ([], "not yet"))
        if why_not is not None:  # what could not be used may have been repaired
            try:
                store.add(sample.name, score(sample), None)
            except (ValueError, OSError) as error:
                store.add(sample.name, [], str(error))
    progress(len(own), len(own))
    team.wait()
    if not team.is_main:
        return None
    store.read()
    found = {sample.name: store.finished[sample.name] for sample in samples}
    skipped = {name: why_not for name, (_, why_not) in found.items() if why_not is not None}
    if skipped and not any(rows for rows, _ in found.values()):
        raise ValueError(f"no sample could be used; the first: {next(iter(skipped.values()))}")
    return [row for rows, _ in found.values() for row in rows], skipped


class _Store:
    """The finished samples of all processes, in files of lines."""

    def __init__(self, out: Path | None, identity: Identity, rank: int) -> None:
        self.identity = identity
        self.finished: dict[str, tuple[list[ObjectRow], str | None]] = {}  # rows, or why a sample cannot be used
        self.path = None if out is None else make_folder(out) / f"rows-{rank}.jsonl"
        self.read()
        if self.path is not None:
            self._begin(self.path)

    def add(self, name: str, rows: list[ObjectRow], why_not: str | None) -> None:
        """One more finished sample."""
        self.finished[name] = rows, why_not
        line = {"sample": name, "rows": [r.as_dict() for r in rows]}
        self._write(line if why_not is None else line | {"skipped": why_not})

    def read(self) -> None:
        """What all processes have written until now; a line that was only half written is passed over.

        Raises:
            ValueError: if it belongs to another run or is damaged.
        """
        for path in sorted(self.path.parent.glob("rows-*.jsonl")) if self.path else ():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
                if line.endswith("\n"):
                    try:
                        content = json.loads(line)
                        other = self._differences(content["identity"]) if "identity" in content else []
                        if "identity" not in content:
                            rows = [ObjectRow.from_dict(r) for r in content["rows"]]
                            self.finished[content["sample"]] = rows, content.get("skipped")
                    except MALFORMED as error:
                        raise ValueError(f"{path} is damaged; delete it, and its samples are done again") from error
                    if other:
                        which = f"another run (other {', '.join(other)})"
                        raise ValueError(f"{path.parent} holds results of {which}; give another folder, or empty it")

    def _differences(self, found: Identity) -> list[str]:
        return sorted(k for k in found.keys() | self.identity.keys() if found.get(k) != self.identity.get(k))

    def _begin(self, path: Path) -> None:
        """Begin the own file, or cut off the half line at which it was interrupted."""
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            path.write_bytes(whole)
        if not whole:
            self._write({"identity": self.identity})

    def _write(self, content: dict[str, Any]) -> None:
        if self.path is not None:
            with explain_write_errors(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(content) + "\n")


def model_fingerprint(model: SAM2) -> str:
    """A short text that recognises the same weights and settings, on any device."""
    about = [model.config.as_dict(), str(model.compute_dtype), weights_fingerprint(model.state_dict())]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
