"""Means, intervals, tables, and G by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sam2kit.evaluation.reports import (
    ObjectRow,
    Report,
    bootstrap_interval,
    markdown,
    means_of,
    object_table,
    read_categories,
    read_meta,
    summarise,
    write_report,
    youtube_vos_g,
)


def test_summaries() -> None:
    rows = [ObjectRow("a", "1", {"J&F": 0.2, "extra": 1.0}), ObjectRow("b", "1", {"J&F": 0.6})]
    found = summarise(rows)
    assert means_of(rows) == {name: summary.mean for name, summary in found.items()}
    assert (found["J&F"].mean, found["J&F"].objects) == (pytest.approx(0.4), 2)
    assert (found["extra"].low, found["extra"].high, found["extra"].objects) == (1, 1, 1)
    with pytest.raises(ValueError, match="no object"):
        summarise([])


def test_the_interval_is_that_of_the_normal_law() -> None:
    """For many objects the bootstrap agrees with mean +- 1.96 standard errors."""
    values = np.random.default_rng(3).normal(0.5, 0.1, 400)
    error = values.std() / 20
    wanted = values.mean() - 1.96 * error, values.mean() + 1.96 * error
    assert bootstrap_interval(values) == pytest.approx(wanted, abs=0.2 * error)


def test_tables(tmp_path: Path) -> None:
    rows = [ObjectRow("a", "1", {"J&F": 0.25, "NoC@90": 3.0}), ObjectRow("b", "1", {"J&F": 0.75})]
    report = Report("a title", rows, {"model": "x"}, {"c": "c is broken"}, {"G": 0.5})
    lines = markdown(report).splitlines()
    assert lines[0] == "## a title"
    assert {
        "| J&F (%) | 50.0 | 25.0 - 75.0 | 2 |",
        "| NoC@90 | 3.00 | 3.00 - 3.00 | 1 |",
        "| G (%) | 50.0 | | 2 |",
        "- c: c is broken",
    } <= set(lines)
    assert "| b | 1 | 75.0 | |" in object_table(report)
    paths = write_report(report, tmp_path / "new")
    assert [p.name for p in paths] == ["results.md", "results.json"]
    content = json.loads(paths[1].read_text())
    assert (content["G"], content["measures"]["J&F"]["mean"]) == (0.5, 0.5)
    assert content["objects"][0] == {"sample": "a", "object": "1", "J&F": 0.25, "NoC@90": 3.0}


def test_g(tmp_path: Path) -> None:
    dog, newt = {"category": "dog", "frames": ["00000"]}, {"category": "newt"}
    videos = {"a": {"objects": {"1": dog, "2": newt}}, "b": {"objects": {"1": dog}}}
    (tmp_path / "meta.json").write_text(json.dumps({"videos": videos}))
    categories = read_meta(tmp_path / "meta.json")
    rows = [
        ObjectRow("a", "1", {"J": 0.9, "F": 1.0}),
        ObjectRow("a", "2", {"J": 0.2, "F": 0.4}),
        ObjectRow("JPEGImages/b", "1", {"J": 0.5, "F": 0.6}),
    ]
    wanted = {"G": (0.7 + 0.2 + 0.8 + 0.4) / 4, "J_seen": 0.7, "J_unseen": 0.2, "F_seen": 0.8, "F_unseen": 0.4}
    assert youtube_vos_g(rows, categories, {"newt"}) == pytest.approx(wanted)
    for unseen, wrong, says in (
        (set(), rows, "none is unseen"),
        ({"yeti"}, rows, "no object has category 'yeti'; there are dog, newt"),
        ({"newt"}, [ObjectRow("b", "9", rows[0].scores)], "no category for object 9 of video b"),
    ):
        with pytest.raises(ValueError, match=says):
            youtube_vos_g(wrong, categories, unseen)


def test_files_of_categories(tmp_path: Path) -> None:
    for text in ("newt\n\ndog\n", '["newt", "dog"]'):
        (tmp_path / "names").write_text(text)
        assert read_categories(tmp_path / "names") == {"newt", "dog"}
    (tmp_path / "names").write_text('{"newt": 1}')
    with pytest.raises(ValueError, match="names of categories"):
        read_categories(tmp_path / "names")
    with pytest.raises(ValueError, match=r"not a meta.json"):
        read_meta(tmp_path / "names")
