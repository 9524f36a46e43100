"""No code of a stranger's runs, no foreign file is served, nothing goes over the network unasked.

`python -m pytest tests/trust -m security`
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.figures import FIGURES
from tests.trust import breaking
from tests.trust.attacked_app import AttackedApp
from tests.trust.corpus_pictures import WHOLE as PICTURES
from tests.ui.conftest import ROOT

pytestmark = pytest.mark.security
SOURCES = sorted((ROOT / "sam2kit").rglob("*.py"))
# what may run code of a file's; the one exception packs calls between two processes of the app's own
_FORBIDDEN = {"eval", "exec", "compile", "__import__"}
_UNPICKLERS = re.compile(
    r"\b(pickle\.loads?|cPickle|dill|joblib|marshal|shelve|yaml\.load\b|yaml\.unsafe|np\.load|allow_pickle)"
)


def calls_in(file: Path) -> Iterator[tuple[int, str]]:
    """Names that are called, without what they belong to."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id


def _is_load_of_torch(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"


def test_nothing_in_the_package_runs_text_as_code() -> None:
    found = [f"{file.name}:{line}: {name}" for file in SOURCES for line, name in calls_in(file) if name in _FORBIDDEN]
    assert found == []
    unsafe = [file.name for file in SOURCES if _UNPICKLERS.search(file.read_text())]
    assert unsafe == []
    loads = [call for file in SOURCES for call in ast.walk(ast.parse(file.read_text())) if _is_load_of_torch(call)]
    assert loads
    assert all("weights_only=True" in ast.unparse(call) for call in loads)
    opened = [file.name for file in SOURCES if "Image.open(" in file.read_text()]
    assert opened == ["pictures.py"], "pictures are opened in one place, which takes no programs"
    shells = [file.name for file in SOURCES if re.search(r"shell=True|os\.system|os\.popen", file.read_text())]
    assert shells == []
    FIGURES.append(f"security: {len(SOURCES)} files: none runs text as code, {len(loads)} torch.load take weights only")


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin", "a.ckpt", "a.safetensors"])
def test_pickles_run_nothing(name: str, tmp_path: Path) -> None:
    """Through every door that takes a file of weights, work or data; in a process of its own, whose children are told."""
    canary = tmp_path / "canary"
    for content in (breaking.pickle_that_runs(canary), breaking.checkpoint_that_runs(canary)):
        (tmp_path / name).write_bytes(content)
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "ran = []\n"
            "sys.addaudithook(lambda event, _: ran.append(event) if event in ('os.system', 'subprocess.Popen', 'os.exec') else None)\n"
            "from sam2kit import PictureSession, load_model, read_picture\n"
            "from sam2kit.datasets.opening import open_dataset\n"
            f"path = Path({str(tmp_path / name)!r})\n"
            "for door in (lambda: load_model(path, 'cpu'), lambda: PictureSession.load(path), lambda: read_picture(path), lambda: open_dataset(path)):\n"
            "    try:\n"
            "        door()\n"
            "    except (ValueError, OSError):\n"
            "        pass\n"
            "print(ran)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.strip().endswith("[]")
        assert not canary.exists()


def test_only_files_for_visitors_are_served(attacked: AttackedApp, tmp_path: Path) -> None:
    secret = tmp_path / "private.txt"
    secret.write_text("nobody's business")
    upload = Path(attacked.files["PHOTO"])
    ways = [
        "/etc/passwd", "/etc/hostname", str(secret), str(ROOT / "app.py"), str(ROOT / "sam2kit" / "bundled" / "nano.safetensors"),
        f"{upload.parent}/../../../../../../etc/passwd", f"{upload.parent}/..%2f..%2f..%2fetc/passwd", f"{upload}/../../../private.txt",
        "/proc/self/environ", "/dev/zero", f"file://{secret}", "..", ".", str(upload.parent), str(upload.parent.parent), "~/.bashrc",
        "http://127.0.0.1:9/a", "C:\\Windows\\win.ini", "%00", "/etc/passwd%00.png",
    ]  # fmt: skip
    for way in ways:
        for route in (
            "/gradio_api/file=",
            "/file=",
            "/gradio_api/file/",
            "/static/",
            "/assets/",
            "/gradio_api/custom_component/",
            "/gradio_api/reverse_proxy=",
        ):
            reply = attacked.web.get(f"{attacked.address}{route}{way}", follow_redirects=False)
            told = reply.content
            assert reply.status_code >= 300 or b"<!doctype html" in told[:100].lower(), (
                f"{route}{way}: {reply.status_code}"
            )
            assert b"nobody's business" not in told
            assert b"root:" not in told
    assert attacked.web.get(f"{attacked.address}/gradio_api/file={upload}").content == PICTURES["png"], (
        "a visitor's own upload is"
    )
    FIGURES.append(f"security: {len(ways)} ways to files of the machine on 7 routes, none of them open")


def test_an_upload_cannot_leave_its_folder(attacked: AttackedApp) -> None:
    for name in ("../../evil.png", "..\\..\\evil.png", "/tmp/evil.png", "a/../../evil.png", "evil\0.png", "." * 200):
        reply = attacked.web.post(f"{attacked.address}/gradio_api/upload", files={"files": (name, PICTURES["png"])})
        if reply.status_code == 200:
            path = Path(reply.json()[0]).resolve()
            assert path.is_relative_to(Path(attacked.files["PHOTO"]).parents[1].resolve()), f"{name} became {path}"
    assert not Path("/tmp/evil.png").exists()


def test_work_is_given_back_to_its_owner_alone(attacked: AttackedApp) -> None:
    opened = attacked.event("the owner", "image_open", [None, attacked.file("PHOTO")])
    key, scene = (re.search(rf'"{name}": ?"([^"]+)"', opened)[1] for name in ("key", "scene"))
    token = re.search(r'"token": ?"([^"]+)"', attacked.event("the owner", "keep", [None]))[1]
    assert len(token) >= 32
    assert token != key

    guesses: list[object] = [
        [key], [token[:-1]], [token + "x"], [token.swapcase()], ["the owner"], [""], [None], [{"token": token}], [[token]],
        {"0": token}, token, None, 7, [key] * 1000, ["../" + token], ["%00" + token],
    ]  # fmt: skip
    for number, guess in enumerate(guesses):
        for sent in ({"tokens": guess}, guess):
            told = attacked.event(f"stranger {number}", "claim", [None], sent)
            assert '"key"' not in told
            assert '"picture"' not in told, f"{guess!r:.60} opened somebody's photo"
    asked = {"key": key, "scene": scene, "sequence": 1, "number": 0, "points": [[3, 3, 1]], "box": None}
    assert "object" in attacked.touch("image-view", asked).json(), "the owner's page still works"

    back = attacked.event("the owner, again", "claim", [None], {"tokens": [token]})
    assert '"picture"' in back
    assert re.search(r'"key": ?"([^"]+)"', back)[1] != key
    told = attacked.touch("image-view", {**asked, "sequence": 2}).json()
    assert "another tab" in told["says"], "the key of a page that is gone opens nothing"
    FIGURES.append(f"security: {2 * len(guesses)} tokens that were guessed or damaged brought back nobody's work")


NO_NETWORK = """
import socket, sys
reached = []
def refuse(self, address, *rest):
    reached.append(address)
    raise OSError("the network is not to be used")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *a, **k: refuse(None, a)
socket.create_connection = lambda *a, **k: refuse(None, a)
"""


def test_everything_but_the_hub_works_without_a_network(tmp_path: Path) -> None:
    """A photo, a clip, a session, a data set and the page, with every door to the network shut."""
    code = f"""{NO_NETWORK}
import numpy as np, sam2kit
from sam2kit.cli import main
from sam2kit.ui.layout import build_app
from sam2kit.ui.limits import Limits
from sam2kit.ui.start import load_for_app
folder = {str(tmp_path)!r}
assets = {str(ROOT / "assets")!r}
model = sam2kit.load_model("nano", "cpu")
predictor = sam2kit.ImagePredictor(model)
predictor.predict(predictor.encode(np.zeros((40, 60, 3), np.uint8)), sam2kit.Prompt([[9, 9]]))
videos = sam2kit.VideoPredictor(model)
session = videos.open(np.zeros((3, 40, 60, 3), np.uint8))
videos.add_points(session, 0, 1, [[9, 9]])
list(videos.propagate(session))
videos.save(session, folder + "/a.sam2kit")
assert main(["image", assets + "/photos/coffee.jpg", "--point", "290,60", "--model", "nano", "--out", folder + "/masks"]) == 0
build_app(load_for_app("nano", "cpu"), [], [], limits=Limits())
print("reached", reached)
"""
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "True", "HF_HUB_DISABLE_TELEMETRY": "0"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "reached []" in done.stdout, done.stdout[-1000:]


def test_the_offline_switch_opens_no_connection(tmp_path: Path) -> None:
    code = f"""{NO_NETWORK}
from sam2kit import load_model
from sam2kit.hub import HubError
try:
    load_model("facebook/sam2.1-hiera-tiny", "cpu")
except HubError as error:
    print(error)
print("reached", reached)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the offline switch HF_HUB_OFFLINE is on" in done.stdout
    assert "reached []" in done.stdout


def test_known_advisories() -> None:
    """pip-audit asks a service of the internet, so it only does when it is told to: SAM2KIT_AUDIT=1."""
    if find_spec("pip_audit") is None or not os.environ.get("SAM2KIT_AUDIT"):
        pytest.skip("set SAM2KIT_AUDIT=1, and pip install pip-audit, to ask for known advisories")
    command = [sys.executable, "-m", "pip_audit", "-r", str(ROOT / "requirements.txt"), "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
