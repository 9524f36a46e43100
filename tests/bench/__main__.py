"""`python -m tests.bench compare|memory`: measures this machine; `--help` says with what."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sam2kit.config import PRESETS
from sam2kit.files import make_folder, write_json
from sam2kit.weights import choose_device
from tests.bench.compare import Conditions, Measured, as_json, compare, machine, markdown
from tests.bench.contenders import CONTENDERS, WORKS
from tests.bench.memory import compare_memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 where nothing could be measured, 2 for what the user can put right."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure this machine.")
    commands = parser.add_subparsers(required=True, metavar="WHAT")

    made = commands.add_parser("compare", help="the same work by sam2kit and by what else is installed, in turns")
    kinds = f"encode, click, clicks (64), frame, frame10 (10 objects); default: {', '.join(WORKS)}"
    made.add_argument("--work", action="append", metavar="KIND", type=_kind_of_work, help=kinds)
    made.add_argument("--rounds", type=int, default=5, help="counted runs of each (default: %(default)s)")
    made.add_argument("--frames", type=int, help="of a run, a multiple of 4; default: 100, on a CPU 1")
    deadline = "for each to load, and for each kind of work; who takes longer is left out (default: %(default)s)"
    made.add_argument("--deadline", type=float, default=120, metavar="SECONDS", help=deadline)
    made.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    names = f"{', '.join(CONTENDERS)}; default: what is installed, on CUDA GPUs in each way"
    made.add_argument("--contender", action="append", metavar="NAME", choices=CONTENDERS, help=names)
    made.add_argument("--alone", action="store_true", help="measure sam2kit only")
    _add_shared_options(made, "sam2.1-hiera-tiny", _run_compare)

    held = commands.add_parser("memory", help="peak memory of a short and a long propagation")
    held.add_argument("--short", type=int, default=100, help="frames (default: %(default)s)")
    held.add_argument("--long", type=int, default=2000, help="frames (default: %(default)s)")
    _add_shared_options(held, "nano", _run_memory)
    return parser


def _add_shared_options(parser: argparse.ArgumentParser, model: str, run: object) -> None:
    parser.add_argument("--model", default=model, choices=PRESETS, help="a preset (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: %(default)s)")
    parser.add_argument("--side", type=int, help="of the model's square, in pixels; default: the preset's own")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.set_defaults(run=run)


def _kind_of_work(text: str) -> str:
    if not re.fullmatch(r"(encode|click|clicks|frame)[0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"there is no work {text!r}; choose encode, click, clicks, frame")
    return text


def _run_compare(options: argparse.Namespace) -> int:
    """Medians and ratios, which are on disk after each run."""
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
        _write(options.out, markdown(found, about), as_json(found, about), "compare")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that processes and weights go, too
    found = compare(
        options.work or WORKS,
        conditions,
        contenders=["sam2kit"] if options.alone else options.contender,
        progress=_tell,
        report=write,
    )
    _give(options, markdown(found, about), as_json(found, about), "compare")
    return 0 if any(m.seconds for m in found) else 1


def _run_memory(options: argparse.Namespace) -> int:
    """Peak memory of a short and a long propagation, each in a process of its own."""
    found = compare_memory(options.model, options.device, side=options.side, short=options.short, long=options.long)
    _give(options, "".join(f"{name:28s} {value}\n" for name, value in found.items()), found, "memory")
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _give(options: argparse.Namespace, text: str, content: dict[str, Any], name: str) -> None:
    """Print, and write into the folder that was named."""
    print(json.dumps(content) if options.json else text, end="\n" if options.json else "")
    _write(options.out, text, content, name)


def _write(folder: Path | None, text: str, content: dict[str, Any], name: str) -> None:
    if folder is not None:
        (make_folder(folder) / f"{name}.md").write_text(text, encoding="utf-8")
        write_json(content, folder / f"{name}.json", indent=1)


if __name__ == "__main__":
    sys.exit(main())
