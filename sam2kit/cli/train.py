"""`sam2kit train`: fine-tune on somebody's own pictures or clips."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2kit.cli.options import Commands

if TYPE_CHECKING:
    from sam2kit.training.report import Result


def add_train_command(commands: Commands) -> None:
    """The parser of the command."""
    train = commands.add_parser("train", help="fine-tune on your own pictures or clips")
    train.add_argument("data", type=Path, help="folder or JSON with pictures or clips and their masks")
    train.add_argument("--base", default="sam2.1-hiera-tiny", help="preset, Hub id or path (default: %(default)s)")
    train.add_argument(
        "--recipe", help="decoder, lora, full, memory or official (default: memory for clips, lora for pictures)"
    )
    train.add_argument(
        "--out", type=Path, required=True, help="folder for the result; a run goes on there, interrupted or prolonged"
    )
    train.add_argument(
        "--epochs", type=int, help="rounds of training, each followed by an evaluation (default: the recipe's)"
    )
    train.add_argument("--minutes", type=float, help="stop in time, evaluations included, instead of after epochs")
    train.add_argument("--rate", type=float, help="highest learning rate")
    train.add_argument("--batch", type=int, help="pictures or clips per step")
    train.add_argument("--objects", type=int, help="objects of each picture or clip per step")
    train.add_argument("--frames", type=int, help="frames of each clip per step")
    train.add_argument("--corrections", type=int, help="corrective clicks of the simulated user")
    train.add_argument("--side", type=int, help="edge of the model's square in pixels; smaller is faster, coarser")
    train.add_argument("--held-out", type=float, default=0.2, help="share to test on, if the data does not say it")
    train.add_argument("--overfit", type=int, default=0, metavar="N", help="only learn N samples by heart, as a check")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    train.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or float16 (default: %(default)s)")
    train.add_argument("--separate-parts", action="store_true", help="each connected part of a mask is an object")
    train.add_argument("--json", action="store_true", help="print the result as JSON")
    train.set_defaults(run=run_train)


def run_train(options: argparse.Namespace) -> None:
    """Fine-tune, and print the table before and after."""
    try:
        from sam2kit.training.budget import Budget
        from sam2kit.training.finetune import finetune
    except ModuleNotFoundError as error:
        raise ValueError(f"training needs {error.name}: pip install 'sam2kit[train]'") from error
    from sam2kit.datasets.opening import open_dataset

    data = open_dataset(options.data, separate_parts=options.separate_parts)
    _say(data.describe())
    for sentence in data.skipped[:5]:
        _say(f"skipped: {sentence}")
    names = [
        *("epochs", "minutes", "rate", "batch", "objects", "frames", "corrections", "side"),
        *("held_out", "overfit", "seed", "device", "precision"),
    ]
    budget = Budget(**{name: getattr(options, name) for name in names})
    try:
        result = finetune(options.base, data, options.recipe, out=options.out, budget=budget, watch=_tell)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept_in(options.out)) from None
    if not _speaks():
        return
    if options.json:
        print(json.dumps(result.metrics | {"folder": str(result.folder), "notes": result.notes}))
    else:
        print(result.text(aligned=True))
        print(f"\n{_what_next(options, result)}")


def _kept_in(out: Path) -> str:
    """What a stopped run has left, and how it goes on."""
    from sam2kit.training.report import result_so_far

    so_far = result_so_far(out) if out.is_dir() else None
    kept = f"the best so far, of epoch {so_far.best_epoch}, is in {out}" if so_far else "no epoch was finished yet"
    return f"{kept}; the same command goes on"


def _what_next(options: argparse.Namespace, result: Result) -> str:
    """How the result is looked at and used, and how to train it longer."""
    if options.minutes:
        longer = f"--minutes {2 * options.minutes:g} in place of {options.minutes:g}"
    else:
        longer = f"--epochs {2 * result.epochs}"
    pictures = " and predictions.jpg" if (result.folder / "predictions.jpg").exists() else ""
    return (
        f"Look at curves.png{pictures} in {result.folder}. Use it: `--model {result.folder}` in every command.\n"
        f"To train it longer, repeat the command with {longer}: it goes on after epoch {result.epochs}."
    )


def _tell(exam: dict[str, Any]) -> None:
    """One line for each exam."""
    figures = "  ".join(f"{n} {v:.3f}" for n, v in exam.items() if n not in ("epoch", "step", "seconds", "objects"))
    _say(f"epoch {exam['epoch']}: {figures}")


def _say(text: str) -> None:
    if _speaks():
        print(text, file=sys.stderr)


def _speaks() -> bool:
    """One process of several speaks for all; launchers number them."""
    return os.environ.get("RANK", "0") == "0"
