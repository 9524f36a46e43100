"""Broken and extreme inputs through every entry point: `python -m pytest tests/trust -m corpus`."""

from __future__ import annotations

from collections import Counter
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
from tests.trust.bounds import Case, judge

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


ENDED: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def _figure() -> Iterator[None]:
    yield
    FIGURES.append(f"corpus: {', '.join(f'{count} inputs ended in a clear {how}' for how, count in ENDED.items())}")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{kind}: {case.name}", marks=[] if number % 10 else [pytest.mark.quick])
        for kind, cases in CORPUS.items()
        for number, case in enumerate(cases)
    ],
)
def test_input(case: Case, tmp_path: Path) -> None:
    """Each tenth case is in the quick run."""
    ENDED[judge(case, tmp_path)] += 1
