"""What is written can be read by whoever may read other new files: the umask decides, no library."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam2kit.exports import save_official, save_transformers
from sam2kit.files import written_whole
from sam2kit.finetuned import FineTuning, save_finetuned
from sam2kit.media.bundles import FileBundle
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import save_model


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def allowed(request: pytest.FixtureRequest) -> Iterator[int]:
    """The permissions that a new file has here."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_weight_files(allowed: int, toy: SAM2, tmp_path: Path) -> None:
    save_model(toy, tmp_path / "toy.safetensors")
    save_model(toy, tmp_path / "toy.safetensors")  # in place of an older one
    save_official(toy, tmp_path / "toy.pt")
    save_transformers(toy, tmp_path / "theirs")
    changed = {name: value + 1 for name, value in toy.state_dict().items()}
    save_finetuned(tmp_path / "tuned", changed, toy.state_dict(), FineTuning("toy.safetensors"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".pt", ".json"}
    assert {path.name: mode_of(path) for path in files} == {path.name: allowed for path in files}


def test_a_library_that_replaces_the_file(allowed: int, tmp_path: Path) -> None:
    with written_whole(tmp_path / "new") as unfinished:
        assert not unfinished.exists()
        os.close(os.open(unfinished, os.O_CREAT, 0o600))
    assert mode_of(tmp_path / "new") == allowed


def test_bundles(allowed: int, tmp_path: Path) -> None:
    for name in ("masks", "masks.zip"):
        with FileBundle(tmp_path / name) as bundle:
            bundle.write("a/b.txt", "text")
    assert mode_of(tmp_path / "masks.zip") == mode_of(tmp_path / "masks" / "a" / "b.txt") == allowed
    assert mode_of(tmp_path / "masks") == mode_of(tmp_path / "masks" / "a") == allowed | (allowed & 0o444) >> 2
    (entry,) = zipfile.ZipFile(tmp_path / "masks.zip").infolist()
    assert stat.S_IMODE(entry.external_attr >> 16) == 0o644, "whoever unpacks it decides with a umask of their own"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["masks", "masks.zip"]
