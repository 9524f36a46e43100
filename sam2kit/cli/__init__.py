"""The `sam2kit` command: masks from the shell, numbers, and a doctor for the installation.

    sam2kit image PHOTO --point 120,80 --out masks
    sam2kit auto PHOTO --out masks
    sam2kit predict FOLDER --model mine --out found
    sam2kit video CLIP --prompt frame=0,object=1,point=120,80 --effect overlay --out tracked
    sam2kit session work.session.safetensors --out masks
    sam2kit evaluate DATA --model nano
    sam2kit data check PATH --sheet sheet.png
    sam2kit train PATH --base nano --recipe decoder --out mine
    sam2kit merge mine --out mine.safetensors
    sam2kit export mine --to official --out mine.pt
    sam2kit push mine you/mine
    sam2kit doctor

What a user does wrong ends with one line on stderr and exit code 2.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from sam2kit.cli import finetuning_commands as finetuning
from sam2kit.cli.arguments import Command, ModelCommand, add_command, new_app
from sam2kit.cli.evaluate_command import EvaluateCommand
from sam2kit.cli.image_commands import AlikeCommand, AutoCommand, ImageCommand
from sam2kit.cli.predict_command import PredictCommand
from sam2kit.cli.video_batch import VideoCommand
from sam2kit.cli.video_command import SessionCommand
from sam2kit.hardware import is_out_of_memory
from sam2kit.hub import HubError


@dataclass(frozen=True, kw_only=True)
class DoctorCommand(ModelCommand):
    """versions, devices, cache, and how fast this machine is"""

    def run(self) -> None:
        from sam2kit.doctor import examine

        report = examine(self.model, self.device, self.dtype)
        lines = [f"{name:16s} {value}" for name, value in report.items()]
        print(json.dumps(report) if self.json else "\n".join(lines))


COMMANDS: dict[str, type[Command]] = {
    "image": ImageCommand,
    "alike": AlikeCommand,
    "auto": AutoCommand,
    "predict": PredictCommand,
    "video": VideoCommand,
    "session": SessionCommand,
    "train": finetuning.TrainCommand,
    "merge": finetuning.MergeCommand,
    "export": finetuning.ExportCommand,
    "push": finetuning.PushCommand,
    "evaluate": EvaluateCommand,
    "doctor": DoctorCommand,
}


def commands() -> typer.Typer:
    """All commands and their options."""
    app, data = new_app("Segment anything with SAM 2."), new_app(finetuning.DATA_HELP)
    for name, kind in COMMANDS.items():
        add_command(app, name, kind)
    add_command(data, "check", finetuning.CheckCommand)
    add_command(data, "convert", finetuning.ConvertCommand)
    app.add_typer(data, name="data")
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 when the user can put it right, or what a check found."""
    warnings.formatwarning = lambda message, *_, **__: f"sam2kit: {message}\n"  # a sentence, without a line of code
    command = typer.main.get_command(commands())
    try:
        with command.make_context("sam2kit", list(sys.argv[1:] if arguments is None else arguments)) as context:
            return command.invoke(context) or 0
    except typer.Exit as end:  # of --help
        return end.exit_code
    except (ValueError, HubError, OSError, FloatingPointError, IndexError) as error:
        return _refuse(str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _refuse("the device has no memory left for this; take a smaller model or --side")
    except KeyboardInterrupt as stopped:
        print("sam2kit: stopped", *([f"; {stopped}"] if str(stopped) else []), sep="", file=sys.stderr)
        return 130
    except Exception as error:  # typer has no name of its own, in all its versions, for options that do not exist
        if not hasattr(error, "format_message"):
            raise
        path = getattr(getattr(error, "ctx", None), "command_path", "sam2kit")
        return _refuse(f"{error.format_message().rstrip('.')}; see {path} --help")


def _refuse(sentence: str) -> int:
    print("sam2kit:", *sentence.split(), file=sys.stderr)
    return 2
