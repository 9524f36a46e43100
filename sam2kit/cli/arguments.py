"""What the commands share: a command is a dataclass whose docstring is its help.

Each field is an option or an argument, so that a command is one typed value; `run` does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from typer import Argument, Option, Typer

if TYPE_CHECKING:
    from sam2kit.model.sam2 import SAM2

DEVICE_HELP = "auto, cpu, cuda or mps"
JSON_HELP = "print the result as JSON"
MODEL_HELP = "preset, Hub id or path"
SIDE_HELP = "edge of the model's square in pixels; smaller is faster, coarser"


def option(default: Any = MISSING, help: str | None = None, metavar: str | None = None, *, of: Any = Option) -> Any:
    """A field that is an option; without a default, it has to be given. `metavar` is what the help calls its value."""
    about = {"of": of, "shown": {"help": help, "metavar": metavar}}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=about)
    return field(default=default, metadata=about)


argument = partial(option, of=Argument)  # a field that is an argument


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command with its options."""

    def run(self) -> int | None:
        """Do it; gives the exit code, or None where all went well."""
        raise NotImplementedError


def new_app(help: str) -> Typer:
    """A group of commands: plain help texts, no completion, and errors left to `main`."""
    return Typer(help=help, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def add_command(app: Typer, name: str, kind: type[Command]) -> None:
    """Add a command; the options of its base classes come last in the help."""

    made: Callable[..., Command] = kind

    def call(**given: object) -> int | None:
        return made(**given).run()

    hints = get_type_hints(kind)
    own_first = sorted(fields(kind), key=lambda one: one.name not in kind.__annotations__)
    parameters = [_parameter(one, hints[one.name]) for one in own_first]
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    app.command(name, help=kind.__doc__)(call)


def _parameter(one: Any, hint: Any) -> Parameter:
    """A field as typer reads it."""
    names = [f"--{one.name.replace('_', '-')}"] if hint is bool else []  # or there would be a --no-... too
    annotation = Annotated[hint, one.metadata["of"](*names, **one.metadata["shown"])]
    default = one.default if one.default_factory is MISSING else one.default_factory()
    default = Parameter.empty if default is MISSING else default
    return Parameter(one.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


@dataclass(frozen=True, kw_only=True)
class ModelCommand(Command):
    """With a model, computing somewhere in some precision."""

    model: str = option("sam2.1-hiera-tiny", MODEL_HELP)
    device: str = option("auto", DEVICE_HELP)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "precision to compute in; auto: 16 bits on CUDA GPUs, the kind that they have"
    )
    side: int | None = option(None, SIDE_HELP)
    json: bool = option(False, JSON_HELP)

    def load(self, device: str | None = None) -> SAM2:
        """The model, perhaps on another device than the options say."""
        from sam2kit.weights import load_model

        return load_model(self.model, device or self.device, self.dtype, side=self.side)


@dataclass(frozen=True, kw_only=True)
class ResultsCommand(ModelCommand):
    """With a model and a folder for results."""

    out: Path = option(help="folder for the results")


@dataclass(frozen=True, kw_only=True)
class CleaningCommand(ResultsCommand):
    """With how masks are cleaned; what is not given is as suits the model."""

    keep_clicked: bool | None = option(None, "keep only the parts of a mask that were clicked (default: for nano)")
    fill_holes: float | None = option(None, "fill holes up to so many pixels of the model's own mask", "AREA")
    remove_specks: float | None = option(None, "remove specks up to so many such pixels", "AREA")
    grow: float | None = option(None, "grow masks by so many pixels of the picture; -2 shrinks them by 2", "PIXELS")
    feather: float | None = option(None, "fade the edges of cut-outs over so many pixels", "PIXELS")

    @property
    def cleaning(self) -> dict[str, Any]:
        """As fields of ImageOptions or VideoOptions; None was not given."""
        areas = {"max_hole_area": self.fill_holes, "max_speck_area": self.remove_specks}
        return {"keep_clicked": self.keep_clicked, **areas, "grow": self.grow, "feather": self.feather}


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
