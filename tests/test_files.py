"""Written files are readable as other new files are: the umask decides, no library."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest

from sam2kit.files import FileBundle, atomic_write
from sam2kit.finetuned import FineTuning, save_finetuned
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import save_model, save_official, save_transformers


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077], ids=oct)
def test_the_umask_decides(umask: int, toy: SAM2, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        for _ in range(2):  # the second in place of an older one
            save_model(toy, tmp_path / "toy.safetensors")
        save_official(toy, tmp_path / "toy.pt")
        save_transformers(toy, tmp_path / "theirs")
        changed = {name: value + 1 for name, value in toy.state_dict().items()}
        save_finetuned(tmp_path / "tuned", changed, toy.state_dict(), FineTuning("toy.safetensors"))
        with atomic_write(tmp_path / "new") as unfinished:
            os.close(os.open(unfinished, os.O_CREAT, 0o600))  # a library that replaces the file
        for name in ("masks", "masks.zip"):
            with FileBundle(tmp_path / name) as bundle:
                bundle.write("a/b.txt", "text")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {"toy.pt", "new", "masks.zip", "tuned", "theirs"} < {path.name for path in modes}
    assert {path: mode for path, mode in modes.items() if path.is_file() and mode != 0o666 & ~umask} == {}
    assert {path: mode for path, mode in modes.items() if path.is_dir() and mode != 0o777 & ~umask} == {}
    (entry,) = zipfile.ZipFile(tmp_path / "masks.zip").infolist()
    assert stat.S_IMODE(entry.external_attr >> 16) == 0o644, "unpacking applies its own umask"
