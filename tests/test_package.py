"""What importing brings, who may import whom, what a wheel holds, and the README's own words."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.proof_data import write_coins
from tests.readme_tree import block

ROOT = Path(__file__).parent.parent
# from the bottom up; a room may import its own floor and those below
FLOORS = (
    ("config", "_version", "errors", "files", "threads"),
    ("media", "model"),
    ("predict", "hub", "transformers_layout"),
    ("weights", "weight_files", "finetuned", "score_table", "exports", "model_card", "datasets"),
    ("evaluation", "plots"),
    ("bench", "compat", "doctor", "training"),
    ("teaching", "clicking"),
    ("ui", "widgets"),
    ("cli",),
)
HEAVY = (
    "gradio",
    "supervision",
    "matplotlib",
    "moviepy",
    "IPython",
    "ipywidgets",
    "accelerate",
    "transformers",
    "anywidget",
)


def test_importing_sam2kit_is_light() -> None:
    code = f"import sys, sam2kit; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


ONLY_NEEDED_FOR_SOME = ("av", "supervision", "moviepy", "gradio", "matplotlib")
PICTURES_AND_FRAMES = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.split(".")[0])

sys.meta_path.insert(0, Missing())
import numpy as np
import sam2kit

model = sam2kit.load_model("nano", "cpu")
frames = [np.full((40, 60, 3), 60 + n, np.uint8) for n in range(3)]
images = sam2kit.ImagePredictor(model)
print(images.predict(images.encode(frames[0]), sam2kit.Prompt([[20, 20]])).masks.shape[-2:])
videos = sam2kit.VideoPredictor(model)
session = videos.open(frames)
videos.add_points(session, 0, 1, [[20, 20]])
print(len(list(videos.propagate(session))))
try:
    sam2kit.open_clip("assets/clips/cup_grows.mp4")
except ValueError as error:
    print(error)
"""


def test_pictures_and_lists_of_frames_need_few_packages() -> None:
    code = PICTURES_AND_FRAMES.format(packages=ONLY_NEEDED_FOR_SOME)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    *shapes, told = done.stdout.splitlines()
    assert shapes == ["torch.Size([40, 60])", "3"]
    assert told == "assets/clips/cup_grows.mp4 needs av to be read: pip install av; pictures do not"


def test_importing_the_app_does_nothing() -> None:
    code = "import sys, app; print('gradio' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False False"


def imports_of(file: Path) -> set[str]:
    """The rooms of sam2kit that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sam2kit."):
            found.add(node.module.split(".")[1])
    return found


def test_imports_run_downward() -> None:
    floor_of = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    for file in (ROOT / "sam2kit").rglob("*.py"):
        room = file.relative_to(ROOT / "sam2kit").parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        for other in imports_of(file):
            assert floor_of[other] <= floor_of[room], f"{file.name} ({room}) imports {other}, which is above it"
            if {room, other} in ({"training", "ui"}, {"ui", "widgets"}) or (room, other) == ("media", "model"):
                pytest.fail(f"{file.name}: {room} must not know {other}")


def test_only_the_ui_imports_gradio() -> None:
    for file in (ROOT / "sam2kit").rglob("*.py"):
        if "ui" not in file.parts:
            assert not re.search(r"^\s*(import|from) gradio", file.read_text(), re.MULTILINE), file


def test_top_level_is_the_agreed_one() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split(
        "\n"
    )
    top = {path.split("/")[0] for path in tracked if path}
    if not top:
        pytest.skip("not a git checkout")
    assert {"app.py", "sam2kit", "notebooks", "assets", "tests", "requirements.txt", "README.md"} <= top
    assert top <= {
        "app.py", "sam2kit", "notebooks", "assets", "tests", "requirements.txt", "README.md", "pyproject.toml",
        "LICENSE", ".gitignore", ".ci", "CHANGELOG.md",
    }  # fmt: skip


def test_no_file_is_too_large() -> None:
    for file in [*(ROOT / "sam2kit").rglob("*"), *(ROOT / "assets").rglob("*"), *(ROOT / "tests").rglob("*")]:
        assert not file.is_file() or file.stat().st_size <= 8 * 2**20, file


def test_the_wheel_is_complete(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: building leaves files behind
    shutil.copytree(ROOT / "sam2kit", source / "sam2kit", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt", "tests/requirements.txt"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "sam2kit/bundled/nano.safetensors" in names
    assert "sam2kit/ui/image_tab.py" in names
    scripts = {str(p.relative_to(ROOT)) for end in ("js", "css") for p in (ROOT / "sam2kit").rglob(f"*.{end}")}
    assert scripts <= set(names)
    assert not [n for n in names if n.startswith(("tests", "app"))]
    metadata = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("METADATA"))).decode()
    wanted = [line.split(">")[0] for line in (ROOT / "requirements.txt").read_text().split()]
    assert all(f"Requires-Dist: {name}" in metadata for name in wanted)
    assert "Provides-Extra: train" in metadata
    assert "Provides-Extra: dev" in metadata


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(readme_blocks("python"))))
def test_readme_python(number: int, tmp_path: Path) -> None:
    """Every Python example of the README runs, with nano for the published weights."""
    code = readme_blocks("python")[number].replace("sam2.1-hiera-tiny", "nano").replace("sam2.1-hiera-large", "nano")
    code = code.replace("facebook/nano", "nano").replace('"photo.jpg"', repr(str(ROOT / "assets/photos/coffee.jpg")))
    code = code.replace('"clip.mp4"', repr(str(ROOT / "assets/clips/cup_grows.mp4")))
    if '"coins"' in code:
        write_coins(tmp_path / "coins")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=_environment())


def test_readme_lists_every_file() -> None:
    assert block() in (ROOT / "README.md").read_text(), "write the list anew: python -m tests.readme_tree"


def test_readme_pictures_and_links_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+?)\)", (ROOT / "README.md").read_text())
    local = [link for link in links if "://" not in link]
    assert len(local) > 8
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "pip install -r requirements.txt && python app.py" in text
    assert "pip install -r requirements.txt -r tests/requirements.txt && python -m pytest -n 2" in text


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}
