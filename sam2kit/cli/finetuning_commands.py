"""Fine-tuning from the shell: look at a dataset, train, and what becomes of the result."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sam2kit.cli.arguments import DEVICE_HELP, JSON_HELP, MODEL_HELP, SIDE_HELP, Command, argument, option

if TYPE_CHECKING:
    from sam2kit.data.sample import Dataset
    from sam2kit.training.training_report import Result

DATA_HELP = "check or convert a dataset of pictures or clips with true masks"
HALF_HELP = "store in float16: half the size, three digits"
PARTS_HELP = "each connected part of a mask picture is an object"


@dataclass(frozen=True, kw_only=True)
class DataCommand(Command):
    """With a dataset."""

    path: Path = argument(help="a folder, or a JSON file")
    format: str | None = option(None, "the format, if it is recognised wrongly")
    separate_parts: bool = option(False, PARTS_HELP)

    def open(self) -> Dataset:
        """The dataset."""
        from sam2kit.data.opening import open_dataset

        return open_dataset(self.path, format=self.format, separate_parts=self.separate_parts)


@dataclass(frozen=True, kw_only=True)
class CheckCommand(DataCommand):
    """look for errors before training; exit code 1 if there are some"""

    sheet: Path | None = option(None, "write a contact sheet with the masks drawn in", "PNG")
    json: bool = option(False, JSON_HELP)

    def run(self) -> int:
        from sam2kit.data.check import check_dataset
        from sam2kit.data.report import contact_sheet

        dataset = self.open()
        report = check_dataset(dataset)
        print(json.dumps(report.as_dict()) if self.json else report.text())
        if self.sheet and len(dataset):
            contact_sheet(dataset, self.sheet)
        return int(report.has_errors)


@dataclass(frozen=True, kw_only=True)
class ConvertCommand(DataCommand):
    """write a dataset in another format, masks unchanged"""

    to: Literal["coco", "yolo", "davis", "sav", "masks"] = option()
    out: Path = option(help="a new or empty folder, or a .zip")

    def run(self) -> None:
        from sam2kit.data.convert import convert

        print(convert(self.open(), self.to, self.out).text())


@dataclass(frozen=True, kw_only=True)
class TrainCommand(Command):
    """fine-tune on your own pictures or clips"""

    data: Path = argument(help="folder or JSON with pictures or clips and their masks")
    base: str = option("sam2.1-hiera-tiny", MODEL_HELP)
    recipe: str | None = option(
        None, "decoder, lora, full, memory or official (default: memory for clips, lora for pictures)"
    )
    out: Path = option(help="folder for the result; a run goes on there, interrupted or prolonged")
    epochs: int | None = option(None, "rounds of training, each followed by an evaluation (default: the recipe's)")
    minutes: float | None = option(None, "stop in time, evaluations included, instead of after epochs")
    rate: float | None = option(None, "highest learning rate")
    batch: int | None = option(None, "pictures or clips per step")
    objects: int | None = option(None, "objects of each picture or clip per step")
    frames: int | None = option(None, "frames of each clip per step")
    corrections: int | None = option(None, "corrective clicks of the simulated user")
    side: int | None = option(None, SIDE_HELP)
    held_out: float = option(0.2, "share to test on, if the data does not say it")
    overfit: int = option(0, "only learn N samples by heart, as a check", "N")
    seed: int = option(0)
    device: str = option("auto", DEVICE_HELP)
    precision: str = option("auto", "auto, float32, bfloat16 or float16")
    detect: bool | None = option(
        None, "learn to find the objects without a click (default: if they have classes, or are several in a picture)"
    )
    separate_parts: bool = option(False, PARTS_HELP)
    json: bool = option(False, JSON_HELP)

    def run(self) -> None:
        try:
            from sam2kit.training.callbacks import Callback, ProgressBar, TrainingEvent
            from sam2kit.training.finetune import finetune
        except ModuleNotFoundError as error:
            raise ValueError(f"training needs {error.name}: pip install 'sam2kit[train]'") from error
        from sam2kit.data.opening import open_dataset

        class Printer(Callback):
            """One line for each evaluation of an epoch."""

            def on_event(self, event: TrainingEvent) -> None:
                if event.scores and event.epoch:
                    figures = "  ".join(f"{n} {v:.3f}" for n, v in event.scores.items() if n != "objects")
                    _say(f"epoch {event.epoch}: {figures}")

        data = open_dataset(self.data, separate_parts=self.separate_parts)
        _say("\n".join([data.describe(), *(f"skipped: {sentence}" for sentence in data.skipped[:5])]))
        own = ("data", "base", "recipe", "out", "separate_parts", "json")
        overrides = {name: value for name, value in vars(self).items() if name not in own}
        try:
            callbacks = [ProgressBar(), Printer()]
            result = finetune(self.base, data, self.recipe, out=self.out, callbacks=callbacks, **overrides)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._kept()) from None
        if self.json and _is_main():
            print(json.dumps(result.metrics | {"folder": str(result.folder), "notes": result.notes}))
        elif _is_main():
            print(f"{result.text(aligned=True)}\n\n{self._what_next(result)}")

    def _kept(self) -> str:
        """What a stopped run has left, and how it goes on."""
        from sam2kit.training.training_report import result_so_far

        so_far = result_so_far(self.out) if self.out.is_dir() else None
        best = f"the best so far, of epoch {so_far.best_epoch}, is in {self.out}" if so_far else ""
        return f"{best or 'no epoch was finished yet'}; the same command goes on"

    def _what_next(self, result: Result) -> str:
        """How the result is looked at and used, and how to train it longer."""
        longer = f"--epochs {2 * result.epochs}"
        if self.minutes and result.stood_still:  # with epochs, it does not end for that
            longer += f" in place of --minutes {self.minutes:g}"
        elif self.minutes:
            longer = f"--minutes {2 * self.minutes:g} in place of {self.minutes:g}"
        pictures = " and predictions.jpg" if (result.folder / "predictions.jpg").exists() else ""
        return (
            f"Look at curves.png{pictures} in {result.folder}. Use it: `--model {result.folder}` in every command.\n"
            f"To train it longer, repeat the command with {longer}: it goes on after epoch {result.epochs}."
        )


def _say(text: str) -> None:
    if _is_main():
        print(text, file=sys.stderr)


def _is_main() -> bool:
    """Whether this process prints for all of several; launchers number them."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, kw_only=True)
