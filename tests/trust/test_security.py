"""No code of a stranger's runs, no foreign file is served, nothing goes over the network unasked.

`python -m pytest tests/trust -m security`
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.app.conftest import ROOT
from tests.figures import FIGURES
from tests.trust import breaking
from tests.trust.attacked_app import AttackedApp
from tests.trust.corpus_pictures import WHOLE as PICTURES

pytestmark = pytest.mark.security
SOURCES = sorted((ROOT / "sam2kit").rglob("*.py"))
# what may run code of a file's; the one exception packs calls between two processes of the app's own
_FORBIDDEN = {"eval", "exec", "compile", "__import__"}
_UNPICKLERS = r"\b(pickle\.loads?|cPickle|dill|joblib|marshal|shelve|yaml\.load\b|yaml\.unsafe|np\.load|allow_pickle)"


@pytest.mark.quick
def test_nothing_in_the_package_runs_text_as_code() -> None:
    calls = [
        (file.name, ast.unparse(node.func), ast.unparse(node))
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
    ]
    assert [call for call in calls if call[1] in _FORBIDDEN] == []
    for pattern in (_UNPICKLERS, r"shell=True|os\.system|os\.popen"):
        assert [file.name for file in SOURCES if re.search(pattern, file.read_text())] == []
    loads = [text for _, name, text in calls if name == "torch.load"]
    assert loads and all("weights_only=True" in text for text in loads)
    opened = {file for file, name, _ in calls if name == "Image.open"}
    assert opened == {"pictures.py"}, "pictures are opened in one place, which takes no programs"
    FIGURES.append(f"security: {len(SOURCES)} files: none runs text as code, {len(loads)} torch.load take weights only")


OPEN_ALL = """
import sys
from pathlib import Path
ran = []
sys.addaudithook(lambda event, _: ran.append(event) if event in ("os.system", "subprocess.Popen", "os.exec") else None)
from sam2kit import Session, load_model, open_dataset, read_picture

for path in Path(sys.argv[1]).iterdir():
    for reader in (lambda path: load_model(path, "cpu"), Session.load, read_picture, open_dataset):
        try:
            reader(path)
        except (ValueError, OSError):
            pass
print(ran)
"""


def test_pickles_run_nothing(tmp_path: Path) -> None:
    """Through every reader of weights, work or data; in a process of its own, whose children are noticed."""
    canary, folder = tmp_path / "canary", tmp_path / "files"
    folder.mkdir()
    for suffix in ("pt", "pth", "bin", "ckpt", "safetensors"):
        (folder / f"pickle.{suffix}").write_bytes(breaking.pickle_that_runs(canary))
        (folder / f"checkpoint.{suffix}").write_bytes(breaking.checkpoint_that_runs(canary))
    command = [sys.executable, "-c", OPEN_ALL, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip().endswith("[]")
    assert not canary.exists()


ROUTES = [f"/{name}" for name in ("file=", "static/", "assets/")] + [
    f"/gradio_api/{name}" for name in ("file=", "file/", "custom_component/", "reverse_proxy=")
]


def test_only_files_for_visitors_are_served(attacked: AttackedApp, tmp_path: Path) -> None:
    secret = tmp_path / "private.txt"
    secret.write_text("nobody's business")
    upload = Path(attacked.files["PHOTO"])
    ways = [
        "/etc/passwd", "/etc/hostname", str(secret), str(ROOT / "app.py"), str(ROOT / "sam2kit" / "nano" / "nano.safetensors"),
        f"{upload.parent}/../../../../../../etc/passwd", f"{upload.parent}/..%2f..%2f..%2fetc/passwd", f"{upload}/../../../private.txt",
        "/proc/self/environ", "/dev/zero", f"file://{secret}", "..", ".", str(upload.parent), str(upload.parent.parent), "~/.bashrc",
        "http://127.0.0.1:9/a", "C:\\Windows\\win.ini", "%00", "/etc/passwd%00.png",
    ]  # fmt: skip
    for way in ways:
        for route in ROUTES:
            reply = attacked.web.get(f"{attacked.address}{route}{way}", follow_redirects=False)
            page = b"<!doctype html" in reply.content[:100].lower()
            assert reply.status_code >= 300 or page, f"{route}{way}: {reply.status_code}"
            assert b"nobody's business" not in reply.content and b"root:" not in reply.content
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
    asked = {"key": key, "scene": scene, "sequence": 1, "number": 1, "points": [[3, 3, 1]], "box": None}
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
    code = f"""
import numpy as np, sam2kit
from sam2kit.cli import main
from sam2kit.app.layout import build_app
from sam2kit.app.limits import Limits
from sam2kit.app.models import load_for_app
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
    _run_without_network(code, environment)


def _run_without_network(code: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", NO_NETWORK + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "reached []" in done.stdout, done.stdout[-1000:]
    return done.stdout


def test_the_offline_switch_opens_no_connection(tmp_path: Path) -> None:
    code = """
from sam2kit import load_model
from sam2kit.hub import HubError
try:
    load_model("facebook/sam2.1-hiera-tiny", "cpu")
except HubError as error:
    print(error)
print("reached", reached)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    assert "the offline switch HF_HUB_OFFLINE is on" in _run_without_network(code, environment)


def test_known_advisories() -> None:
    """pip-audit asks a service of the internet, so it only does when it is told to: SAM2KIT_AUDIT=1."""
    if find_spec("pip_audit") is None or not os.environ.get("SAM2KIT_AUDIT"):
        pytest.skip("set SAM2KIT_AUDIT=1, and pip install pip-audit, to ask for known advisories")
    command = [sys.executable, "-m", "pip_audit", "-r", str(ROOT / "requirements.txt"), "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
