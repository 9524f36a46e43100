"""Random bytes for our own parsers: `python -m pytest tests/trust -m fuzz`; longer with SAM2KIT_FUZZ_SECONDS=600.

atheris follows which branches an input reaches, and changes it until it reaches others. Each parser must take its input
or refuse it with a ValueError (an OSError from below counts as one); anything else ends the run with the input.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.figures import FIGURES
from tests.ui.conftest import ROOT

pytestmark = pytest.mark.fuzz
SECONDS = int(os.environ.get("SAM2KIT_FUZZ_SECONDS", "4"))  # for each parser
PARSERS = ("run_lengths", "messages", "prompt_lists", "segmentations", "json", "sessions", "yolo_lines", "clicks")


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed; it has no build for this Python")
@pytest.mark.parametrize("parser", PARSERS)
def test_parser(parser: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.trust.fuzz", parser, f"-max_total_time={SECONDS}", "-max_len=4096",
         "-rss_limit_mb=3000", "-timeout=10", f"-artifact_prefix={tmp_path}/"],
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS + 120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs, done.stderr[-1000:]
    assert int(runs[1]) > 50
    FIGURES.append(f"fuzz: {parser}: {int(runs[1]):,} inputs in {SECONDS} s, none got through")
