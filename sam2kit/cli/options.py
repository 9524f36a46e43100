"""What the commands share: model options, numbers on the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sam2kit.model.sam2 import SAM2

_DTYPES = ("auto", "float32", "bfloat16", "float16")
Run = Callable[[argparse.Namespace], int | None]  # gives the exit code, or None where all went well


class Commands(Protocol):
    """Where commands are added: what `add_subparsers` gives."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:
        """The parser of a new command."""


def add_results_options(parser: argparse.ArgumentParser, run: Run) -> None:
    """Where results go, and the model that makes them."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    add_model_options(parser, "sam2.1-hiera-tiny", run)


def add_model_options(parser: argparse.ArgumentParser, model: str, run: Run, *, dtype: bool = True) -> None:
    """Which model, where; and what the command does.

    Args:
        dtype: whether to ask for the precision, too.
    """
    parser.add_argument("--model", default=model, help="preset, Hub id or path (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    if dtype:
        parser.add_argument(
            "--dtype", default="auto", choices=_DTYPES,
            help="precision to compute in; auto: 16 bits on CUDA GPUs, the kind that they have (default: %(default)s)",
        )  # fmt: skip
    parser.add_argument("--side", type=int, help="edge of the model's square in pixels; smaller is faster, coarser")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def load(options: argparse.Namespace) -> SAM2:
    """The model of the options."""
    from sam2kit.weights import load_model

    return load_model(options.model, options.device, options.dtype, side=options.side)


def numbers_of(text: str, counts: tuple[int, ...], option: str, wanted: str) -> list[float]:
    """ "120,80" -> [120.0, 80.0].

    Raises:
        ValueError: if it is not as many finite numbers as one of `counts`.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{option} {text!r} is not {wanted} (numbers in pixels, without spaces)")
    return numbers
