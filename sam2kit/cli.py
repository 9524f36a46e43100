"""The `sam2kit` command: masks from the shell, and a doctor for the installation.

    sam2kit image PHOTO --point 120,80 --out masks
    sam2kit auto PHOTO --out masks
    sam2kit evaluate --model nano
    sam2kit doctor

What a user does wrong ends with one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sam2kit.hub import HubError

if TYPE_CHECKING:
    from sam2kit.model.sam2 import SAM2

_MOST_CUTOUTS = 8  # of "auto", which may find hundreds of masks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or 2 when the user can put it right."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, HubError, OSError, torch_memory_error()) as error:
        print(f"sam2kit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sam2kit: stopped", file=sys.stderr)
        return 130
    return 0


def torch_memory_error() -> type[Exception]:
    """What torch raises when a device is full; asked for only when something went wrong, torch is slow to load."""
    import torch

    return torch.OutOfMemoryError


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
    _common(image, _run_image)

    auto = commands.add_parser("auto", help="masks of everything in a photo")
    auto.add_argument("photo", type=Path)
    auto.add_argument("--points-per-side", type=int, default=32)
    auto.add_argument("--min-iou", type=float, default=0.8, help="predicted IoU that a mask must reach")
    auto.add_argument("--min-stability", type=float, default=0.95)
    _common(auto, _run_auto)

    evaluate = commands.add_parser("evaluate", help="measure clicks and boxes against true masks")
    evaluate.add_argument(
        "--photos", type=Path, help="folder with outlines.json; without it, held-out procedural scenes"
    )
    _model_options(evaluate, "nano", _run_evaluate)

    doctor = commands.add_parser("doctor", help="versions, devices, cache, and how fast this machine is")
    _model_options(doctor, "sam2.1-hiera-tiny", _run_doctor)
    return parser


def _common(parser: argparse.ArgumentParser, run: object) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    _model_options(parser, "sam2.1-hiera-tiny", run)


def _model_options(parser: argparse.ArgumentParser, model: str, run: object) -> None:
    parser.add_argument("--model", default=model, help="preset, Hub id or path (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--side", type=int, help="edge of the model's square in pixels; smaller is faster, coarser")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def _load(options: argparse.Namespace) -> SAM2:
    from sam2kit.weights import load_model

    return load_model(options.model, options.device, side=options.side)


def _run_image(options: argparse.Namespace) -> None:
    from sam2kit.media.exports import NamedMask
    from sam2kit.media.pictures import read_picture
    from sam2kit.predict.image import ImagePredictor
    from sam2kit.predict.prompts import Prompt

    points = [_numbers(p, (2, 3), "--point", "x,y or x,y,0 or x,y,1") for p in options.point]
    boxes = [_numbers(b, (4,), "--box", "x0,y0,x1,y1") for b in options.box]
    if not points and not boxes:
        raise ValueError("say what you want: give --point x,y or --box x0,y0,x1,y1")
    if points and len(boxes) > 1:
        raise ValueError("points go with one box at most; run the command once per object")
    prompt = Prompt(
        [p[:2] for p in points] or None, [p[2] if len(p) == 3 else 1 for p in points] or None, boxes or None
    )
    picture = read_picture(options.photo)
    predictor = ImagePredictor(_load(options))
    answer = predictor.predict(predictor.encode(picture), prompt, multimask=options.candidates or None)
    shown = answer if options.candidates else answer.best()
    objects = [
        NamedMask.of(f"mask {i + 1}", mask.cpu().numpy(), float(iou))
        for i, (mask, iou) in enumerate(zip(shown.masks.flatten(0, 1), shown.predicted_iou.flatten(), strict=True))
    ]
    _write(options, picture, objects)


def _run_auto(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from sam2kit.media.exports import NamedMask
    from sam2kit.media.pictures import read_picture
    from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions

    settings = AutomaticOptions(
        points_per_side=options.points_per_side,
        min_predicted_iou=options.min_iou,
        min_stability=options.min_stability,
    )
    picture = read_picture(options.photo)
    search = AutomaticMasks(_load(options), settings)
    with tqdm(desc="segmenting everything", disable=options.json) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = search.generate(picture, progress=progress)
    _write(options, picture, [NamedMask(f"mask {i + 1}", f.runs, f.predicted_iou) for i, f in enumerate(found)])


def _write(options: argparse.Namespace, picture, objects: list) -> None:  # noqa: ANN001
    """Masks, an overlay and COCO JSON in the output folder; a summary on stdout."""
    from PIL import Image

    from sam2kit.media.drawing import draw_masks
    from sam2kit.media.exports import coco_json, cut_out, mask_image, write_image, write_json

    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    stem = options.photo.stem
    written = []
    for i, item in enumerate(objects, start=1):
        written.append(write_image(mask_image([item]), out / f"{stem}_mask{i}.png"))
        if item.area and len(objects) <= _MOST_CUTOUTS:
            written.append(write_image(cut_out(picture, item.mask), out / f"{stem}_cutout{i}.png"))
    overlay = Image.fromarray(draw_masks(picture, (o.mask for o in objects), range(len(objects))))
    written.append(write_image(overlay, out / f"{stem}_overlay.jpg"))
    written.append(write_json(coco_json(objects, options.photo.name, picture.shape[:2]), out / f"{stem}_coco.json"))
    if options.json:
        masks = [{"predicted_iou": round(o.score, 4), "area": o.area} for o in objects]
        print(json.dumps({"masks": masks, "files": [str(p) for p in written]}))
    else:
        print(f"{len(objects)} masks in {out}: {overlay.width}x{overlay.height} pixels, see {written[-2].name}")


def _run_evaluate(options: argparse.Namespace) -> None:
    from sam2kit.training.evaluate import evaluate_pictures, held_out_pictures, outlined_photos

    pictures = outlined_photos(options.photos) if options.photos else held_out_pictures()
    scores = evaluate_pictures(_load(options), pictures)
    if options.json:
        print(json.dumps(scores))
    else:
        for name, value in scores.items():
            print(f"{name:22s} {value:.0f}" if name == "objects" else f"{name:22s} {value:.3f}")


def _run_doctor(options: argparse.Namespace) -> None:
    from sam2kit.doctor import examine

    report = examine(options.model, options.device)
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:16s} {value}")


def _numbers(text: str, counts: tuple[int, ...], option: str, wanted: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{option} {text!r} is not {wanted} (numbers in pixels, without spaces)")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
