"""What is packed, what it needs, and on what it runs: `python -m pytest tests/trust -m build`."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import vermin

import sam2kit
from tests.figures import FIGURES

pytestmark = pytest.mark.build
ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "sam2kit"
SOURCES = [*sorted(PACKAGE.rglob("*.py")), ROOT / "app.py"]
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), "3.13"
OLDEST = os.environ.get("SAM2KIT_OLDEST", "")
SMOKE = [  # that it can be imported, that it computes the same, that the app and its clips work
    "tests/test_package.py::test_importing_is_light",
    "tests/model/test_image_golden.py::test_image_path[tiny-2.1]",
    "tests/app/test_space.py",
    "tests/app/test_api.py",
]
NOT_FOR_SMOKE = ("ruff", "mypy", "vermin", "jupyterlab", "ipykernel", "nb", "playwright", "scikit-image", "build", "tensorboard")  # fmt: skip
REQUIREMENTS = ("requirements.txt", "tests/requirements.txt", "sam2kit/training/requirements.txt")
# what is imported under another name than it is installed by, or comes with what is required
KNOWN = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "huggingface_hub": "huggingface-hub", "yaml": "huggingface-hub",
    "pandas": "gradio", "typer": "gradio", "click": "gradio", "traitlets": "ipywidgets", "tensorboard": "torch",
}  # fmt: skip
OPTIONAL = {
    "pillow_heif", "pycocotools", "spaces", "transformers", "tensorboard", "IPython", "scipy", "google", "mcp", "ipykernel"
}  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], zipfile.ZipFile]:
    """Names in the source archive, and the wheel that is built from that archive alone."""
    out, copy = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("checkout")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):  # a copy: building leaves files behind
        if not name.startswith(("tests/golden", "assets/", "notebooks/")) and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "build", "-o", str(out), str(copy)], check=True, capture_output=True)
    (archive,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}, zipfile.ZipFile(wheel)


def test_the_source_archive_and_the_wheel(packed: tuple[set[str], zipfile.ZipFile]) -> None:
    names, wheel = packed
    files = {p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix not in (".pyc", ".pyi")}  # Gradio writes .pyi
    wanted = {str(path.relative_to(ROOT)) for path in files}
    assert wanted | {"pyproject.toml", "README.md", "LICENSE", *REQUIREMENTS} <= names, (
        "else it could not be built again"
    )
    data = {name for name in wanted if name.endswith((".py", ".js", ".css", ".safetensors"))}
    assert data <= set(wheel.namelist())
    assert [name for name in wheel.namelist() if not name.startswith(("sam2kit/", "sam2kit-"))] == []
    assert sum(info.file_size for info in wheel.infolist()) < 12 * 2**20
    FIGURES.append(
        f"build: {len(names)} files in the source archive, {len(wheel.namelist())} in the wheel built from it"
    )


def test_version_and_requirements_of_the_wheel(packed: tuple[set[str], zipfile.ZipFile]) -> None:
    _, wheel = packed
    about = wheel.read(next(n for n in wheel.namelist() if n.endswith("METADATA"))).decode()
    assert f"\nVersion: {sam2kit.__version__}\n" in about
    assert f"\n## {sam2kit.__version__}" in (ROOT / "CHANGELOG.md").read_text(), "the version has an entry of its own"
    assert re.search(r"^License-Expression: Apache-2.0$", about, re.MULTILINE)
    assert f"Requires-Python: >={OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]}\n" in about
    assert re.findall(r"Python :: (3\.\d+)$", about, re.MULTILINE)[-1] == NEWEST_PYTHON
    required = [line.split(">")[0] for line in (ROOT / "requirements.txt").read_text().split()]
    assert all(f"Requires-Dist: {name}" in about for name in required)
    assert all(f"Provides-Extra: {extra}" in about for extra in ("train", "dev"))


def test_the_oldest_python_will_do() -> None:
    """Its grammar; and what vermin finds in a file of the standard library tells the first Python that has it."""
    needed = {}
    for file in SOURCES:
        text = file.read_text()
        ast.parse(text, feature_version=OLDEST_PYTHON)  # vermin says nothing of what it cannot read
        needed[str(file)] = vermin.detect(text)[1] or (3, 0)
    assert {file: version for file, version in needed.items() if version > OLDEST_PYTHON} == {}


def test_types(tmp_path: Path) -> None:
    """mypy, as strictly as pyproject.toml says, with the newest Python's standard library, which has lost some of it."""
    command = [sys.executable, "-m", "mypy", "--python-version", NEWEST_PYTHON, "--cache-dir", str(tmp_path)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    FIGURES.append(f"build: types as of Python {NEWEST_PYTHON}: {checked.stdout.strip()}")


@pytest.mark.quick
def test_every_requirement_says_the_oldest_that_will_do() -> None:
    for name in REQUIREMENTS:
        for line in (ROOT / name).read_text().split("\n"):
            assert not line or re.match(r"^[A-Za-z0-9_.-]+(\[[a-z]+\])?>=[0-9.]+", line), f"{name}: {line}"


@pytest.mark.quick
def test_everything_that_is_imported_is_required() -> None:
    """A package that is only there because another brought it would be gone one day."""
    required = {re.split(r"[>\[]", line)[0].lower() for line in (ROOT / "requirements.txt").read_text().split()}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in {n.split(".")[0] for n in names} - sys.stdlib_module_names - {"sam2kit", "tests"} - OPTIONAL:
                assert KNOWN.get(name, name).lower() in required, f"{file.name} imports {name}"


@pytest.mark.skipif(not OLDEST, reason="takes minutes: SAM2KIT_OLDEST=1, or =torch==2.13.0 to choose one")
def test_the_oldest_packages_will_do(tmp_path: Path) -> None:
    """Everything at its stated minimum, in an environment of its own; all other tests have the newest there is."""
    stated = [line for name in REQUIREMENTS for line in (ROOT / name).read_text().split()]
    stated = [line for line in stated if not line.startswith(NOT_FOR_SMOKE)]
    pins = {re.split(r"[>\[]", line)[0]: re.sub(r">=([0-9.]+).*", r"==\1.*", line) for line in stated}
    pins |= {pin.partition("==")[0]: pin for pin in OLDEST.split() if "==" in pin}
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True)
    python = str(tmp_path / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--only-binary", ":all:", *pins.values()], check=True)
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "", *SMOKE]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed, ran.stdout
    FIGURES.append(f"build: {passed[1]} tests passed with the oldest packages: {', '.join(sorted(pins.values()))}")
