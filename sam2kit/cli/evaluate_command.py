"""`sam2kit evaluate`: how good a model is, or a folder of masks, against true masks.

    sam2kit evaluate DATA --model sam2.1-hiera-tiny --prompt box --out results
    sam2kit evaluate --masks predicted --truth DAVIS/Annotations

With --out an interrupted run goes on where it was, and `accelerate launch --multi_gpu -m sam2kit evaluate ...` shares
it between processes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sam2kit.cli.arguments import MODEL_HELP, ModelCommand, argument, option

if TYPE_CHECKING:
    from sam2kit.data.sample import Dataset
    from sam2kit.evaluation.metrics import Scoring
    from sam2kit.evaluation.reports import ObjectRow, Report

Totals = Callable[[list["ObjectRow"]], dict[str, float]]  # figures that are no mean over objects


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(ModelCommand):
    """measure clicks, boxes and tracking on true masks"""

    data: Path | None = argument(None, "a dataset with true masks")
    masks: Path | None = option(None, "score these PNG masks, without any model", "FOLDER")
    truth: Path | None = option(None, "the true PNG masks for --masks", "FOLDER")
    split: str | None = option(None, "use only this split of the data: train, val or test")
    limit: int | None = option(None, "use only the first N samples", "N")
    include_training: bool = option(False, "also score what the model was trained on")
    protocol: Literal["clicks", "vos", "offline", "online"] | None = option(
        None, "default: clicks for pictures, vos for clips"
    )
    prompt: Literal["mask", "box", "click", "click3", "click5"] = option("mask", "of vos")
    clicks: int = option(5, "of clicks, on each object", "N")
    frames: int = option(8, "of offline and online: corrected ones", "N")
    non_overlap: bool = option(False, "of vos: leave each pixel to one object")
    no_skip: bool = option(False, "count the first and last annotated frame too")
    davis: bool = option(False, "score like the DAVIS tool; with --masks, 255 is void")
    missing_empty: bool = option(False, "with --masks: a missing file is an empty mask")
    youtube: Path | None = option(None, "also give YouTube-VOS G; with --unseen", "meta.json")
    unseen: Path | None = option(None, "names of the categories not seen in training", "FILE")
    detect: bool = option(False, "measure what is found without a click (AP, PQ), beside segment everything")
    out: Path | None = option(None, "folder for tables and rows; an interrupted run goes on there")
    model: str = option("nano", MODEL_HELP)

    def run(self) -> None:
        self._check()
        if self.masks and self.truth:
            self._score_folders(self.masks, self.truth)
        elif self.data and self.detect:
            self._score_detection(self.data)
        elif self.data:
            self._score_data(self.data)

    def _check(self) -> None:
        """Raises ValueError if options do not go together."""
        wrong = {
            "give one thing to score: a dataset, or --masks with --truth; see sam2kit evaluate --help": (
                bool(self.data) == bool(self.masks or self.truth)
            ),
            "--masks and --truth belong together: a folder of predictions and one of true masks": (
                (self.masks is None) != (self.truth is None)
            ),
            "--youtube and --unseen belong together: meta.json, and a file with names of categories": (
                (self.youtube is None) != (self.unseen is None)
            ),
            "--detect looks at pictures without prompts; it does not go with --protocol": (
                self.detect and self.protocol is not None
            ),
            "--davis and --youtube count frames differently; give one of them": bool(self.davis and self.youtube),
            f"--youtube scores tracked masks; it does not go with --protocol {self.protocol}": (
                bool(self.youtube) and self.protocol not in (None, "vos")
            ),
        }
        for sentence, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(sentence)

    def _scoring(self) -> Scoring:
        """Which frames count."""
        from sam2kit.evaluation.metrics import DAVIS, OFFICIAL, YOUTUBE_VOS

        scoring = DAVIS if self.davis else YOUTUBE_VOS if self.youtube else OFFICIAL
        return replace(scoring, skip_first=False, skip_last=False) if self.no_skip else scoring

    def _totals(self) -> Totals:
        """What gives them; small files are read at once, before hours of work."""
        from sam2kit.evaluation.reports import read_categories, read_meta, youtube_vos_g

        if self.youtube is None or self.unseen is None:
            return lambda rows: {}
        return partial(youtube_vos_g, categories=read_meta(self.youtube), unseen=read_categories(self.unseen))

    def _score_folders(self, masks: Path, truth: Path) -> None:
        from sam2kit.evaluation.reports import Report
        from sam2kit.evaluation.scored_folders import score_folders

        totals = self._totals()
        rows = list(score_folders(masks, truth, self._scoring(), missing_is_empty=self.missing_empty))
        about = {"masks": str(masks), "truth": str(truth)}
        self._print_report(Report(f"{masks} against {truth}", rows, about, totals=totals(rows)))

    def _score_data(self, data: Path) -> None:
        from tqdm import tqdm

        from sam2kit.evaluation.runs import Settings, evaluate_dataset, samples_to_score
        from sam2kit.evaluation.semi_supervised import TrackingProtocol
        from sam2kit.processes import join_team

        totals = self._totals()
        tracking = TrackingProtocol(self.prompt, self.non_overlap, self._scoring())
        numbers = (self.clicks, self.frames, tracking, self.limit)
        settings = Settings(self.protocol, *numbers, include_training=self.include_training)
        dataset = self._dataset(data)
        settings.chosen_for(dataset)  # before the model is loaded
        team = join_team(self.device)
        model = self.load(team.device)
        for note in samples_to_score(model, dataset, settings)[1] if team.is_main else ():  # before hours of work
            print(f"sam2kit: {note}", file=sys.stderr)
        with tqdm(desc="evaluating", unit="sample", disable=self.json or not team.is_main) as bar:

            def progress(done: int, total: int) -> None:
                if bar.total != total:
                    bar.reset(total)
                bar.update(done - bar.n)

            try:
                report = evaluate_dataset(model, dataset, settings, out=self.out, team=team, progress=progress)
            except KeyboardInterrupt:
                kept = "the same command goes on" if self.out else "with --out FOLDER, the same command would go on"
                raise KeyboardInterrupt(kept) from None
        if report is not None:
            about = {"name": self.model, **report.about}
            self._print_report(replace(report, about=about, totals=totals(report.rows)))

    def _dataset(self, data: Path) -> Dataset:
        """The data, or the wanted split of it."""
        from sam2kit.data.opening import open_dataset

        dataset = open_dataset(data)
        if self.split:
            dataset = dataset.of_split(self.split)
            if not len(dataset):
                raise ValueError(f"{data} has nothing in split {self.split!r}; without --split all of it is used")
        return dataset

    def _score_detection(self, data: Path) -> None:
        from tqdm import tqdm

        from sam2kit.evaluation.found_objects import evaluate_detection
        from sam2kit.evaluation.runs import Settings, samples_to_score
        from sam2kit.predict.automatic import everything_options
        from sam2kit.predict.detector import Detector

        settings = Settings("clicks", limit=self.limit, include_training=self.include_training)
        dataset = self._dataset(data)
        detector = Detector(self.load())
        samples, notes = samples_to_score(detector.model, dataset, settings)
        with tqdm(desc="evaluating", unit="sample", total=len(samples), disable=self.json) as bar:

            def progress(done: int, _: int) -> None:
                bar.update(done - bar.n)

            everything = everything_options(detector.model.config)
            report = evaluate_detection(detector, samples, everything, progress=progress)
        self._print_report(replace(report, notes=notes, about={"name": self.model, **report.about}))

    def _print_report(self, report: Report) -> None:
        from sam2kit.evaluation.reports import markdown, write_report

        files = write_report(report, self.out) if self.out else []
        if self.json:
            print(json.dumps(report.as_dict()))
            return
        print(markdown(report))
        if files:
            print(f"every object is in {files[0]} and {files[1].name}")