class MergeCommand(Command):
    """make one weight file of a fine-tuning and its base"""

    model: str = argument(help="folder or Hub id of a fine-tuning", metavar="DIR")
    out: Path = option(metavar="FILE.safetensors")
    half: bool = option(False, HALF_HELP)

    def run(self) -> None:
        import torch

        from sam2kit.finetuned import is_finetuned
        from sam2kit.weights import find_weights, load_model, save_model

        if self.out.suffix != ".safetensors":
            ending = "should end in .safetensors; `sam2kit export` writes other formats"
            raise ValueError(f"--out {str(self.out)!r} {ending}")
        if not is_finetuned(find_weights(self.model).parent):
            raise ValueError(f"{self.model} is no fine-tuning, so there is nothing to merge; give the folder of one")
        dtype = torch.float16 if self.half else None
        _print_size(save_model(load_model(self.model, "cpu"), self.out, dtype=dtype))


@dataclass(frozen=True, kw_only=True)
class ExportCommand(Command):
    """write a model for the official code or for transformers"""

    model: str = argument(help="preset, Hub id or path, also of a fine-tuning", metavar="MODEL")
    to: Literal["official", "transformers"] = option(help="official: a .pt file; transformers: a folder")
    out: Path = option(metavar="PATH")

    def run(self) -> None:
        from sam2kit.weights import load_model, save_official, save_transformers

        save = save_official if self.to == "official" else save_transformers
        _print_size(save(load_model(self.model, "cpu"), self.out))


@dataclass(frozen=True, kw_only=True)
class PushCommand(Command):
    """upload a fine-tuning, or a whole model, to the Hugging Face Hub"""

    model: str = argument(help="folder of a fine-tuning, or a weight file", metavar="DIR")
    repo: str = argument(help="Hub id, such as you/leaves; made if needed", metavar="REPO")
    private: bool = option(False, "a new repo is only for you")
    half: bool = option(False, HALF_HELP)

    def run(self) -> None:
        import torch

        from sam2kit.finetuned import is_finetuned
        from sam2kit.weights import load_model, push_to_hub

        folder = Path(self.model)
        what = folder if is_finetuned(folder) else load_model(self.model, "cpu")
        dtype = torch.float16 if self.half else None
        print(push_to_hub(what, self.repo, private=self.private, dtype=dtype))


def _print_size(path: Path) -> None:
    files = [path] if path.is_file() else [f for f in path.iterdir() if f.is_file()]
    print(f"{path}: {sum(f.stat().st_size for f in files) / 1e6:.1f} MB")
