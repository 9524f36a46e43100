"""From names, files and the Hub to ready models, and every way in which that can fail."""

from __future__ import annotations

import argparse
import pickle
import re
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam2kit.compat.build import build_sam2
from sam2kit.config import preset
from sam2kit.hub import HubError
from sam2kit.model.sam2 import SAM2
from sam2kit.training.configuration import RECIPES
from sam2kit.training.finetune import load_base
from sam2kit.weights import (
    choose_device,
    choose_dtype,
    find_weights,
    load_model,
    push_to_hub,
    save_model,
    save_official,
    save_transformers,
    weights_dtype,
)
from tests.loopback_hub import LoopbackHub


def same(a: SAM2, b: SAM2) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture(scope="module")
def tiny() -> SAM2:
    """The smallest published size, random."""
    torch.manual_seed(1)
    return SAM2(preset("sam2.1-hiera-tiny"))


def saved_bytes(model: SAM2, folder: Path) -> bytes:
    return save_model(model, folder / "saved.safetensors").read_bytes()


class TestFiles:
    def test_what_was_saved_loads_with_its_config(self, toy: SAM2, tmp_path: Path) -> None:
        toy.memory_is_trained = False
        path = save_model(toy, tmp_path / "deep" / "toy.safetensors")
        loaded = load_model(path, "cpu")
        assert same(toy, loaded) and loaded.config == toy.config
        assert not loaded.memory_is_trained and not loaded.training
        assert load_model(path, "cpu", side=96).config.side == 96
        with pytest.raises(ValueError, match="multiple of 32"):
            load_model(path, "cpu", side=100)
        save_model(toy, path, dtype=torch.float16)
        assert load_model(path, "cpu").weight_dtype == torch.float32

    @pytest.mark.parametrize(
        ("wrapped", "what"),
        [
            (lambda s: s, "bare"),
            (lambda s: {"model": s, "epoch": 3}, "official"),
            (lambda s: {"model": {"module." + k: v for k, v in s.items()}, "epoch": 1}, "of several GPUs"),
            (lambda s: {k.replace("trunk.", "trunk._orig_mod."): v for k, v in s.items()}, "compiled in part"),
            (lambda s: {"state_dict": {"model." + k: v for k, v in s.items()}, "epoch": 1}, "of Lightning"),
            (lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}, "loss": 0.1}, "of tutorials"),
            (lambda s: {"net": {"model": s}, "step": 7}, "nested"),
            (lambda s: {"model": s, "best": np.float64(0.8), "curve": np.arange(3.0)}, "with numbers of NumPy"),
            (lambda s: {"model": s, "args": argparse.Namespace(lr=1e-4, out="x")}, "with arguments"),
            (lambda s: {"params": s, "name": np.str_("a"), "old": OrderedDict(a=1)}, "of BasicSR, with texts of NumPy"),
            (lambda s: {"ema_state_dict": s, "out": Path("a/b"), "more": SimpleNamespace(a=1)}, "with paths"),
            (lambda s: {"state_dict": s, "curves": defaultdict(list, {"loss": [0.5]})}, "with curves"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_as_trainers_leave_them(self, tiny: SAM2, tmp_path: Path, wrapped: Callable, what: str) -> None:
        torch.save(wrapped(tiny.state_dict()), tmp_path / "last.pt")
        assert same(tiny, load_model(tmp_path, "cpu"))

    def test_version_2_0_and_bare_safetensors_are_told_from_their_keys(self, tmp_path: Path) -> None:
        old = SAM2(preset("sam2-hiera-tiny"))
        save_file(old.state_dict(), tmp_path / "old.safetensors")
        loaded = load_model(tmp_path / "old.safetensors", "cpu")
        assert loaded.config == preset("sam2-hiera-tiny") and same(old, loaded)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (
                lambda s: {f"{who}.{k}": v for who in ("student", "twin") for k, v in s.items()},
                r"more than one model .*'student\.', 'twin\.'",
            ),
            (
                lambda s: {"best_params": s, "epoch": 3},
                "perhaps under one of model, state_dict.*it holds best_params, epoch",
            ),
            (
                lambda s: (
                    {k: v for k, v in s.items() if k != "no_mem_embed"}
                    | {"wings": torch.zeros(2), "no_obj_ptr": torch.zeros(1, 7)}
                ),
                r"1 missing \(such as no_mem_embed\).*wings.*no_obj_ptr",
            ),
            (lambda s: {"layer.weight": torch.zeros(3)}, "not a SAM 2 model"),
        ],
    )
    def test_what_cannot_be_used_is_said(self, tiny: SAM2, tmp_path: Path, changed: Callable, message: str) -> None:
        torch.save(changed(tiny.state_dict()), tmp_path / "odd.pt")
        with pytest.raises(ValueError, match=message):
            load_model(tmp_path / "odd.pt", "cpu")

    @pytest.mark.parametrize(
        ("wrapped", "said"),
        [
            (lambda m: {"state_dict": m.state_dict(), "model": "tiny", "odd": Fraction(1, 2)}, "['state_dict'],"),
            (lambda m: {"net": {"model": m.state_dict()}, "odd": Fraction(1, 2)}, "['net']['model'],"),
            (lambda m: {**m.state_dict(), "odd": Fraction(1, 2)}, ".items() if isinstance(v, torch.Tensor)},"),
            (lambda m: {"model": m, "epoch": 3}, "['model'].state_dict(),"),
            (lambda m: m, "weights_only=False).state_dict(),"),
        ],
    )
    def test_the_cure_for_what_could_run_code_works(
        self, tiny: SAM2, tmp_path: Path, wrapped: Callable, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        torch.save(wrapped(tiny), "odd.pt")
        with pytest.raises(ValueError, match=re.escape(said)) as error:
            load_model("odd.pt", "cpu")
        exec(str(error.value)[str(error.value).index("torch.save(") :])
        assert same(tiny, load_model("plain.pt", "cpu"))

    def test_cut_off_files_and_others(self, toy: SAM2, tmp_path: Path) -> None:
        save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata={"sam2kit": "{}"})
        whole = saved_bytes(toy, tmp_path)
        (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
        torch.save(toy.state_dict(), tmp_path / "whole.pt")
        (tmp_path / "half.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:10_000])
        (tmp_path / "empty.pt").write_bytes(b"")
        (tmp_path / "short.pt").write_bytes(b"\x80\x02.")
        for name, message in (
            ("odd.safetensors", "metadata"),
            ("half.safetensors", "download it again"),
            ("half.pt", r"half\.pt"),
            ("empty.pt", r"empty\.pt"),
            ("short.pt", r"short\.pt"),
            ("", "7 weight files"),
        ):
            with pytest.raises(ValueError, match=message):
                load_model(tmp_path / name, "cpu")

    def test_a_pickle_that_would_run_code(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple:
                return (Path(tmp_path / "sprung").touch, ())

        (tmp_path / "trap.pt").write_bytes(pickle.dumps({"model": Trap()}))
        with pytest.raises(ValueError, match=r"trap\.pt"):
            load_model(tmp_path / "trap.pt", "cpu")
        assert not (tmp_path / "sprung").exists()

    def test_nothing_half_written_stays(self, toy: SAM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save_model(toy, tmp_path / "toy.safetensors")
        before = path.read_bytes()

        def full_disk(_state: dict, file: Path, **_: object) -> None:
            file.write_bytes(b"half")
            raise OSError("No space left on device")

        monkeypatch.setattr("sam2kit.checkpoints.save_file", full_disk)
        with pytest.raises(OSError, match="No space"):
            save_model(toy, path)
        assert path.read_bytes() == before


class TestNames:
    def test_unknown_names(self) -> None:
        with pytest.raises(ValueError, match=r"unknown model .huge..*nano"):
            find_weights("huge")
        with pytest.raises(FileNotFoundError, match="no weight file"):
            find_weights("models/mine.pt")

    def test_devices_and_dtypes(self) -> None:
        assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
        with pytest.raises(ValueError, match="float32, bfloat16, float16"):
            choose_dtype("int8", torch.device("cpu"))
        for unknown in ("toaster", "meta", "xpu"):
            with pytest.raises(ValueError, match="unknown device"):
                choose_device(unknown)
        if not torch.cuda.is_available():
            with pytest.raises(ValueError, match="0 CUDA GPUs"):
                choose_device("cuda")

    def test_auto_is_what_the_chosen_gpu_computes_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """torch itself counts GPUs that only imitate bfloat16: T4 and V100."""
        of_kinds = [(8, 6), (7, 5), (7, 0), (9, 0)]
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: of_kinds[device.index or 0])
        names = ("cuda", "cuda:0", "cuda:1", "cuda:2", "cuda:3", "mps", "cpu")
        chosen = [choose_dtype("auto", torch.device(name)) for name in names]
        new, old, none = torch.bfloat16, torch.float16, torch.float32
        assert chosen == [new, new, old, old, new, none, none]
        assert choose_dtype("float32", torch.device("cuda")) == torch.float32
        monkeypatch.setattr(torch.version, "hip", "6.2")  # AMD's
        for supported, wanted in ((True, torch.bfloat16), (False, torch.float16)):
            monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda supported=supported: supported)
            assert choose_dtype("auto", torch.device("cuda")) == wanted

    def test_the_bundled_model(self, nano: SAM2) -> None:
        assert nano.config == preset("nano")
        assert find_weights("nano").stat().st_size <= 8 * 2**20


class TestRoundedWeights:
    """On CUDA GPUs weights are kept in the dtype that is computed in, unless they are to be trained."""

    def test_where(self) -> None:
        for device in (torch.device("cuda"), torch.device("cuda:1"), torch.device("cpu"), torch.device("mps")):
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                kept = dtype if device.type == "cuda" else torch.float32
                assert weights_dtype(dtype, device, trainable=False) == kept
                assert weights_dtype(dtype, device, trainable=True) == torch.float32

    def test_what_trains_has_float32(self, on_cuda: None, toy: SAM2, tmp_path: Path) -> None:
        model = load_model("nano", "cpu", "bfloat16")
        assert (model.weight_dtype, model.compute_dtype) == (torch.bfloat16, torch.bfloat16)
        assert model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.dtype == torch.float32
        base = save_model(toy, tmp_path / "toy.safetensors")
        assert build_sam2("sam2.1_hiera_t.yaml", base, device="cpu").weight_dtype == torch.float32
        _, model = load_base(str(base), RECIPES["decoder"].changed(device="cpu", precision="bfloat16"))
        assert (model.weight_dtype, model.compute_dtype) == (torch.float32, torch.bfloat16)

    def test_they_are_not_stored_as_the_original(
        self, on_cuda: None, toy: SAM2, tmp_path: Path, hub: LoopbackHub
    ) -> None:
        path = save_model(toy, tmp_path / "toy.safetensors")
        rounded = load_model(path, "cpu", "bfloat16")
        writes: list[Callable[[], object]] = [
            lambda: save_model(rounded, tmp_path / "other.safetensors"),
            lambda: save_model(rounded, tmp_path / "other.safetensors", dtype=torch.float32),
            lambda: save_official(rounded, tmp_path / "other.pt"),
            lambda: save_transformers(rounded, tmp_path / "other"),
            lambda: push_to_hub(rounded, "me/other"),
        ]
        for write in writes:
            with pytest.raises(ValueError, match=r"rounded to bfloat16.*load the model with trainable=True"):
                write()
        assert [file.name for file in tmp_path.glob("other*/*")] == [] and not list(tmp_path.glob("other.*"))
        named = save_model(rounded, tmp_path / "named.safetensors", dtype=torch.bfloat16)
        assert load_model(named, "cpu", trainable=True).weight_dtype == torch.float32


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are kept as if the CPU were a CUDA GPU."""
    monkeypatch.setattr(
        "sam2kit.weights.weights_dtype",
        lambda dtype, device, *, trainable: weights_dtype(dtype, torch.device("cuda"), trainable=trainable),
    )


class TestHub:
    def test_a_real_layout_downloads_once_and_then_comes_from_the_cache(
        self, hub: LoopbackHub, tmp_path: Path, tiny: SAM2
    ) -> None:
        torch.save({"model": {k: v.half() for k, v in tiny.state_dict().items()}}, tmp_path / "tiny.pt")
        content = (tmp_path / "tiny.pt").read_bytes()
        hub.repos["facebook/sam2.1-hiera-tiny"] = {"config.json": b"{}", "sam2.1_hiera_tiny.pt": content}
        first = load_model("sam2.1-hiera-tiny", "cpu")
        hub.stop()
        assert same(first, load_model("facebook/sam2.1-hiera-tiny", "cpu"))

    def test_safetensors_are_preferred_and_a_new_version_is_noticed(
        self, hub: LoopbackHub, tmp_path: Path, toy: SAM2
    ) -> None:
        hub.repos["me/toy"] = {"model.safetensors": saved_bytes(toy, tmp_path), "old.pt": b"never read"}
        assert same(toy, load_model("me/toy", "cpu"))
        torch.nn.init.ones_(toy.no_mem_embed)
        hub.repos["me/toy"]["model.safetensors"] = saved_bytes(toy, tmp_path)
        assert same(toy, load_model("me/toy", "cpu"))
        hub.stop()
        assert same(toy, load_model("me/toy", "cpu"))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("me/nothing", "no repo 'me/nothing'"),
            ("me/empty", "0 weight files"),
            ("me/half", "0 weight files"),
            ("me/.hidden..name", "no Hub id"),
        ],
    )
    def test_what_is_not_there(self, hub: LoopbackHub, name: str, message: str) -> None:
        hub.repos["me/empty"] = {"README.md": b"hello"}
        hub.repos["me/half"] = {"finetuned.safetensors": b"no JSON beside it"}
        with pytest.raises(HubError, match=message):
            load_model(name)

    @pytest.mark.parametrize("trouble", ["500", pytest.param("silence", marks=pytest.mark.slow), "gone"])
    def test_an_unreachable_hub_is_told_within_ten_seconds(self, hub: LoopbackHub, trouble: str) -> None:
        hub.repos["me/toy"] = {"model.safetensors": b""}
        hub.trouble = trouble
        if trouble == "gone":
            hub.stop()
        started = time.monotonic()
        with pytest.raises(HubError, match="not in the local cache"):
            load_model("me/toy")
        assert time.monotonic() - started < 10

    def test_the_offline_switch(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
            load_model("sam2.1-hiera-large")
        assert not hub.requests

    def test_a_cut_off_transfer_is_never_taken_for_whole(
        self, hub: LoopbackHub, tmp_path: Path, toy: SAM2, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        hub.repos["me/toy"] = {"model.safetensors": saved_bytes(toy, tmp_path)}
        hub.trouble = "cut off"
        with pytest.raises(HubError, match="try again"):
            load_model("me/toy", "cpu")
        hub.trouble = ""
        assert same(toy, load_model("me/toy", "cpu"))

    def test_wrong_content_is_named(self, hub: LoopbackHub) -> None:
        hub.repos["me/wrong"] = {"model.safetensors": b"this is no weight file"}
        with pytest.raises(ValueError, match="cannot be read as weights"):
            load_model("me/wrong", "cpu")

    def test_pushing(self, toy: SAM2, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        made: dict[str, Any] = {}
        create = "sam2kit.weights.HfApi.create_repo"
        monkeypatch.setattr(create, lambda _, repo, **options: made.update(options) or hub.repos.update({repo: {}}))
        assert push_to_hub(toy, "me/toy", private=True).startswith(f"http://127.0.0.1:{hub.port}/me/toy/commit/")
        assert made["private"] and same(load_model("me/toy", "cpu"), toy)
