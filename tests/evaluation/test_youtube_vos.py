"""G by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam2kit.evaluation.rows import ObjectRow
from sam2kit.evaluation.youtube_vos import read_categories, read_meta, youtube_vos_g


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    videos = {
        "a": {"objects": {"1": {"category": "dog", "frames": ["00000"]}, "2": {"category": "newt", "frames": []}}},
        "b": {"objects": {"1": {"category": "dog", "frames": []}}},
    }
    path = tmp_path / "meta.json"
    path.write_text(json.dumps({"videos": videos}))
    return path


def test_g(meta: Path) -> None:
    rows = [
        ObjectRow("a", "1", {"J": 0.9, "F": 1.0}),
        ObjectRow("a", "2", {"J": 0.2, "F": 0.4}),
        ObjectRow("JPEGImages/b", "1", {"J": 0.5, "F": 0.6}),
    ]
    found = youtube_vos_g(rows, read_meta(meta), {"newt"})
    assert found == pytest.approx(
        {"G": (0.7 + 0.2 + 0.8 + 0.4) / 4, "J_seen": 0.7, "J_unseen": 0.2, "F_seen": 0.8, "F_unseen": 0.4}
    )
    with pytest.raises(ValueError, match="none is unseen"):
        youtube_vos_g(rows, read_meta(meta), set())
    with pytest.raises(ValueError, match="no object has category 'yeti'; there are dog, newt"):
        youtube_vos_g(rows, read_meta(meta), {"yeti"})
    with pytest.raises(ValueError, match="no category for object 9 of video b"):
        youtube_vos_g([ObjectRow("b", "9", rows[0].scores)], read_meta(meta), {"newt"})


def test_files(meta: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("newt\n\ndog\n")
    (tmp_path / "list.json").write_text('["newt", "dog"]')
    assert read_categories(tmp_path / "lines.txt") == read_categories(tmp_path / "list.json") == {"newt", "dog"}
    (tmp_path / "wrong.json").write_text('{"newt": 1}')
    with pytest.raises(ValueError, match="names of categories"):
        read_categories(tmp_path / "wrong.json")
    with pytest.raises(ValueError, match=r"not a meta.json"):
        read_meta(tmp_path / "list.json")
