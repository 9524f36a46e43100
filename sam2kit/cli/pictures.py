"""`sam2kit image` and `sam2kit auto`: masks in photos."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sam2kit.cli.options import load, numbers_of
from sam2kit.files import check_folder, make_folder

if TYPE_CHECKING:
    import numpy as np

    from sam2kit.media.exports import NamedMask

_MOST_CUTOUTS = 8  # of "auto", which may find hundreds of masks


def run_image(options: argparse.Namespace) -> None:
    """Masks of one object, or one per box."""
    from sam2kit.media.exports import NamedMask
    from sam2kit.media.pictures import read_picture
    from sam2kit.predict.image import ImagePredictor
    from sam2kit.predict.prompts import Prompt

    points = [numbers_of(p, (2, 3), "--point", "x,y or x,y,0 or x,y,1") for p in options.point]
    boxes = [numbers_of(b, (4,), "--box", "x0,y0,x1,y1") for b in options.box]
    if not points and not boxes:
        raise ValueError("say what you want: give --point x,y or --box x0,y0,x1,y1")
    if points and len(boxes) > 1:
        raise ValueError("points go with one box at most; run the command once per object")
    prompt = Prompt(
        [p[:2] for p in points] or None, [p[2] if len(p) == 3 else 1 for p in points] or None, boxes or None
    )
    check_folder(options.out)
    picture = read_picture(options.photo)
    predictor = ImagePredictor(load(options))
    answer = predictor.predict(predictor.encode(picture), prompt, multimask=options.candidates or None)
    shown = answer if options.candidates else answer.best()
    objects = [
        NamedMask.of(f"mask {i + 1}", mask.cpu().numpy(), float(iou))
        for i, (mask, iou) in enumerate(zip(shown.masks.flatten(0, 1), shown.predicted_iou.flatten(), strict=True))
    ]
    write_masks(options, picture, objects, options.photo.name)


def run_auto(options: argparse.Namespace) -> None:
    """Masks of everything."""
    from tqdm import tqdm

    from sam2kit.media.exports import NamedMask
    from sam2kit.media.pictures import read_picture
    from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions

    settings = AutomaticOptions(
        points_per_side=options.points_per_side,
        min_predicted_iou=options.min_iou,
        min_stability=options.min_stability,
    )
    check_folder(options.out)
    picture = read_picture(options.photo)
    search = AutomaticMasks(load(options), settings)
    with tqdm(desc="segmenting everything", disable=options.json) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = search.generate(picture, progress=progress)
    objects = [NamedMask(f"mask {i + 1}", f.runs, f.predicted_iou) for i, f in enumerate(found)]
    write_masks(options, picture, objects, options.photo.name)


def write_masks(options: argparse.Namespace, picture: np.ndarray, objects: Sequence[NamedMask], file_name: str) -> None:
    """Masks, cut-outs, an overlay and COCO JSON in the output folder; a summary on stdout.

    Args:
        options: with `out` and `json`.
        picture: uint8 [H, W, 3].
        objects: what was found in it.
        file_name: of the picture.
    """
    from PIL import Image

    from sam2kit.media.drawing import draw_masks
    from sam2kit.media.exports import coco_json, cut_out, mask_image, write_image, write_json

    out = make_folder(options.out)
    stem = Path(file_name).stem
    written = []
    for i, item in enumerate(objects, start=1):
        written.append(write_image(mask_image([item]), out / f"{stem}_mask{i}.png"))
        if item.area and len(objects) <= _MOST_CUTOUTS:
            written.append(write_image(cut_out(picture, item.mask), out / f"{stem}_cutout{i}.png"))
    overlay = Image.fromarray(draw_masks(picture, (o.mask for o in objects), range(len(objects))))
    written.append(write_image(overlay, out / f"{stem}_overlay.jpg"))
    written.append(write_json(coco_json(objects, file_name, picture.shape[:2]), out / f"{stem}_coco.json"))
    if options.json:
        masks = [{"predicted_iou": round(o.score, 4), "area": o.area} for o in objects]
        print(json.dumps({"masks": masks, "files": [str(p) for p in written]}))
    else:
        print(f"{len(objects)} masks in {out}: {overlay.width}x{overlay.height} pixels, see {written[-2].name}")
