"""`sam2kit evaluate`, `sam2kit bench` and `sam2kit doctor`: numbers about models and machines."""

from __future__ import annotations

import argparse
import json

from sam2kit.cli.options import load


def run_evaluate(options: argparse.Namespace) -> None:
    """Clicks, boxes and tracking against true masks."""
    from sam2kit.training.evaluate import evaluate_pictures, held_out_pictures, outlined_photos
    from sam2kit.training.evaluate_clips import evaluate_clips, held_out_clips
    from sam2kit.training.pasted_clips import pasted_clips

    model = load(options)
    if options.pasted:
        scores = evaluate_clips(model, pasted_clips(options.pasted))
    elif options.clips:
        scores = evaluate_clips(model, held_out_clips())
    else:
        scores = evaluate_pictures(model, outlined_photos(options.photos) if options.photos else held_out_pictures())
    if options.json:
        print(json.dumps(scores))
    else:
        for name, value in scores.items():
            print(f"{name:22s} {value:.0f}" if name == "objects" else f"{name:22s} {value:.3f}")


def run_bench_memory(options: argparse.Namespace) -> None:
    """Peak memory of a short and a long propagation, each in a process of its own."""
    from sam2kit.bench import compare_memory

    report = compare_memory(options.model, options.device, side=options.side, short=options.short, long=options.long)
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:28s} {value}")


def run_doctor(options: argparse.Namespace) -> None:
    """Versions, devices, cache and speed."""
    from sam2kit.doctor import examine

    report = examine(options.model, options.device)
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:16s} {value}")
