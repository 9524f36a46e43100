"""The field's words, and no private ones: names, comments, texts of page and documents say what others say."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
# pattern over texts in which "make_room" and "ClipLessons" have become "make room" and "clip lessons" -> what to say
WORDS = {
    r"schools?": "training step",
    r"lessons?": "training clip, sample",
    r"exams?": "evaluation",
    r"witness(es)?": "callback",
    r"habits?": "prompt sampling, options",
    r"taught|teach(es|ing|er)?": "fine-tune, fine-tuned",
    r"paces?": "speed options",
    r"crumbs?": "specks",
    r"spoil(ed|s|t)?": "corrupted",
    r"deeds?": "actions",
    r"recollections?": "selected memories",
    r"look(ing|s|ed)? back": "memory attention weights",
    r"health(?! check)": "tracking quality",
    r"doubt(s|ful)?": "uncertain",
    r"general knowledge": "forgetting check",
    r"make room|(makes|making|made) room": "shrink, micro-batch plan",
    r"(some|any|every)(body|one) who|whoever": "a plain noun: user, caller, process",
    r"(corrections?|changes) (that )?stick(s)?|sticky corrections?": "become conditioning frames",
    r"can it be trusted": "robustness",
    r"sure \d+ ?%": "predicted IoU 0.47",
    r"shelf|shelves": "undo stack, range of frames",
}  # fmt: skip
# names of classes, functions, parameters and modules that were ours alone
NAMES = {
    "Budget", "Exam", "Habits", "Health", "Lesson", "Looks", "Moment", "Network", "Networks", "ObjectTrack", "Pace",
    "PictureSession", "Recollection", "Recorded", "Room", "Rules", "School", "Turns", "VideoSession", "Witness", "Work",
    "budget", "looks", "moment", "networks", "pace", "recorded", "room", "rules", "says", "told", "turns",
}  # fmt: skip
_PERHAPS = re.compile("|".join(WORDS).replace(" ", ".?"), re.IGNORECASE)  # for most lines, a quick no
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_|(?<=[A-Z])(?=[A-Z][a-z])")


def documents() -> dict[str, str]:
    """Name of a file -> its text; of notebooks the cells, without pictures."""
    files = [ROOT / "app.py", *ROOT.glob("*.md"), *ROOT.glob("[a-z]*/README.md")]
    for folder in ("sam2kit", "tests"):
        files += [p for end in ("py", "js", "css", "md") for p in (ROOT / folder).rglob(f"*.{end}")]
    found = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(set(files)) if path != Path(__file__)}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        found[str(path.relative_to(ROOT))] = "\n".join("".join(cell["source"]) for cell in cells)
    return found


def private_words(text: str) -> Iterator[str]:
    """Each line with a word of the list, and what to say."""
    for number, line in enumerate(text.splitlines(), start=1):
        if _PERHAPS.search(line):
            plain = _BOUNDARY.sub(" ", line).lower()
            for word, instead in WORDS.items():
                if match := re.search(rf"\b({word})\b", plain):
                    yield f"{number}: {match[0]!r}, say: {instead}"


def private_names(source: str) -> Iterator[str]:
    """Each definition with a name of the list."""
    for node in ast.walk(ast.parse(source)):
        name = getattr(node, "name", None) or getattr(node, "arg", None)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        if isinstance(name, str) and name in NAMES:
            yield f"{getattr(node, 'lineno', 0)}: the name {name!r}"


def test_no_private_words() -> None:
    found = [f"{place}:{what}" for place, text in documents().items() for what in private_words(text)]
    for place, text in documents().items():
        if place.startswith("sam2kit") and place.endswith(".py"):
            found += [f"{place}:{what}" for what in private_names(text)]
            if Path(place).stem in NAMES:
                found.append(f"{place}: the name of the file")
    assert not found, "\n".join(["", *found])
