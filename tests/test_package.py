"""What importing brings, who may import whom, what a wheel holds, and the README's own words."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sam2kit"
# from the bottom up: a folder, or a file of the package's own folder, imports its own floor and those below
FLOORS = (
    ("config", "files", "hardware", "processes", "media"),
    ("model",),
    (
        "predict", "weights", "checkpoints", "transformers_format", "hub", "finetuned", "model_card", "score_table",
    ),
    ("data", "evaluation"),
    ("training", "nano", "compat", "doctor"),
    ("app", "notebook", "cli"),
)  # fmt: skip
NEVER = {("media", "model"), ("training", "notebook"), ("training", "app")}  # (who, whom)
# the aim is 130 files with 24,000 lines, and 16,000 lines of tests: these numbers go up for new abilities alone
MOST = {"files": 158, "lines": 34_300, "lines of tests": 27_220, "lines of README": 250}
HEAVY = [
    "gradio",
    "supervision",
    "matplotlib",
    "moviepy",
    "IPython",
    "ipywidgets",
    "accelerate",
    "transformers",
    "anywidget",
]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("sam2kit", HEAVY),
        ("app", ["gradio", "torch"]),
        pytest.param("sam2kit.cli", ["gradio", "matplotlib", "moviepy", "transformers"], marks=pytest.mark.slow),
    ],
)
def test_importing_is_light(module: str, absent: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
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


@pytest.mark.slow
def test_pictures_and_lists_of_frames_need_few_packages() -> None:
    code = PICTURES_AND_FRAMES.format(packages=ONLY_NEEDED_FOR_SOME)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    *shapes, told = done.stdout.splitlines()
    assert shapes == ["torch.Size([40, 60])", "3"]
    assert told == "assets/clips/cup_grows.mp4 needs av to be read: pip install av; pictures do not"


def module_files() -> dict[str, Path]:
    """Dotted name -> file, of every module."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def import_graph() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports anywhere, even inside functions; not for type checkers alone."""
    files = module_files()
    return {name: set(imported(ast.parse(path.read_text()), files)) - {name} for name, path in files.items()}


def imported(node: ast.AST, files: dict[str, Path]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in files)
        elif isinstance(child, ast.ImportFrom) and child.module in files:
            names = {f"{child.module}.{alias.name}" for alias in child.names}
            yield from names & files.keys()
            yield from [child.module] if names - files.keys() else []
        else:
            yield from imported(child, files)


def folder(module: str) -> str:
    """The folder of a module, or the module itself where it lies in the package's own folder."""
    return [*module.split("."), "__init__"][1]


def test_imports_run_downward_and_in_no_circle() -> None:
    floor_of = {name: number for number, names in enumerate(FLOORS) for name in names}
    graph, folders, wrong = import_graph(), defaultdict(set), []
    for module, others in graph.items():
        for pair in {(folder(module), folder(other)) for other in others}:
            if pair[0] not in ("__init__", "__main__") and pair[0] != pair[1]:
                folders[pair[0]].add(pair[1])
                if floor_of.get(pair[1], 99) > floor_of[pair[0]] or pair in NEVER:
                    wrong.append(f"{module} imports from {pair[1]}")
    assert not wrong
    # training makes nano; and fine-tuning checks what is forgotten of nano's held-out scenes
    folders["training"].discard("nano")
    TopologicalSorter(graph).prepare()  # a CycleError names the circle
    TopologicalSorter(folders).prepare()


def test_only_the_app_imports_gradio() -> None:
    for file in PACKAGE.rglob("*.py"):
        if "app" not in file.relative_to(PACKAGE).parts:
            assert not re.search(r"^\s*(import|from) gradio", file.read_text(), re.MULTILINE), file


def test_it_stays_small() -> None:
    def lines(files: Iterable[Path]) -> int:
        return sum(len(file.read_text().splitlines()) for file in files)

    files = module_files().values()
    sizes = {
        "files": len(files),
        "lines": lines(files),
        "lines of tests": lines((ROOT / "tests").rglob("*.py")),
        "lines of README": lines([ROOT / "README.md"]),
    }
    assert {what: size for what, size in sizes.items() if size > MOST[what]} == {}


def test_no_file_name_is_used_twice() -> None:
    names = Counter(path.name for path in module_files().values())
    assert [name for name, times in names.items() if times > 1 and name not in ("__init__.py", "__main__.py")] == []


def test_top_level_is_the_agreed_one() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout
    top = {path.split("/")[0] for path in tracked.splitlines()}
    if not top:
        pytest.skip("not a git checkout")
    wanted = {"app.py", "sam2kit", "notebooks", "assets", "tests", "requirements.txt", "README.md"}
    assert wanted <= top <= wanted | {"pyproject.toml", "LICENSE", ".gitignore", ".ci", "CHANGELOG.md"}


def test_no_file_is_too_large() -> None:
    for file in [*(ROOT / "sam2kit").rglob("*"), *(ROOT / "assets").rglob("*"), *(ROOT / "tests").rglob("*")]:
        assert not file.is_file() or file.stat().st_size <= 8 * 2**20, file


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(readme_blocks("python"))))
def test_readme_python(number: int, tmp_path: Path) -> None:
    """Every Python example of the README runs, with nano for the published weights."""
    code = readme_blocks("python")[number].replace("sam2.1-hiera-tiny", "nano").replace("sam2.1-hiera-large", "nano")
    code = code.replace("facebook/nano", "nano").replace('"photo.jpg"', repr(str(ROOT / "assets/photos/coffee.jpg")))
    code = code.replace('"clip.mp4"', repr(str(ROOT / "assets/clips/cup_grows.mp4")))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})


DOCUMENTS = [ROOT / "README.md", *ROOT.glob("[a-z]*/README.md"), *ROOT.glob("sam2kit/*/README.md")]


def test_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "pip install -r requirements.txt && python app.py" in text
    assert "pip install -r requirements.txt -r tests/requirements.txt && python -m pytest -n 2" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.parent.name)
def test_what_documents_name_is_there(document: Path) -> None:
    """Links, pictures, modules that are run, and tests."""
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    run = [name.replace(".", "/") for name in re.findall(r"python -m ((?:tests|sam2kit)[\w.]*)", text)]
    run += re.findall(r"tests/[\w/.]+", text)
    assert [name for name in run if not (ROOT / name.rstrip(".")).exists() and not (ROOT / f"{name}.py").exists()] == []
