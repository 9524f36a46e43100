"""Every command that README, notebooks, cards and docstrings show is understood; the quick ones are run."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
import typer
from PIL import Image

import app
from sam2kit.cli import commands, main
from sam2kit.finetuned import add_detection_head
from sam2kit.model.sam2 import SAM2
from sam2kit.nano import recipe as nano_recipe
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import load_model
from tests.evaluation.samples_in_memory import write_labels
from tests.finetuned_maker import finetuned_nano

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "assets").rglob("*.md"), *(ROOT / "sam2kit").rglob("*.md")]


def _parse(arguments: list[str]) -> None:
    """Read the arguments of the sam2kit command, and do nothing; ends like argparse."""
    command = typer.main.get_command(commands())
    rest = list(arguments)
    try:
        while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
            command = command.commands[rest.pop(0)]
        command.make_context("sam2kit", rest)
    except Exception as error:  # typer has no name of its own, in all its versions, for what it refuses
        raise SystemExit(getattr(error, "format_message", error.__str__)()) from error


_PROGRAMS = {  # what may stand before the arguments -> what reads them
    r"(?:(?:torchrun|accelerate launch)[^`]*? -m )?sam2kit": _parse,
    r"(?:torchrun[^`]*? -m |python -m )sam2kit\.nano\.recipe": nano_recipe._parser().parse_args,
    r"python app\.py": app._parser().parse_args,
}
_WANTED = {  # what "…" stands for
    "train": "DATA --out OUT",
    "image": "PHOTO --out OUT",
    "video": "CLIP --out OUT",
    "evaluate": "DATA",
    "data": "DATA --out OUT",
}
_SLOW = ("train", "push", "auto", "doctor")


def texts() -> dict[str, str]:
    """Name of a file -> what is written there for readers."""
    found = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
        found[str(path.relative_to(ROOT))] = "\n\n".join(cells)
    for path in sorted([ROOT / "app.py", *(ROOT / "sam2kit").rglob("*.py")]):
        found[str(path.relative_to(ROOT))] = path.read_text()
    return found


def shown_in(text: str) -> list[str]:
    """Commands in a text: lines of shell blocks and of indented examples, and spans of code."""
    joined = text.replace("\\\n", " ")
    lines = [line.strip() for block in re.findall(r"```sh\n(.*?)```", joined, re.DOTALL) for line in block.splitlines()]
    lines += re.findall(r"^ {4}((?:sam2kit|python app\.py) [a-z].*)$", joined, re.MULTILINE)
    lines += re.findall(r"(?<!`)`([^`\n{]+)`(?!`)", joined)
    parts = [part.strip() for line in lines for part in line.split("#")[0].split("&&")]
    return [re.split(r"\s{2,}\(", part)[0] for part in parts]


def understood(command: str) -> tuple[str, list[str]] | None:
    """The parser's pattern and the arguments of a command of ours; None for others."""
    for program in _PROGRAMS:
        match = re.fullmatch(rf"{program}(?:\s+(.*))?", command)
        if match and (match[1] or program.startswith("python app")):
            return program, shlex.split(match[1] or "")
    return None


COMMANDS = {
    (place, command): ours
    for place, text in texts().items()
    for command in shown_in(text)
    if (ours := understood(command))
}


def check(program: str, arguments: list[str]) -> None:
    """Raises SystemExit or AssertionError if they are not understood; abbreviated ones are completed."""
    parse = _PROGRAMS[program]
    names = [word for word in arguments if re.fullmatch(r"[a-z]+", word)]
    rest = arguments[len(names) :]
    if all(word.startswith("--") for word in rest):  # only mentioned: a command, perhaps with options
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            parse([*names, "--help"])
        assert said.getvalue(), f"there is no {names}"
        assert all(re.search(rf"{word}\b", said.getvalue()) for word in rest), f"{names} has not all of {rest}"
        return
    if "…" in arguments:
        place = arguments.index("…")
        arguments = [*arguments[:place], *shlex.split(_WANTED[arguments[0]]), *arguments[place + 1 :]]
    parse(arguments)


def test_they_are_understood(capsys: pytest.CaptureFixture) -> None:
    assert len(COMMANDS) > 60
    wrong = {}
    for (place, command), (program, arguments) in COMMANDS.items():
        try:
            check(program, list(arguments))
        except (SystemExit, AssertionError, LookupError) as error:
            wrong[f"{place}: {command}"] = capsys.readouterr().err.strip() or str(error)
    assert not wrong


@pytest.fixture(scope="module")
def filled(nano: SAM2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands name."""
    folder = tmp_path_factory.mktemp("filled")
    photo, clip = folder / "photo.jpg", folder / "clip.mp4"
    shutil.copy(ROOT / "assets" / "photos" / "coffee.jpg", photo)
    shutil.copy(photo, folder / "other.jpg")
    shutil.copy(ROOT / "assets" / "clips" / "cup_grows.mp4", clip)
    videos = VideoPredictor(nano)
    picture = videos.open(photo)
    videos.add_points(picture, 0, picture.add_object("cup"), [[290, 60]])
    videos.save(picture, folder / "photo.session.safetensors")
    session = videos.open(clip)
    videos.add_points(session, 0, "cup", [[150, 215]])
    for _ in videos.propagate(session, frames=1):
        pass
    videos.save(session, folder / "clip.session.safetensors", with_path=False)
    for model in ("mine", "galaxies"):
        finetuned_nano(folder / model)
        finder = load_model(folder / model, "cpu")
        finder.set_classes(("cup",))
        add_detection_head(folder / model, finder)
    for number in range(5):
        mask = np.zeros((48, 64), np.uint8)
        mask[10:30, 10 + number : 30 + number] = 1
        image = np.random.default_rng(number).integers(0, 60, (48, 64, 3), np.uint8) + 150 * mask[..., None]
        for name in ("my_pictures/images", "new_pictures", "my_clips/JPEGImages/one"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name / f"{number:05d}.jpg")
        for name in ("my_pictures/masks", "my_clips/Annotations/one", "predicted/one", "DAVIS/Annotations/one"):
            write_labels(folder / name / f"{number:05d}.png", mask)
    return folder


QUICK = [
    command
    for place, command in COMMANDS
    if place.endswith((".md", ".ipynb"))
    and re.match(r"sam2kit [a-z]+ [a-z][^…]* --", command)  # with something to work on
    and not command.removeprefix("sam2kit ").startswith(_SLOW)
]


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(set(QUICK)))
def test_the_quick_ones_do_what_they_say(
    command: str, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """With the bundled model for the published ones."""
    work = Path(shutil.copytree(filled, tmp_path / "work"))
    monkeypatch.chdir(work)
    words = shlex.split(command)[1:]
    if words[0] in ("image", "alike", "video") and "--model" not in words:
        words += ["--model", "nano"]
    assert main(words) == 0, capsys.readouterr().err
