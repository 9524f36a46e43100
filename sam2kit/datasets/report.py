"""What a check of a dataset says: kinds of problems, how bad each is, and the report as text or as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

TINY_AREA = 16  # pixels; less than SAM 2 can see once the picture is squashed to its square
FULL_SHARE = 0.95  # of the picture
CLIP_FRAMES = 8  # what a training clip takes
_SHOWN = 4  # sentences of each kind

Severity = Literal["spoils", "warning"]

KINDS: dict[str, tuple[Severity, str]] = {
    "nothing": ("spoils", "nothing to learn from"),
    "leakage": ("spoils", "the same picture in two splits"),
    "unreadable": ("spoils", "files that cannot be read"),
    "missing": ("spoils", "files that are not there"),
    "size": ("spoils", "masks in another size than their picture"),
    "colours": ("spoils", "mask files that are no masks"),
    "outside": ("spoils", "masks outside their picture"),
    "broken_mask": ("spoils", "masks that cannot be read"),
    "many_objects": ("spoils", "colour masks read as very many objects"),
    "all_full": ("spoils", "nearly every mask covers its whole picture"),
    "mostly_empty": ("spoils", "most masks are empty"),
    "few": ("spoils", "too few samples to hold some out"),
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
        """Whether it would spoil training."""
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
    def spoiled(self) -> bool:
        """Whether something would spoil training."""
        return any(problem.severity == "spoils" for problem in self.problems)

    def text(self) -> str:
        """For people, in lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.described
        counts = self.counts
        yield f"read        {counts['pictures']} pictures, {counts['clips']} clips, {counts['masks']} masks"
        if self.picture_sizes:
            shown = ", ".join(f"{n} x {size}" for size, n in self.picture_sizes[:4])
            more = f", and {len(self.picture_sizes) - 4} other sizes" if len(self.picture_sizes) > 4 else ""
            yield f"sizes       {shown}{more}"
        if counts["masks"]:
            mean, most = self.objects_per_picture
            yield f"objects     {mean:.1f} per picture, at most {most}"
            low, middle, high = (f"{share:.2%}" for share in self.mask_areas)
            yield f"mask areas  {low} to {high} of the picture, half of them below {middle}"
        for problem in self.problems:
            head = "SPOILS TRAINING" if problem.severity == "spoils" else "warning"
            yield f"\n{head}: {problem.title} ({len(problem.sentences)})"
            yield from (f"  {sentence}" for sentence in problem.sentences[:_SHOWN])
            if len(problem.sentences) > _SHOWN:
                yield f"  ... and {len(problem.sentences) - _SHOWN} more"
        yield "\n" + ("Something would spoil training; see above." if self.spoiled else self._ready())

    def _ready(self) -> str:
        if any(problem.kind == "parts" for problem in self.problems):
            return (
                "Ready for training. If each part of a mask is an object of its own, give --separate-parts there, too."
            )
        return "Ready for training."

    def as_dict(self) -> dict[str, Any]:
        """For programs, with all sentences."""
        return {
            "described": self.described,
            "spoiled": self.spoiled,
            "counts": self.counts,
            "picture_sizes": dict(self.picture_sizes),
            "objects_per_picture": {"mean": self.objects_per_picture[0], "most": self.objects_per_picture[1]},
            "mask_areas": dict(zip(("smallest", "median", "largest"), self.mask_areas, strict=True)),
            "problems": [
                {"kind": p.kind, "severity": p.severity, "title": p.title, "sentences": list(p.sentences)}
                for p in self.problems
            ],
        }
