"""`sam2kit evaluate`: how good a model is, or a folder of masks, against true masks.

    sam2kit evaluate DATA --model sam2.1-hiera-tiny --prompt box --out results
    sam2kit evaluate --masks predicted --truth DAVIS/Annotations
    sam2kit evaluate --clips                     (procedural clips that nano never saw)

With --out an interrupted run goes on where it was, and `accelerate launch --multi_gpu -m sam2kit.cli evaluate
...` shares it between processes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2kit.cli.options import Commands, add_model_options, load

if TYPE_CHECKING:
    from sam2kit.evaluation.rows import ObjectRow
    from sam2kit.evaluation.tables import Report
    from sam2kit.evaluation.vos import Scoring

_PROTOCOLS = ("clicks", "vos", "offline", "online")  # spelled out here, because their modules load torch
_PROMPTS = ("mask", "box", "click", "click3", "click5")


def add_evaluate_command(commands: Commands) -> None:
    """The options of `sam2kit evaluate`."""
    evaluate = commands.add_parser("evaluate", help="measure clicks, boxes and tracking against true masks")
    what = evaluate.add_mutually_exclusive_group()
    what.add_argument("data", type=Path, nargs="?", help="a dataset with true masks; without it, procedural scenes")
    what.add_argument("--masks", type=Path, metavar="FOLDER", help="score these PNG masks, without any model")
    what.add_argument("--photos", type=Path, help="folder with outlines.json: the short list of figures")
    what.add_argument("--clips", action="store_true", help="tracking in held-out procedural clips")
    what.add_argument("--pasted", type=Path, help="tracking of cut-outs of the photos in this folder")
    evaluate.add_argument("--truth", type=Path, metavar="FOLDER", help="the true PNG masks for --masks")
    evaluate.add_argument("--split", help="use only this split of the data: train, val or test")
    evaluate.add_argument("--limit", type=int, metavar="N", help="use only the first N samples")
    evaluate.add_argument("--include-training", action="store_true", help="also score what the model was trained on")
    evaluate.add_argument("--protocol", choices=_PROTOCOLS, help="default: clicks for pictures, vos for clips")
    evaluate.add_argument("--prompt", choices=_PROMPTS, default="mask", help="of vos (default: %(default)s)")
    evaluate.add_argument("--clicks", type=int, default=5, metavar="N", help="of clicks, on each object")
    evaluate.add_argument("--frames", type=int, default=8, metavar="N", help="of offline and online: corrected ones")
    evaluate.add_argument("--non-overlap", action="store_true", help="of vos: leave each pixel to one object")
    evaluate.add_argument("--no-skip", action="store_true", help="count the first and last annotated frame too")
    evaluate.add_argument("--davis", action="store_true", help="score like the DAVIS tool; with --masks, 255 is void")
    evaluate.add_argument("--missing-empty", action="store_true", help="with --masks: a missing file is an empty mask")
    evaluate.add_argument("--youtube", type=Path, metavar="meta.json", help="also give YouTube-VOS G; with --unseen")
    evaluate.add_argument("--unseen", type=Path, metavar="FILE", help="names of the categories not seen in training")
    evaluate.add_argument("--out", type=Path, help="folder for tables and rows; an interrupted run goes on there")
    add_model_options(evaluate, "nano", run_evaluate)


def run_evaluate(options: argparse.Namespace) -> None:
    """Score a model on data, a folder of masks, or a model on what this project brings along."""
    if (options.masks is None) != (options.truth is None):
        raise ValueError("--masks and --truth belong together: a folder of predictions and one of true masks")
    if (options.youtube is None) != (options.unseen is None):
        raise ValueError("--youtube and --unseen belong together: meta.json, and a file with names of categories")
    if options.davis and options.youtube:
        raise ValueError("--davis and --youtube count frames differently; give one of them")
    if options.youtube and options.protocol not in (None, "vos"):
        raise ValueError(f"--youtube scores tracked masks; it does not go with --protocol {options.protocol}")
    if options.youtube:  # before hours of work
        from sam2kit.evaluation.youtube_vos import read_categories, read_meta

        read_meta(options.youtube)
        read_categories(options.unseen)
    if options.masks:
        _tell(options, _folder_report(options))
    elif options.data:
        report = _data_report(options)
        if report is not None:
            _tell(options, report)
    elif options.out or options.split or options.limit is not None:
        raise ValueError("--out, --split and --limit need data: sam2kit evaluate DATA --out results")
    else:
        _run_short(options)


def _scoring(options: argparse.Namespace) -> Scoring:
    from sam2kit.evaluation.vos import DAVIS, OFFICIAL, YOUTUBE_VOS

    scoring = DAVIS if options.davis else YOUTUBE_VOS if options.youtube else OFFICIAL
    return replace(scoring, skip_ends=False) if options.no_skip else scoring


def _folder_report(options: argparse.Namespace) -> Report:
    from sam2kit.evaluation.mask_folders import score_folders
    from sam2kit.evaluation.tables import Report

    scoring = _scoring(options)
    rows = list(score_folders(options.masks, options.truth, scoring, missing_is_empty=options.missing_empty))
    about = {"masks": str(options.masks), "truth": str(options.truth)}
    return Report(f"{options.masks} against {options.truth}", rows, about, totals=_totals(options, rows))


def _data_report(options: argparse.Namespace) -> Report | None:
    from tqdm import tqdm

    from sam2kit.datasets.opening import open_dataset
    from sam2kit.evaluation.processes import join_team
    from sam2kit.evaluation.protocols import Settings, evaluate_dataset, samples_to_score
    from sam2kit.evaluation.semi_supervised import TrackingProtocol

    tracking = TrackingProtocol(options.prompt, options.non_overlap, _scoring(options))
    settings = Settings(
        options.protocol, options.clicks, options.frames, tracking, options.limit, options.include_training
    )
    dataset = open_dataset(options.data)
    if options.split:
        dataset = dataset.of_split(options.split)
        if not len(dataset):
            raise ValueError(
                f"{options.data} has nothing in split {options.split!r}; without --split all of it is used"
            )
    settings.chosen_for(dataset)  # before the model is loaded
    team = join_team(options.device)
    options.device = team.device or options.device
    model = load(options)
    if team.is_main:  # before hours of work
        _warn(samples_to_score(model, dataset, settings)[1])
    with tqdm(desc="evaluating", unit="sample", disable=options.json or not team.is_main) as bar:

        def progress(done: int, total: int) -> None:
            if bar.total != total:
                bar.reset(total)
            bar.update(done - bar.n)

        try:
            report = evaluate_dataset(model, dataset, settings, out=options.out, team=team, progress=progress)
        except KeyboardInterrupt:
            kept = "the same command goes on" if options.out else "with --out FOLDER, the same command would go on"
            raise KeyboardInterrupt(kept) from None
    if report is None:
        return None
    return replace(report, about={"name": options.model, **report.about}, totals=_totals(options, report.rows))


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"sam2kit: {note}", file=sys.stderr)


def _totals(options: argparse.Namespace, rows: list[ObjectRow]) -> dict[str, float]:
    if not options.youtube:
        return {}
    from sam2kit.evaluation.youtube_vos import read_categories, read_meta, youtube_vos_g

    return youtube_vos_g(rows, read_meta(options.youtube), read_categories(options.unseen))


def _tell(options: argparse.Namespace, report: Report) -> None:
    from sam2kit.evaluation.tables import markdown, write_report

    files = write_report(report, options.out) if options.out else []
    if options.json:
        print(json.dumps(report.as_dict()))
    else:
        print(markdown(report))
        if files:
            print(f"every object is in {files[0]} and {files[1].name}")


def _run_short(options: argparse.Namespace) -> None:
    """The short lists of figures that nano's card states."""
    from tqdm import tqdm

    from sam2kit.datasets.outlines import open_outlines
    from sam2kit.evaluation.clips import evaluate_clips
    from sam2kit.evaluation.pictures import evaluate_pictures
    from sam2kit.evaluation.protocols import Settings, samples_to_score
    from sam2kit.training.held_out import CLIPS, PICTURES, held_out_clips, held_out_pictures
    from sam2kit.training.pasted_clips import SCENES, pasted_clips

    photos = options.photos or options.pasted
    dataset = open_outlines(photos) if photos else None  # before the model is loaded
    model = load(options)
    pictures: list[Any] = []
    if dataset is not None:
        settings = Settings("clicks", include_training=options.include_training or bool(options.pasted))
        pictures, notes = samples_to_score(model, dataset, settings)
        _warn(notes)
    bar = partial(
        tqdm, desc="evaluating", disable=options.json, unit="clip" if options.clips or options.pasted else "picture"
    )
    if options.photos:
        scores = evaluate_pictures(model, (sample.read() for sample in bar(pictures)))
    elif options.pasted:
        scores = evaluate_clips(model, bar(pasted_clips(options.pasted), total=len(SCENES)))
    elif options.clips:
        scores = evaluate_clips(model, bar(held_out_clips(), total=CLIPS))
    else:
        scores = evaluate_pictures(model, bar(held_out_pictures(), total=PICTURES))
    if options.json:
        print(json.dumps(scores))
    else:
        for name, value in scores.items():
            print(f"{name:22s} {value:.0f}" if name == "objects" else f"{name:22s} {value:.3f}")
