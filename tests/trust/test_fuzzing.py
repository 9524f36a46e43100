"""Random bytes for our own parsers: `python -m pytest tests/trust -m fuzz`; longer with SAM2KIT_FUZZ_SECONDS=600.

atheris follows which branches an input reaches, and changes it until it reaches others. Each parser must take its input
or refuse it with a ValueError (an OSError from below counts as one); anything else ends the run with the input. One
parser alone: `python -m tests.trust.test_fuzzing run_lengths -max_total_time=60`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SECONDS = int(os.environ.get("SAM2KIT_FUZZ_SECONDS", "4"))  # for each parser
CLICK = b'{"key":"a","scene":"1","sequence":1,"number":0,"points":[[5,5,1]],"box":[1,2,3,4]}'
PARSERS = {  # with what the fuzzer begins with
    "run_lengths": [b"0110<0", b"PPYo1"],
    "messages": [CLICK],
    "prompt_lists": [b'[{"frame":0,"object":"cup","points":[[1,2]],"labels":[1],"box":[1,2,3,4]}]'],
    "segmentations": [b"[[1,1,9,1,9,9]]", b'{"size":[20,30],"counts":[5,10,585]}', b'{"size":[20,30],"counts":"0110"}'],
    "json": [b'{"a":[1,2.5,null,"x"]}'],
    "yolo_lines": [b"0 0.1 0.1 0.5 0.1 0.5 0.5\n"],
    "sessions": [],
}


@pytest.mark.fuzz
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed; it has no build for this Python")
@pytest.mark.parametrize("parser", PARSERS)
def test_parser(parser: str, tmp_path: Path) -> None:
    from tests.figures import FIGURES

    done = subprocess.run(
        [sys.executable, "-m", "tests.trust.test_fuzzing", parser, f"-max_total_time={SECONDS}", "-max_len=4096",
         "-rss_limit_mb=3000", "-timeout=10", f"-artifact_prefix={tmp_path}/"],
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS + 120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs, done.stderr[-1000:]
    assert int(runs[1]) > 50
    FIGURES.append(f"fuzz: {parser}: {int(runs[1]):,} inputs in {SECONDS} s, none got through")


def parser_named(name: str, folder: Path) -> Callable[[bytes], object]:
    """What takes the bytes; its modules are imported while atheris looks on."""
    from PIL import Image

    from sam2kit.app.canvas import PromptRequest, inside
    from sam2kit.data.segmentations import mask_of_segmentation
    from sam2kit.data.yolo import open_yolo
    from sam2kit.files import parse_json
    from sam2kit.media.mask_files import runs_to_mask
    from sam2kit.predict.prompt_lists import prompts_of
    from sam2kit.predict.session import Session

    (folder / "labels").mkdir()
    (folder / "images").mkdir()
    Image.new("RGB", (60, 40)).save(folder / "images" / "a.png")

    def yolo_lines(data: bytes) -> None:
        (folder / "labels" / "a.txt").write_bytes(data)
        for sample in open_yolo(folder).samples:
            sample.read()

    def session(data: bytes) -> None:
        (folder / "a.sam2kit").write_bytes(data)
        Session.load(folder / "a.sam2kit")

    return {
        "run_lengths": lambda data: runs_to_mask({"size": [20, 30], "counts": data}),
        "messages": lambda data: inside(PromptRequest.read(json.loads(data)), (40, 60)),
        "prompt_lists": lambda data: prompts_of(json.loads(data), "the list", folder),
        "segmentations": lambda data: mask_of_segmentation(json.loads(data), (20, 30), "the mask", []),
        "json": lambda data: parse_json(data, "it"),
        "yolo_lines": yolo_lines,
        "sessions": session,
    }[name]


def main(name: str, options: list[str]) -> None:
    """Fuzz one parser; in a fork, since libFuzzer would count the memory that pytest held as its own."""
    import atheris

    if fork := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) % 256)
    with atheris.instrument_imports(include=["sam2kit"]):
        parse = parser_named(name, Path(tempfile.mkdtemp()))
    beginnings = PARSERS[name]
    if name == "sessions":
        from tests.trust.corpus_sessions import picture_bytes

        beginnings = [picture_bytes()]
    corpus = Path(tempfile.mkdtemp())
    for number, content in enumerate(beginnings):
        (corpus / str(number)).write_bytes(content)

    def one_input(data: bytes) -> None:
        try:
            parse(data)
        except (ValueError, OSError):
            pass
        except RecursionError as error:
            if "json" not in str(error).lower():  # the standard library's own limit, which parse_json turns into words
                raise

    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
