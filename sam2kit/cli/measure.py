"""`sam2kit bench` and `sam2kit doctor`: numbers about machines."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2kit.cli.options import Commands, add_model_options
from sam2kit.files import make_folder, written_whole

if TYPE_CHECKING:
    from sam2kit.bench.compare import Measured

_WORKS = ("encode", "click", "clicks", "frame")
_CONTENDERS = (
    "sam2kit", "sam2kit-fast", "transformers", "transformers-half", "sam2kit-compiled", "transformers-compiled",
)  # fmt: skip


def add_bench_command(commands: Commands) -> None:
    """The options of `sam2kit bench`."""
    bench = commands.add_parser("bench", help="measure this machine").add_subparsers(required=True, metavar="WHAT")

    compare = bench.add_parser("compare", help="the same work by sam2kit and by what else is installed, in turns")
    compare.add_argument(
        "--work", action="append", metavar="KIND", type=_kind_of_work,
        help=f"encode, click, clicks (64), automatic, frame, frame10 (10 objects); default: {', '.join(_WORKS)}",
    )  # fmt: skip
    compare.add_argument("--rounds", type=int, default=5, help="counted runs of each (default: %(default)s)")
    compare.add_argument("--frames", type=int, help="of a run, a multiple of 4; default: 100, on a CPU 1")
    compare.add_argument(
        "--deadline", type=float, default=120, metavar="SECONDS",
        help="for each to load, and for each kind of work; who takes longer is left out (default: %(default)s)",
    )  # fmt: skip
    compare.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    compare.add_argument(
        "--contender", action="append", metavar="NAME", choices=_CONTENDERS,
        help=f"{', '.join(_CONTENDERS)}; default: what is installed, on CUDA GPUs in each way",
    )  # fmt: skip
    compare.add_argument("--alone", action="store_true", help="measure sam2kit only")
    compare.add_argument("--out", type=Path, help="folder for compare.md and compare.json")
    add_model_options(compare, "sam2.1-hiera-tiny", run_bench_compare, dtype=False)

    scaling = bench.add_parser("scaling", help="time per frame against objects, length and side")
    scaling.add_argument("--frames", type=int, default=200, help="of the long clip (default: %(default)s)")
    scaling.add_argument("--objects", type=int, default=64, help="at most (default: %(default)s)")
    scaling.add_argument("--out", type=Path, help="folder for scaling.png and scaling.json")
    add_model_options(scaling, "nano", run_bench_scaling, dtype=False)

    memory = bench.add_parser("memory", help="peak memory of a short and a long propagation")
    memory.add_argument("--short", type=int, default=100, help="frames (default: %(default)s)")
    memory.add_argument("--long", type=int, default=2000, help="frames (default: %(default)s)")
    add_model_options(memory, "nano", run_bench_memory, dtype=False)


def _kind_of_work(text: str) -> str:
    if not re.fullmatch(r"(encode|click|clicks|automatic|frame)[0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"there is no work {text!r}; choose encode, click, clicks, automatic, frame")
    return text


def run_bench_compare(options: argparse.Namespace) -> int:
    """Medians and ratios, which are on disk after each run."""
    from sam2kit.bench.compare import Conditions, as_json, compare, machine, markdown
    from sam2kit.weights import choose_device

    for name in ("rounds", "frames", "deadline"):
        given = getattr(options, name)
        if given is not None and not given >= 1:
            raise ValueError(f"--{name} must be 1 or more, got {given}")
    device = str(choose_device(options.device))
    conditions = Conditions(
        options.model, device, options.dtype, options.side, options.rounds, options.frames, options.deadline
    )
    about = {"command": shlex.join(sys.argv), "model": options.model, "side": options.side or "its own"}
    about |= {"device": device, "precision": options.dtype, **machine()}

    def write(found: Sequence[Measured]) -> None:
        if options.out:
            _write(options.out, markdown(found, about), as_json(found, about), "compare")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that processes and weights go, too
    found = compare(
        options.work or _WORKS,
        conditions,
        contenders=["sam2kit"] if options.alone else options.contender,
        progress=_tell,
        report=write,
    )
    _give(options, markdown(found, about), as_json(found, about), "compare")
    return 0 if any(m.seconds for m in found) else 1


def run_bench_scaling(options: argparse.Namespace) -> None:
    """Three series, perhaps as a picture."""
    from sam2kit.bench.scaling import draw, measure_scaling

    objects = [2**n for n in range(options.objects.bit_length())]
    sides = [options.side] if options.side else [256, 512, 768, 1024]
    found = measure_scaling(
        options.model, options.device, objects=objects, frames=options.frames, sides=sides, progress=_tell
    )
    lines = []
    for name, series in vars(found).items():
        shown = list(series.items())[:: max(1, len(series) // 10)]
        lines.append(f"{name}: " + ", ".join(f"{x}: {1000 * seconds:.0f} ms" for x, seconds in shown))
    _give(options, "\n".join(lines) + "\n", found.as_dict(), "scaling")
    if options.out:
        draw(found, options.out / "scaling.png", f"{options.model}, a frame of 1280x720")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _give(options: argparse.Namespace, text: str, content: dict[str, Any], name: str) -> None:
    """Print, and write into the folder that was named."""
    print(json.dumps(content) if options.json else text, end="\n" if options.json else "")
    if options.out:
        _write(options.out, text, content, name)


def _write(folder: Path, text: str, content: dict[str, Any], name: str) -> None:
    make_folder(folder)
    for ending, what in (("md", text), ("json", json.dumps(content, indent=1) + "\n")):
        with written_whole(folder / f"{name}.{ending}") as unfinished:
            unfinished.write_text(what, encoding="utf-8")


def run_bench_memory(options: argparse.Namespace) -> None:
    """Peak memory of a short and a long propagation, each in a process of its own."""
    from sam2kit.bench.memory import compare_memory

    report = compare_memory(options.model, options.device, side=options.side, short=options.short, long=options.long)
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:28s} {value}")


def run_doctor(options: argparse.Namespace) -> None:
    """Versions, devices, cache and speed."""
    from sam2kit.doctor import examine

    report = examine(options.model, options.device, options.dtype)
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:16s} {value}")
