"""`sam2kit image`, `alike` and `auto`: masks in photos; the same files are written of the session of a photo."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sam2kit.cli.arguments import CleaningCommand, ResultsCommand, argument, numbers_of, option
from sam2kit.files import check_folder, make_folder

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from sam2kit.media.mask_files import NamedMask
    from sam2kit.predict.automatic import FoundMask
    from sam2kit.predict.image import ImagePredictor
    from sam2kit.predict.options import CleaningOptions
    from sam2kit.predict.prompts import Prompt

_Found = TypeVar("_Found", "NamedMask", "FoundMask")
REFINE_HELP = "draw edges anew at the size of the photo, where the model sees it smaller"
_MOST_CUTOUTS = 8  # of "auto", which may find hundreds of masks


@dataclass(frozen=True, kw_only=True)
class PhotoCommand(ResultsCommand):
    """Writes masks of photos."""

    refine: bool = option(False, REFINE_HELP)

    def write(
        self,
        predictor: ImagePredictor,
        picture: np.ndarray,
        objects: list[NamedMask],
        file_name: str,
        options: CleaningOptions,
    ) -> None:
        """As `write_masks`, of masks that are neither refined nor grown yet."""
        from sam2kit.media.drawing import grow_mask
        from sam2kit.media.mask_files import NamedMask

        if self.refine:
            objects = with_finer_edges(predictor, picture, objects)
        if options.grow:
            objects = [NamedMask.of(one.name, grow_mask(one.mask, options.grow), one.score) for one in objects]
        write_masks(self.out, picture, objects, file_name, as_json=self.json, feather=options.feather)


def with_finer_edges(predictor: ImagePredictor, picture: np.ndarray, found: list[_Found]) -> list[_Found]:
    """Masks of a picture uint8 [H, W, 3] with edges of its own resolution."""
    from tqdm import tqdm

    from sam2kit.predict.automatic import run_steps
    from sam2kit.predict.refine import refining_steps

    with tqdm(desc="refining edges", leave=False) as bar:
        finer = run_steps(refining_steps(predictor, picture, [one.runs for one in found]), _shown_by(bar))
    return [replace(one, runs=runs) for one, runs in zip(found, finer, strict=True)]


def _shown_by(bar: tqdm[Any]) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return progress


@dataclass(frozen=True, kw_only=True)
class ImageCommand(CleaningCommand, PhotoCommand):
    """masks of one object in a photo, from clicks or boxes"""

    photo: Path = argument(metavar="PHOTO")
    point: list[str] = option([], "a click; 1 this (default), 0 not this", "x,y[,0|1]")
    box: list[str] = option([], "a box; several make several masks", "x0,y0,x1,y1")
    candidates: bool = option(False, "write all candidates, not only the best")

    def run(self) -> None:
        from sam2kit.media.mask_files import NamedMask
        from sam2kit.media.pictures import read_picture
        from sam2kit.predict.image import ImagePredictor
        from sam2kit.predict.options import ImageOptions

        prompt = prompt_of(self.point, self.box)
        check_folder(self.out)
        picture = read_picture(self.photo)
        options = ImageOptions().changed(**self.cleaning)
        predictor = ImagePredictor(self.load(), replace(options, grow=0.0))
        answer = predictor.predict(predictor.encode(picture), prompt, multimask=self.candidates or None)
        shown = answer if self.candidates else answer.best()
        found = zip(shown.masks.flatten(0, 1), shown.predicted_iou.flatten(), strict=True)
        objects = [NamedMask.of(f"mask {i}", mask.cpu().numpy(), float(iou)) for i, (mask, iou) in enumerate(found, 1)]
        self.write(predictor, picture, objects, self.photo.name, options)


@dataclass(frozen=True, kw_only=True)
class AlikeCommand(CleaningCommand, PhotoCommand):
    """masks of all that looks like one thing, in its photo and in others"""

    photos: list[Path] = argument(help="the first shows the example", metavar="PHOTO...")
    point: list[str] = option([], "a click on the example; 1 this (default), 0 not this", "x,y[,0|1]")
    box: list[str] = option([], "a box around the example", "x0,y0,x1,y1")
    most: int = option(50, "masks in a photo")
    least: float = option(0.5, "how alike they have to be, 0..1")

    def run(self) -> None:
        from sam2kit.media.mask_files import NamedMask
        from sam2kit.media.pictures import read_picture
        from sam2kit.predict.alike import AlikeOptions, FindAlike, look_of
        from sam2kit.predict.image import ImagePredictor
        from sam2kit.predict.options import ImageOptions

        prompt, options = prompt_of(self.point, self.box[:1]), ImageOptions().changed(**self.cleaning)
        limits = AlikeOptions(self.most, self.least)
        if len(self.box) > 1:
            raise ValueError("there is one example: give one --box")
        check_folder(self.out)
        example = read_picture(self.photos[0])
        predictor = ImagePredictor(self.load(), replace(options, grow=0.0))
        embedding = predictor.encode(example)
        mask = predictor.predict(embedding, prompt).best().masks[0, 0].cpu().numpy()
        search = FindAlike(predictor, look_of(embedding, mask), limits)
        for number, photo in enumerate(self.photos):
            picture = read_picture(photo) if number else example
            alike = search.find(picture, None if number else embedding)
            found = [NamedMask(f"mask {i}", one.runs, score) for i, (one, score) in enumerate(alike, start=1)]
            self.write(predictor, picture, found, photo.name, options)


def prompt_of(points: Sequence[str], boxes: Sequence[str]) -> Prompt:
    """What --point and --box say.

    Raises:
        ValueError: if they say nothing, or what does not go together.
    """
    from sam2kit.predict.prompts import Prompt

    clicks = [numbers_of(p, (2, 3), "--point", "x,y or x,y,0 or x,y,1") for p in points]
    corners = [numbers_of(b, (4,), "--box", "x0,y0,x1,y1") for b in boxes]
    if not clicks and not corners:
        raise ValueError("say what you want: give --point x,y or --box x0,y0,x1,y1")
    if clicks and len(corners) > 1:
        raise ValueError("points go with one box at most; run the command once per object")
    labels = [p[2] if len(p) == 3 else 1 for p in clicks]
    return Prompt([p[:2] for p in clicks] or None, labels or None, corners or None)


@dataclass(frozen=True, kw_only=True)
class AutoCommand(PhotoCommand):
    """masks of everything in a photo"""

    photo: Path = argument(metavar="PHOTO")
    points_per_side: int = option(32)
    min_iou: float | None = option(None, "predicted IoU that a mask must reach (default: as suits the model)")
    min_stability: float | None = option(None, "the same for stability")

    def run(self) -> None:
        from tqdm import tqdm

        from sam2kit.media.mask_files import NamedMask
        from sam2kit.media.pictures import read_picture
        from sam2kit.predict.automatic import AutomaticMasks, everything_options
        from sam2kit.predict.image import ImagePredictor
        from sam2kit.predict.options import ImageOptions

        check_folder(self.out)
        picture, model = read_picture(self.photo), self.load()
        given = {"min_predicted_iou": self.min_iou, "min_stability": self.min_stability}
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        settings = replace(everything_options(model.config), points_per_side=self.points_per_side, **chosen)
        search = AutomaticMasks(model, settings)
        with tqdm(desc="segmenting everything", disable=self.json) as bar:
            found = search.generate(picture, progress=_shown_by(bar))
        objects = [NamedMask(f"mask {i}", f.runs, f.predicted_iou) for i, f in enumerate(found, start=1)]
        self.write(ImagePredictor(model), picture, objects, self.photo.name, ImageOptions())


def write_masks(
    folder: Path,
    picture: np.ndarray,
    objects: Sequence[NamedMask],
    file_name: str,
    *,
    as_json: bool,
    feather: float = 0.0,
) -> None:
    """Masks, cut-outs, an overlay and COCO JSON of a picture uint8 [H, W, 3] in a folder; a summary on stdout."""
    from PIL import Image

    from sam2kit.data.mask_exports import coco_json, picture_table
    from sam2kit.files import write_json
    from sam2kit.media.drawing import draw_masks
    from sam2kit.media.mask_files import cut_out, mask_image, write_image

    out = make_folder(folder)
    stem = Path(file_name).stem
    written = []
    for i, item in enumerate(objects, start=1):
        written.append(write_image(mask_image([item], feather), out / f"{stem}_mask{i}.png"))
        if item.area and len(objects) <= _MOST_CUTOUTS:
            written.append(write_image(cut_out(picture, item.mask, feather), out / f"{stem}_cutout{i}.png"))
    overlay = Image.fromarray(draw_masks(picture, (o.mask for o in objects), range(len(objects))))
    written.append(write_image(overlay, out / f"{stem}_overlay.jpg"))
    written.append(write_json(coco_json(objects, file_name, picture.shape[:2]), out / f"{stem}_coco.json"))
    written.append(picture_table(objects, out / f"{stem}_table.csv"))
    if as_json:
        masks = [{"predicted_iou": round(o.score, 4), "area": o.area} for o in objects]
        print(json.dumps({"masks": masks, "files": [str(p) for p in written]}))
    else:
        print(f"{len(objects)} masks in {out}: {overlay.width}x{overlay.height} pixels, see {written[-3].name}")
