"""One parser under atheris: `python -m tests.trust.fuzz run_lengths -max_total_time=60`."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sam2kit"]):
    from sam2kit.clicking.messages import PromptRequest
    from sam2kit.datasets.segmentations import mask_of_segmentation
    from sam2kit.datasets.yolo import open_yolo
    from sam2kit.files import parse_json
    from sam2kit.media.runlengths import runs_to_mask
    from sam2kit.predict.picture_session import PictureSession
    from sam2kit.predict.prompt_lists import prompts_of

FOLDER = Path(tempfile.mkdtemp())
BEGINNINGS = {  # what the fuzzer begins with
    "run_lengths": [b"0110<0", b"PPYo1"],
    "messages": [b'{"key":"a","scene":"1","sequence":1,"number":0,"points":[[5,5,1]],"box":[1,2,3,4]}'],
    "clicks": [b'{"key":"a","scene":"1","sequence":1,"number":0,"points":[],"box":null}'],
    "prompt_lists": [b'[{"frame":0,"object":"cup","points":[[1,2]],"labels":[1],"box":[1,2,3,4]}]'],
    "segmentations": [b"[[1,1,9,1,9,9]]", b'{"size":[20,30],"counts":[5,10,585]}', b'{"size":[20,30],"counts":"0110"}'],
    "json": [b'{"a":[1,2.5,null,"x"]}'],
    "yolo_lines": [b"0 0.1 0.1 0.5 0.1 0.5 0.5\n"],
    "sessions": [],
}


def run_lengths(data: bytes) -> None:
    """Compressed counts."""
    runs_to_mask({"size": [20, 30], "counts": data})


def messages(data: bytes) -> None:
    """What a browser sends."""
    PromptRequest.read(json.loads(data))


def clicks(data: bytes) -> None:
    """The same, moved into a picture."""
    PromptRequest.read(json.loads(data)).within((40, 60))


def prompt_lists(data: bytes) -> None:
    """What a request or a file asks."""
    prompts_of(json.loads(data), "the list", FOLDER)


def segmentations(data: bytes) -> None:
    """COCO's masks."""
    mask, _ = mask_of_segmentation(json.loads(data), (20, 30), "the mask")
    assert mask.shape == (20, 30)


def yolo_lines(data: bytes) -> None:
    """A label text."""
    from PIL import Image

    root = FOLDER / "yolo"
    if not root.exists():
        (root / "labels").mkdir(parents=True)
        (root / "images").mkdir()
        Image.new("RGB", (60, 40)).save(root / "images" / "a.png")
    (root / "labels" / "a.txt").write_bytes(data)
    for sample in open_yolo(root).pictures:
        sample.read()


def sessions(data: bytes) -> None:
    """A picture session's file."""
    file = FOLDER / "a.safetensors"
    file.write_bytes(data)
    PictureSession.load(file)


PARSERS: dict[str, Callable[[bytes], object]] = {
    "run_lengths": run_lengths, "messages": messages, "clicks": clicks, "prompt_lists": prompt_lists,
    "segmentations": segmentations, "yolo_lines": yolo_lines, "sessions": sessions,
    "json": lambda data: parse_json(data, "it"),
}  # fmt: skip


def main() -> None:
    """Fuzz the parser that is named; in a fork, since libFuzzer would count the memory that pytest held as its own."""
    if fork := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) % 256)
    name, options = sys.argv[1], sys.argv[2:]
    parse = PARSERS[name]
    corpus = Path(tempfile.mkdtemp())
    for i, content in enumerate(BEGINNINGS[name]):
        (corpus / str(i)).write_bytes(content)
    if name == "sessions":
        from tests.trust.corpus_sessions import picture_bytes

        (corpus / "0").write_bytes(picture_bytes())

    def one_input(data: bytes) -> None:
        try:
            parse(data)
        except (ValueError, OSError):
            pass
        except RecursionError as error:
            if "json" not in str(error).lower():  # the standard library's own limit, which parse_json turns into words
                raise

    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    sys.stdout = io.StringIO()
    atheris.Fuzz()


if __name__ == "__main__":
    main()
