"""`sam2kit data`: look at a dataset before training, and carry it to another format."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sam2kit.cli.options import Commands
from sam2kit.datasets.opening import FORMATS


def add_data_command(commands: Commands) -> None:
    """Add `data check` and `data convert` to a parser's commands."""
    data = commands.add_parser("data", help="check or convert a dataset of pictures or clips with true masks")
    parts = data.add_subparsers(required=True, metavar="WHAT")
    check = parts.add_parser("check", help="what would spoil training; exit code 1 if something would")
    _add_dataset(check)
    check.add_argument("--sheet", type=Path, metavar="PNG", help="write a contact sheet with the masks drawn in")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    check.set_defaults(run=run_check)

    convert = parts.add_parser("convert", help="write a dataset in another format, masks unchanged")
    _add_dataset(convert)
    convert.add_argument("--to", required=True, choices=("coco", "yolo", "davis", "sav"))
    convert.add_argument("--out", type=Path, required=True, help="a new or empty folder, or a .zip")
    convert.set_defaults(run=run_convert)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a folder, or a JSON file")
    parser.add_argument("--format", choices=tuple(FORMATS), help="the format, if it is recognised wrongly")
    parser.add_argument(
        "--separate-parts", action="store_true", help="each connected part of a mask picture is an object"
    )


def run_check(options: argparse.Namespace) -> int:
    """Print the report; 1 if something would spoil training."""
    from sam2kit.datasets.check import check_dataset
    from sam2kit.datasets.contact_sheet import contact_sheet
    from sam2kit.datasets.opening import open_dataset

    dataset = open_dataset(options.path, format=options.format, separate_parts=options.separate_parts)
    report = check_dataset(dataset)
    print(json.dumps(report.as_dict()) if options.json else report.text())
    if options.sheet and len(dataset):
        contact_sheet(dataset, options.sheet)
    return int(report.spoiled)


def run_convert(options: argparse.Namespace) -> None:
    """Write the dataset in another format and say what was written."""
    from sam2kit.datasets.convert import convert
    from sam2kit.datasets.opening import open_dataset

    dataset = open_dataset(options.path, format=options.format, separate_parts=options.separate_parts)
    print(convert(dataset, options.to, options.out).text())
