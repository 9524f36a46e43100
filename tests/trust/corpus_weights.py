"""Weight files that are broken, made up, or traps."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sam2kit.checkpoints import METADATA_KEY, about_model, plain_state_of
from sam2kit.hub import FINETUNED_JSON, FINETUNED_WEIGHTS
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import load_model
from tests.toy_model import toy_model
from tests.trust import breaking
from tests.trust.bounds import Case

Change = Callable[[dict[str, Any]], Any]
PATCHES = torch.zeros(96, 3, 7, 7)
BLOCK = "image_encoder.trunk.blocks.x.a"
FIRST = "image_encoder.trunk.patch_embed.proj.weight"


@cache
def toy_state() -> dict[str, Tensor]:
    """Of a model that loads."""
    return plain_state_of(toy_model())


@cache
def toy_about() -> str:
    """What a file says of that model."""
    return json.dumps(about_model(toy_model()))


def safetensors_bytes(state: dict[str, Tensor] | None = None, about: Any = None) -> bytes:
    """A weight file of this project; `about` is its metadata, as an object or as text."""
    about = toy_about() if about is None else about
    text = about if isinstance(about, str) else json.dumps(about)
    return safetensors.torch.save(toy_state() if state is None else state, {"format": "pt", METADATA_KEY: text})


def load(path: Path) -> None:
    """As a user would."""
    model = load_model(path, "cpu")
    assert isinstance(model, SAM2)


def of_file(name: str, make: Callable[[Path], bytes], wanted: str = "error") -> Case:
    """Bytes that stand in a weight file of a name."""

    def feed(room: Path) -> None:
        (room / name).write_bytes(make(room.parent / "beside" / "canary"))
        load(room / name)

    return Case(f"the weights {name}", feed, wanted)


def of_state(name: str, change: Change, wanted: str = "error", *, suffix: str = ".safetensors") -> Case:
    """Weights that differ from the ones that load."""

    def content(_: Path) -> bytes:
        state = change(dict(toy_state()))
        if suffix == ".safetensors":
            return safetensors_bytes(state)
        return breaking.checkpoint_of({"model": state, METADATA_KEY: toy_about()})

    return of_file(f"{name}{suffix}", content, wanted)


def of_config(name: str, *path: str, value: Any, wanted: str = "error") -> Case:
    """Metadata that says something else about the model."""

    about = json.loads(toy_about())
    place = about
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return of_file(
        f"{'.'.join(path)} is {name[:90]}.safetensors".replace("/", ""),
        lambda _: safetensors_bytes(about=about),
        wanted,
    )


def of_finetuning(name: str, about: str, weights: bytes | None = None) -> Case:
    """A folder that should be a fine-tuning."""

    def feed(room: Path) -> None:
        (room / FINETUNED_JSON).write_text(about)
        written = safetensors_bytes({"a": torch.zeros(1)}, {"low_rank": {}, "config": None})
        (room / FINETUNED_WEIGHTS).write_bytes(weights or written)
        load(room)

    return Case(f"fine-tuning: {name}", feed)


def _only(name: str, value: Any) -> Change:
    return lambda state: {**state, name: value}


def _one_tensor(length: int) -> bytes:
    header = {"a": {"dtype": "F32", "shape": [length], "data_offsets": [0, 4]}}
    return breaking.safetensors_of(json.dumps(header).encode(), b"0000")


_EXPANDED = torch.zeros(1).expand(2**20, 2**20)  # four bytes that say that they are four terabytes
_SPARSE = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (2**20, 2**20))

CASES = [
    *(
        of_file(f"{how}.safetensors", lambda _, n=n: breaking.damaged(safetensors_bytes(), n), "either" if n else "error")
        for n, how in enumerate(breaking.DAMAGES)
    ),
    *(
        of_file(f"{how}.pt", lambda _, n=n: breaking.damaged(breaking.checkpoint_of(toy_state()), n))
        for n, how in enumerate(breaking.DAMAGES)
    ),
    of_file("runs.pt", breaking.pickle_that_runs),
    of_file("runs.pth", breaking.checkpoint_that_runs),
    of_file("runs.safetensors", breaking.pickle_that_runs),
    of_file("runs.bin", breaking.pickle_that_runs),
    of_file("number.pt", lambda _: pickle.dumps(7)),
    of_file("deep.pt", lambda _: b"\x80\x04" + b"]" * 10**6 + b"."),
    of_file("words.pt", lambda _: b"hello"),
    of_file("words.safetensors", lambda _: b"hello"),
    of_file("long header.safetensors", lambda _: breaking.safetensors_of(b"{}", length=2**62)),
    of_file("deep header.safetensors", lambda _: breaking.safetensors_of(breaking.nested().encode())),
    of_file("odd header.safetensors", lambda _: _one_tensor(-1)),
    of_file("overlap.safetensors", lambda _: _one_tensor(9)),
    of_file("deep about.safetensors", lambda _: safetensors_bytes(about=breaking.nested())),
    of_file("list about.safetensors", lambda _: safetensors_bytes(about=[])),
    of_file("empty about.safetensors", lambda _: safetensors_bytes(about={})),
    of_file("no config.safetensors", lambda _: safetensors_bytes(about={"config": None, "memory_is_trained": True})),
    of_file("deflated.pt", lambda _: breaking.packed_tightly(breaking.checkpoint_of({"a": torch.zeros(2**24)}))),
    of_file("list.pt", lambda _: breaking.checkpoint_of([1, 2])),
    of_file("texts.pt", lambda _: breaking.checkpoint_of({"model": {"a": "b"}})),
    of_file("nothing.pt", lambda _: breaking.checkpoint_of({"model": {}})),
    of_file("numbers.pt", lambda _: breaking.checkpoint_of({"model": {1: torch.zeros(1)}})),
    of_file("odd blocks.pt", lambda _: breaking.checkpoint_of({FIRST: PATCHES, BLOCK: PATCHES})),
    of_file("no blocks.pt", lambda _: breaking.checkpoint_of({FIRST: PATCHES})),
    of_file("number as patch.pt", lambda _: breaking.checkpoint_of({FIRST: torch.tensor(3.0)})),
    *(
        case
        for suffix in (".safetensors", ".pt")
        for case in (
            of_state("one is missing", lambda s: {k: v for k, v in s.items() if k != FIRST}, suffix=suffix),
            of_state("one is left over", _only("extra", torch.zeros(1)), suffix=suffix),
            of_state("one is turned", lambda s: {**s, FIRST: s[FIRST].transpose(0, 1).contiguous()}, suffix=suffix),
            of_state("one is empty", _only(FIRST, torch.zeros(0)), suffix=suffix),
            of_state("one is whole numbers", lambda s: {**s, FIRST: s[FIRST].to(torch.int32)}, "either", suffix=suffix),
            of_state("all are halves", lambda s: {k: v.half() for k, v in s.items()}, "result", suffix=suffix),
            of_state("there are none", lambda s: {FIRST: s[FIRST]}, suffix=suffix),
            of_state("one is not a number", lambda s: {**s, FIRST: s[FIRST] * float("nan")}, suffix=suffix),
        )
    ),
    of_state("complex numbers", lambda s: {**s, FIRST: s[FIRST].to(torch.complex64)}, suffix=".pt"),
    of_state("a view of four terabytes", _only(FIRST, _EXPANDED), suffix=".pt"),
    of_state("the same as halves", _only(FIRST, torch.zeros(1).half().expand(2**20, 2**20)), suffix=".pt"),
    of_state("a sparse one", _only(FIRST, _SPARSE), suffix=".pt"),
    of_state("one without values", _only(FIRST, torch.zeros(2**40, device="meta")), suffix=".pt"),
    *(
        of_config(repr(value), *place, value=value)
        for place, values in {
            ("config",): (None, [], "tiny", 7, {"side": {}}),
            ("config", "side"): (0, -64, 33, 2**40, 1.5, "64", None, True, float("nan")),
            ("config", "hidden_dim"): (0, -32, 7, 2**40, "32", None),
            ("config", "unknown"): (1,),
            ("config", "trunk"): (None, [], {"unknown": 1}),
            ("config", "trunk", "embed_dim"): (0, -8, 2**40, "8", None, 8.5),
            ("config", "trunk", "heads"): (0, -1, 3, "1"),
            ("config", "trunk", "blocks_per_stage"): ([], [10**9] * 4, [-1, 1, 1, 1], "1121", 4, [1, 1], [None] * 4),
            ("config", "trunk", "window_per_stage"): ([0] * 4, [-4] * 4, [], [10**9] * 4, None, [8, 7, 14, 7]),
            ("config", "trunk", "global_blocks"): (["x"], None, 3),
            ("config", "trunk", "position_grid"): (0, -7, 10**6, None),
            ("config", "decoder", "heads"): (0, 7, -1, None),
            ("config", "decoder", "layers"): (-1, 10**9, "2"),
            ("config", "decoder", "mlp_dim"): (0, -1, 2**40),
            ("config", "decoder", "cross_attention_downsample"): (0, -2, 10**9),
            ("config", "memory", "dim"): (0, -16, 5, 2**40),
            ("config", "memory", "slots"): (0, -1, 10**9, None),
            ("config", "memory", "attention_layers"): (-1, 10**9),
            ("config", "memory", "fuser_layers"): (-1, 10**9),
        }.items()
        for value in values
    ),
    Case("weights: a pipe", lambda room: load(breaking.pipe(room / "a.pt"))),
    Case("weights: a device without end", lambda room: load(breaking.link(room / "a.safetensors", "/dev/zero"))),
    Case("weights: a name of 300 characters", lambda room: load(room / ("n" * 300 + ".pt"))),
    Case("weights: a folder of two", lambda room: load(_two(room))),
    Case("weights: an empty folder", lambda room: load(room)),
    Case("weights: no name", lambda room: load_model("", "cpu")),
    Case("weights: an unknown name", lambda room: load_model("sam3", "cpu")),
    Case("weights: a name with ..", lambda room: load_model("../../etc/passwd", "cpu")),
    Case("weights: a Hub id with ..", lambda room: load_model("a/..", "cpu")),
    Case("weights: an unknown device", lambda room: load_model("nano", "gpu0")),
    Case("weights: a device that is not there", lambda room: load_model("nano", "cuda:99")),
    Case("weights: an unknown precision", lambda room: load_model("nano", "cpu", "int4")),
    Case("weights: a square of 33", lambda room: load_model("nano", "cpu", side=33)),
    Case("weights: a square of half a pixel", lambda room: load_model("nano", "cpu", side=64.5)),
    Case("weights: a square as large as a town", lambda room: load_model("nano", "cpu", side=2**40)),
    of_finetuning("of another base", '{"base": "nano", "base_fingerprint": "00"}'),
    of_finetuning("its own base", '{"base": "."}'),
    of_finetuning("damaged weights", '{"base": "nano"}', b"half"),
    of_finetuning("no JSON", "{"),
    of_finetuning("deep JSON", breaking.nested()),
    of_finetuning("a list", "[]"),
    of_finetuning("no base", "{}"),
    of_finetuning("a number as base", '{"base": 7}'),
    of_finetuning("a base outside", '{"base": "../../../etc/passwd"}'),
    of_finetuning("a recipe that is a list", '{"base": "nano", "recipe": []}'),
]  # fmt: skip


def _two(room: Path) -> Path:
    for name in ("a.pt", "b.pt"):
        (room / name).write_bytes(breaking.checkpoint_of(toy_state()))
    return room
