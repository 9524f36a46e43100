"""The `sam2kit` command: masks from the shell, numbers, and a doctor for the installation.

    sam2kit image PHOTO --point 120,80 --out masks
    sam2kit auto PHOTO --out masks
    sam2kit video CLIP --prompt frame=0,object=1,point=120,80 --effect overlay --out tracked
    sam2kit session work.session.safetensors --out masks
    sam2kit evaluate --model nano --clips
    sam2kit data check PATH --sheet sheet.png
    sam2kit train PATH --base nano --recipe decoder --out mine
    sam2kit merge mine --out mine.safetensors
    sam2kit export mine --to official --out mine.pt
    sam2kit push mine you/mine
    sam2kit bench compare
    sam2kit doctor

What a user does wrong ends with one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sam2kit.cli.data import add_data_command
from sam2kit.cli.evaluate import add_evaluate_command
from sam2kit.cli.finetuned import add_finetuned_commands
from sam2kit.cli.measure import add_bench_command, run_doctor
from sam2kit.cli.options import add_model_options, add_results_options
from sam2kit.cli.pictures import run_auto, run_image
from sam2kit.cli.session import add_session_command
from sam2kit.cli.train import add_train_command
from sam2kit.cli.video import add_video_command
from sam2kit.errors import is_out_of_memory
from sam2kit.hub import HubError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 when the user can put it right, or what a check found."""
    options = _parser().parse_args(arguments)
    warnings.formatwarning = lambda message, *_, **__: f"sam2kit: {message}\n"  # a sentence, without a line of code
    try:
        code = options.run(options)
    except (ValueError, HubError, OSError, FloatingPointError, IndexError) as error:
        print("sam2kit:", *str(error).split(), file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print("sam2kit: the device has no memory left for this; take a smaller model or --side", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print("sam2kit: stopped", *([f"; {stopped}"] if str(stopped) else []), sep="", file=sys.stderr)
        return 130
    return code or 0


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        print(f"sam2kit: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(prog="sam2kit", description="Segment anything with SAM 2.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    image = commands.add_parser("image", help="masks of one object in a photo, from clicks or boxes")
    image.add_argument("photo", type=Path)
    image.add_argument(
        "--point", action="append", default=[], metavar="x,y[,0|1]", help="a click; 1 this (default), 0 not this"
    )
    image.add_argument(
        "--box", action="append", default=[], metavar="x0,y0,x1,y1", help="a box; several make several masks"
    )
    image.add_argument("--candidates", action="store_true", help="write all candidates, not only the best")
    add_results_options(image, run_image)

    auto = commands.add_parser("auto", help="masks of everything in a photo")
    auto.add_argument("photo", type=Path)
    auto.add_argument("--points-per-side", type=int, default=32)
    auto.add_argument("--min-iou", type=float, default=0.8, help="predicted IoU that a mask must reach")
    auto.add_argument("--min-stability", type=float, default=0.95)
    add_results_options(auto, run_auto)

    add_video_command(commands)
    add_session_command(commands)
    add_data_command(commands)
    add_train_command(commands)
    add_finetuned_commands(commands)
    add_evaluate_command(commands)

    add_bench_command(commands)

    doctor = commands.add_parser("doctor", help="versions, devices, cache, and how fast this machine is")
    add_model_options(doctor, "sam2.1-hiera-tiny", run_doctor)
    return parser
