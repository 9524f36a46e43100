"""`sam2kit merge`, `sam2kit export` and `sam2kit push`: what becomes of a fine-tuning.

sam2kit merge runs/leaves --out leaves.safetensors
sam2kit export runs/leaves --to official --out leaves.pt
sam2kit push runs/leaves you/leaves --private
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sam2kit.cli.options import Commands

if TYPE_CHECKING:
    import torch

_FORMATS = ("official", "transformers")


def add_finetuned_commands(commands: Commands) -> None:
    """The options of the three."""
    merge = commands.add_parser("merge", help="make one weight file of a fine-tuning and its base")
    merge.add_argument("model", metavar="DIR", help="folder or Hub id of a fine-tuning")
    merge.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    _add_half(merge)
    merge.set_defaults(run=run_merge)

    export = commands.add_parser("export", help="write a model for the official code or for transformers")
    export.add_argument("model", metavar="MODEL", help="preset, Hub id or path, also of a fine-tuning")
    export.add_argument("--to", choices=_FORMATS, required=True, help="official: a .pt file; transformers: a folder")
    export.add_argument("--out", type=Path, required=True, metavar="PATH")
    export.set_defaults(run=run_export)

    push = commands.add_parser("push", help="upload a fine-tuning, or a whole model, to the Hugging Face Hub")
    push.add_argument("model", metavar="DIR", help="folder of a fine-tuning, or a weight file")
    push.add_argument("repo", metavar="REPO", help="Hub id, such as you/leaves; made if needed")
    push.add_argument("--private", action="store_true", help="a new repo is only for you")
    _add_half(push)
    push.set_defaults(run=run_push)


def _add_half(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--half", action="store_true", help="store in float16: half the size, three digits")


def _dtype(options: argparse.Namespace) -> torch.dtype | None:
    import torch

    return torch.float16 if options.half else None


def run_merge(options: argparse.Namespace) -> None:
    """One file of a fine-tuning and its base."""
    from sam2kit.finetuned import is_finetuned
    from sam2kit.weights import find_weights, load_model, save_model

    if options.out.suffix != ".safetensors":
        raise ValueError(
            f"--out {str(options.out)!r} should end in .safetensors; `sam2kit export` writes other formats"
        )
    if not is_finetuned(find_weights(options.model).parent):
        raise ValueError(f"{options.model} is no fine-tuning, so there is nothing to merge; give the folder of one")
    _tell(save_model(load_model(options.model, "cpu"), options.out, dtype=_dtype(options)))


def run_export(options: argparse.Namespace) -> None:
    """A model for other people's code."""
    from sam2kit.exports import save_official, save_transformers
    from sam2kit.weights import load_model

    save = save_official if options.to == "official" else save_transformers
    _tell(save(load_model(options.model, "cpu"), options.out))


def run_push(options: argparse.Namespace) -> None:
    """A fine-tuning with its card, or a whole model, to the Hub."""
    from sam2kit.finetuned import is_finetuned
    from sam2kit.weights import load_model, push_to_hub

    folder = Path(options.model)
    what = folder if is_finetuned(folder) else load_model(options.model, "cpu")
    print(push_to_hub(what, options.repo, private=options.private, dtype=_dtype(options)))


def _tell(path: Path) -> None:
    files = [path] if path.is_file() else [f for f in path.iterdir() if f.is_file()]
    print(f"{path}: {sum(f.stat().st_size for f in files) / 1e6:.1f} MB")
