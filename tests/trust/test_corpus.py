"""Broken and extreme inputs through every entry point: `python -m pytest tests/trust -m corpus`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.figures import FIGURES
from tests.trust import (
    corpus_clips,
    corpus_commands,
    corpus_datasets,
    corpus_pictures,
    corpus_prompts,
    corpus_sessions,
    corpus_weights,
)
from tests.trust.bounds import Case, Tally, judge

pytestmark = [pytest.mark.corpus, pytest.mark.usefixtures("one_thread")]
CORPUS = {
    "pictures": corpus_pictures.CASES,
    "clips": corpus_clips.CASES,
    "weights": corpus_weights.CASES,
    "prompts": corpus_prompts.CASES,
    "sessions": corpus_sessions.CASES,
    "data": corpus_datasets.CASES,
    "commands": corpus_commands.CASES,
}


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """What is told in the end."""
    counted = Tally()
    yield counted
    FIGURES.append(f"corpus: {counted}")


@pytest.mark.parametrize(
    ("kind", "case"), [pytest.param(k, c, id=f"{k}: {c.name}") for k, cases in CORPUS.items() for c in cases]
)
def test_input(kind: str, case: Case, tmp_path: Path, tally: Tally) -> None:
    judge(case, kind, tmp_path, tally)
