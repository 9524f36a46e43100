"""`sam2kit bench` and `sam2kit doctor`: numbers about machines."""

from __future__ import annotations

import argparse
import json


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
