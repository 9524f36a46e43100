"""What a check of a dataset says: kinds of problems, how bad each is, and the report as text or as data.

And a contact sheet, many samples on one picture with their masks in colour: a mistake that no number shows is seen at a
glance.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from sam2kit.data.sample import Dataset, LabelledFrames, Sample
from sam2kit.files import make_folder
from sam2kit.media.drawing import draw_masks
from sam2kit.media.mask_files import write_image

TINY_AREA = 16  # pixels; less than SAM 2 can see once the picture is squashed to its square
FULL_SHARE = 0.95  # of the picture
CLIP_FRAMES = 8  # what a training clip takes
_SHOWN = 4  # sentences of each kind
_CAPTION = 20  # pixels below each picture of a contact sheet
_GAP = 6
_MOST_TILES = 48
_PAPER, _INK, _BAD = 250, (40, 40, 40), (200, 40, 40)

Severity = Literal["error", "warning"]

KINDS: dict[str, tuple[Severity, str]] = {
    "nothing": ("error", "nothing to learn from"),
    "leakage": ("error", "the same picture in two splits"),
    "unreadable": ("error", "files that cannot be read"),
    "missing": ("error", "files that are not there"),
    "size": ("error", "masks in another size than their picture"),
    "colours": ("error", "mask files that are no masks"),
    "outside": ("error", "masks outside their picture"),
    "broken_mask": ("error", "masks that cannot be read"),
    "many_objects": ("error", "colour masks read as very many objects"),
    "all_full": ("error", "nearly every mask covers its whole picture"),
    "mostly_empty": ("error", "most masks are empty"),
    "few": ("error", "too few samples to hold some out"),
    "unpaired": ("warning", "labels or pictures that were left out"),
    "no_mask": ("warning", "pictures or clips without masks"),
    "empty": ("warning", "empty masks"),
    "tiny": ("warning", f"masks below {TINY_AREA} pixels"),
    "full": ("warning", f"masks over {FULL_SHARE:.0%} of their picture"),
    "twice": ("warning", "the same mask twice in one picture"),
    "duplicate": ("warning", "the same picture several times"),
    "box_only": ("warning", "labels without an outline"),
    "crowd": ("warning", "crowd regions"),
    "kept_crowd": ("warning", "masks that are marked as crowds, and kept"),
    "ignored": ("warning", "labels that name no object"),
    "rectangles": ("warning", "outlines that are boxes"),
    "other_picture": ("warning", "labels that name another picture"),
    "parts": ("warning", "masks of several parts"),
    "no_background": ("warning", "colour masks without black"),
    "colour_mask": ("warning", "colour masks, read as one object per colour"),
    "jpeg_mask": ("warning", "masks in a lossy file"),
    "soft_mask": ("warning", "masks with soft edges"),
    "alpha": ("warning", "masks in the transparency"),
    "void": ("warning", "frames or pixels that say nothing"),
    "short": ("warning", f"clips with fewer than {CLIP_FRAMES} annotated frames"),
}


@dataclass(frozen=True)
class Problem:
    """Everything of one kind."""

    kind: str
    sentences: tuple[str, ...]  # what came, what was wanted, what to do; with names

    @property
    def severity(self) -> Severity:
        """Whether training would fail or go wrong with it, or could only be better."""
        return KINDS[self.kind][0]

    @property
    def title(self) -> str:
        """What these sentences have in common."""
        return KINDS[self.kind][1]


@dataclass(frozen=True)
class Report:
    """What a check found."""

    described: str
    problems: tuple[Problem, ...]  # the worst first
    counts: dict[str, int]  # of "pictures", "clips" and "masks" that were read, and of "unusable" samples
    picture_sizes: tuple[tuple[str, int], ...]  # "640x480" and how many, the most frequent first
    objects_per_picture: tuple[float, int] = (0.0, 0)  # mean, most
    mask_areas: tuple[float, float, float] = (0.0, 0.0, 0.0)  # share of the picture: smallest, median, largest

    @property
    def has_errors(self) -> bool:
        """Whether training would fail or go wrong."""
        return any(problem.severity == "error" for problem in self.problems)

    def text(self) -> str:
        """For people, in lines."""
        lines = [self.described, "read        {pictures} pictures, {clips} clips, {masks} masks".format(**self.counts)]
        if self.picture_sizes:
            shown = ", ".join(f"{n} x {size}" for size, n in self.picture_sizes[:4])
            more = f", and {len(self.picture_sizes) - 4} other sizes" if len(self.picture_sizes) > 4 else ""
            lines.append(f"sizes       {shown}{more}")
        if self.counts["masks"]:
            mean, most = self.objects_per_picture
            low, middle, high = (f"{share:.2%}" for share in self.mask_areas)
            lines.append(f"objects     {mean:.1f} per picture, at most {most}")
            lines.append(f"mask areas  {low} to {high} of the picture, half of them below {middle}")
        for problem in self.problems:
            head = "ERROR" if problem.severity == "error" else "warning"
            lines.append(f"\n{head}: {problem.title} ({len(problem.sentences)})")
            lines += [f"  {sentence}" for sentence in problem.sentences[:_SHOWN]]
            if len(problem.sentences) > _SHOWN:
                lines.append(f"  ... and {len(problem.sentences) - _SHOWN} more")
        if self.has_errors:
            return "\n".join([*lines, "\nTraining would fail or go wrong; see the errors above."])
        cure = "If each part of a mask is an object of its own, give --separate-parts there, too."
        has_parts = any(problem.kind == "parts" for problem in self.problems)
        return "\n".join([*lines, "\nReady for training." + (f" {cure}" if has_parts else "")])

    def as_dict(self) -> dict[str, Any]:
        """For programs, with all sentences."""
        return {
            "described": self.described,
            "has_errors": self.has_errors,
            "counts": self.counts,
            "picture_sizes": dict(self.picture_sizes),
            "objects_per_picture": {"mean": self.objects_per_picture[0], "most": self.objects_per_picture[1]},
            "mask_areas": dict(zip(("smallest", "median", "largest"), self.mask_areas, strict=True)),
            "problems": [
                {"kind": p.kind, "severity": p.severity, "title": p.title, "sentences": list(p.sentences)}
                for p in self.problems
            ],
        }


def contact_sheet(
    dataset: Dataset, path: str | PathLike[str], *, columns: int = 6, tile_wh: tuple[int, int] = (240, 180)
) -> Path:
    """Write a PNG of samples with their masks; of clips, the first annotated frame.

    Args:
        dataset: of a large one, 48 samples from begin to end are shown.
        path: ends in .png or .jpg; a file that is there is replaced.
        columns: samples side by side.
        tile_wh: of each sample, in pixels.
    Returns:
        the path.
    Raises:
        ValueError: if the dataset is empty, or the file's type is unknown.
    """
    path, samples = Path(path), dataset.samples
    if not samples:
        raise ValueError(f"{dataset.path} has no sample that could be shown on a contact sheet")
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(f"a contact sheet is a picture, such as {path.stem}.png; got {path.name}")
    chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, min(_MOST_TILES, len(samples))).astype(int)]
    columns = max(1, min(columns, len(chosen)))
    tiles = [_tile(sample, tile_wh) for sample in chosen]
    tiles += [np.full_like(tiles[0], _PAPER)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    sheet = np.pad(np.vstack(rows), ((0, _GAP), (0, _GAP), (0, 0)), constant_values=_PAPER)
    make_folder(path.parent)
    return write_image(Image.fromarray(sheet), path)


def _tile(sample: Sample, tile_wh: tuple[int, int]) -> np.ndarray:
    """A sample with its name and the number of its masks below, and a gap above and to the left."""
    width, height = tile_wh
    tile = np.full((height + _CAPTION, width, 3), _PAPER, np.uint8)
    try:
        labelled = sample.read(sample.truth_frames[:1])
    except (ValueError, OSError):
        tile[:height] = 225
        _write(tile, "cannot be used", (8, height // 2), _BAD)
        _write(tile, _short(sample.name, width), (2, height + 14), _BAD)
    else:
        small = _small(labelled, tile_wh)
        y, x = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
        tile[y : y + small.shape[0], x : x + small.shape[1]] = small
        _write(tile, _short(sample.name, width - 30), (2, height + 14), _INK)
        count = len(labelled.picture_masks)
        _write(tile, str(count), (width - 26, height + 14), _INK if count else _BAD)
    return np.pad(tile, ((_GAP, 0), (_GAP, 0), (0, 0)), constant_values=_PAPER)


def _small(labelled: LabelledFrames, tile_wh: tuple[int, int]) -> np.ndarray:
    """The picture within a tile, its masks drawn after shrinking, so that outlines stay visible."""
    height, width = labelled.image.shape[:2]
    scale = min(tile_wh[0] / width, tile_wh[1] / height)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(labelled.image, size_wh, interpolation=cv2.INTER_AREA)
    found = labelled.picture_masks
    masks = [cv2.resize(m.astype(np.uint8) * 255, size_wh, interpolation=cv2.INTER_AREA) > 64 for m in found]
    return draw_masks(small, masks, range(len(masks)))


def _short(name: str, width: int) -> str:
    """The end of a name, as much as fits; letters that the font lacks become question marks."""
    letters = max(4, width // 7)
    plain = name.encode("ascii", "replace").decode()
    return plain if len(plain) <= letters else "..." + plain[3 - letters :]


def _write(tile: np.ndarray, text: str, xy: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(tile, text, xy, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)
