"""From names, files and the Hub to ready models, and every way in which that can fail."""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam2kit.compat.build import build_sam2
from sam2kit.config import preset
from sam2kit.exports import save_official, save_transformers
from sam2kit.hub import HubError
from sam2kit.model.sam2 import SAM2
from sam2kit.training.budget import Budget
from sam2kit.training.preparation import load_base
from sam2kit.weights import (
    choose_device,
    choose_dtype,
    find_weights,
    load_model,
    push_to_hub,
    save_model,
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
        loaded = load_model(save_model(toy, tmp_path / "deep" / "toy.safetensors"), "cpu")
        assert same(toy, loaded)
        assert loaded.config == toy.config
        assert not loaded.memory_is_trained
        assert not loaded.training

    def test_half_precision_files_load_as_float32(self, toy: SAM2, tmp_path: Path) -> None:
        path = save_model(toy, tmp_path / "toy.safetensors", dtype=torch.float16)
        assert load_model(path, "cpu").weight_dtype == torch.float32

    @pytest.mark.parametrize("nested", [True, False])
    def test_official_pickles(self, tiny: SAM2, tmp_path: Path, nested: bool) -> None:
        state = tiny.state_dict()
        torch.save({"model": state, "epoch": 3} if nested else state, tmp_path / "sam2.1_hiera_tiny.pt")
        assert same(tiny, load_model(tmp_path, "cpu"))

    @pytest.mark.parametrize(
        ("wrapped", "what"),
        [
            (lambda s: {"model": {"module." + k: v for k, v in s.items()}, "epoch": 1}, "of several GPUs"),
            (lambda s: {"_orig_mod." + k: v for k, v in s.items()}, "compiled"),
            (lambda s: {k.replace("trunk.", "trunk._orig_mod."): v for k, v in s.items()}, "compiled in part"),
            (lambda s: {"state_dict": {"model." + k: v for k, v in s.items()}, "epoch": 1}, "of Lightning"),
            (lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}, "loss": 0.1}, "of tutorials"),
            (lambda s: {"net": {"model": s}, "step": 7}, "nested"),
            (lambda s: {"model": s, "best": np.float64(0.8), "curve": np.arange(3.0)}, "with numbers of NumPy"),
            (lambda s: {"model": s, "args": argparse.Namespace(lr=1e-4, out="x")}, "with arguments"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_as_trainers_leave_them(self, tiny: SAM2, tmp_path: Path, wrapped: Callable, what: str) -> None:
        torch.save(wrapped(tiny.state_dict()), tmp_path / "last.pt")
        assert same(tiny, load_model(tmp_path / "last.pt", "cpu"))

    def test_what_cannot_be_unwrapped_is_said(self, tiny: SAM2, tmp_path: Path) -> None:
        state, path = tiny.state_dict(), tmp_path / "odd.pt"
        torch.save({"student." + k: v for k, v in state.items()} | {"teacher." + k: v for k, v in state.items()}, path)
        with pytest.raises(ValueError, match=r"more than one model .*'student\.', 'teacher\.'"):
            load_model(path, "cpu")
        torch.save({"best_params": state, "epoch": 3}, path)
        with pytest.raises(ValueError, match=r"perhaps under one of model, state_dict.*it holds best_params, epoch"):
            load_model(path, "cpu")
        torch.save({"model": state, "config": SimpleNamespace(a=1)}, path)
        with pytest.raises(ValueError, match=r"types\.SimpleNamespace.*torch\.load\('odd\.pt', weights_only"):
            load_model(path, "cpu")

    def test_version_2_0_is_told_from_its_keys(self, tmp_path: Path) -> None:
        old = SAM2(preset("sam2-hiera-tiny"))
        torch.save({"model": old.state_dict()}, tmp_path / "old.pt")
        assert load_model(tmp_path / "old.pt", "cpu").config == preset("sam2-hiera-tiny")

    def test_bare_safetensors_with_official_names(self, tiny: SAM2, tmp_path: Path) -> None:
        save_file(tiny.state_dict(), tmp_path / "bare.safetensors")
        assert same(tiny, load_model(tmp_path / "bare.safetensors", "cpu"))

    def test_another_side(self, toy: SAM2, tmp_path: Path) -> None:
        path = save_model(toy, tmp_path / "toy.safetensors")
        assert load_model(path, "cpu", side=96).config.side == 96
        with pytest.raises(ValueError, match="multiple of 32"):
            load_model(path, "cpu", side=100)

    def test_missing_unknown_and_misshapen_weights_are_named(self, tiny: SAM2, tmp_path: Path) -> None:
        state = tiny.state_dict()
        del state["no_mem_embed"]
        state["wings"] = torch.zeros(2)
        state["no_obj_ptr"] = torch.zeros(1, 7)
        torch.save(state, tmp_path / "odd.pt")
        with pytest.raises(ValueError, match=r"1 missing \(such as no_mem_embed\).*wings.*no_obj_ptr"):
            load_model(tmp_path / "odd.pt", "cpu")

    def test_a_cut_off_file(self, toy: SAM2, tmp_path: Path) -> None:
        content = saved_bytes(toy, tmp_path)
        (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="download it again"):
            load_model(tmp_path / "half.safetensors", "cpu")

    def test_a_cut_off_pickle(self, tiny: SAM2, tmp_path: Path) -> None:
        torch.save(tiny.state_dict(), tmp_path / "whole.pt")
        (tmp_path / "half.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:100_000])
        with pytest.raises(ValueError, match=r"half\.pt"):
            load_model(tmp_path / "half.pt", "cpu")

    def test_a_pickle_that_would_run_code(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple:
                return (Path(tmp_path / "sprung").touch, ())

        (tmp_path / "trap.pt").write_bytes(pickle.dumps({"model": Trap()}))
        with pytest.raises(ValueError, match=r"trap\.pt"):
            load_model(tmp_path / "trap.pt", "cpu")
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02."])
    def test_a_pickle_that_is_none(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "odd.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"odd\.pt"):
            load_model(tmp_path / "odd.pt", "cpu")

    def test_metadata_that_says_nothing(self, tmp_path: Path) -> None:
        save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata={"sam2kit": "{}"})
        with pytest.raises(ValueError, match="metadata"):
            load_model(tmp_path / "odd.safetensors", "cpu")

    def test_something_else_entirely(self, tmp_path: Path) -> None:
        save_file({"layer.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match="not a SAM 2 model"):
            load_model(tmp_path / "other.safetensors", "cpu")

    def test_a_folder_with_two_files(self, toy: SAM2, tmp_path: Path) -> None:
        save_model(toy, tmp_path / "a.safetensors")
        save_model(toy, tmp_path / "b.safetensors")
        with pytest.raises(ValueError, match="2 weight files"):
            load_model(tmp_path, "cpu")

    def test_nothing_half_written_stays(self, toy: SAM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = save_model(toy, tmp_path / "toy.safetensors")
        before = path.read_bytes()

        def full_disk(_state: dict, file: Path, **_: object) -> None:
            file.write_bytes(b"half")
            raise OSError("No space left on device")

        monkeypatch.setattr("sam2kit.weight_files.save_file", full_disk)
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
        assert choose_dtype("auto", torch.device("cpu")) == torch.float32
        assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
        with pytest.raises(ValueError, match="float32, bfloat16, float16"):
            choose_dtype("int8", torch.device("cpu"))
        for unknown in ("toaster", "meta", "xpu"):
            with pytest.raises(ValueError, match="unknown device"):
                choose_device(unknown)
        if not torch.cuda.is_available():
            with pytest.raises(ValueError, match="0 CUDA GPUs"):
                choose_device("cuda")

    @pytest.mark.parametrize(
        ("gpu", "capability", "wanted"),
        [
            ("T4", (7, 5), "float16"),
            ("V100", (7, 0), "float16"),
            ("3060", (8, 6), "bfloat16"),
            ("H200", (9, 0), "bfloat16"),
        ],
    )
    def test_auto_is_what_a_gpu_computes_in(
        self, monkeypatch: pytest.MonkeyPatch, gpu: str, capability: tuple[int, int], wanted: str
    ) -> None:
        """torch itself counts GPUs that only imitate bfloat16."""
        gpus(monkeypatch, capability)
        assert choose_dtype("auto", torch.device("cuda")) == getattr(torch, wanted), gpu
        assert choose_dtype("float32", torch.device("cuda")) == torch.float32

    def test_auto_asks_the_chosen_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpus(monkeypatch, (8, 6), (7, 5))
        chosen = [choose_dtype("auto", torch.device(name)) for name in ("cuda", "cuda:0", "cuda:1", "mps", "cpu")]
        assert chosen == [torch.bfloat16, torch.bfloat16, torch.float16, torch.float32, torch.float32]

    def test_auto_believes_torch_on_amd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpus(monkeypatch, (9, 0))
        monkeypatch.setattr(torch.version, "hip", "6.2")
        for told, wanted in ((True, torch.bfloat16), (False, torch.float16)):
            monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda told=told: told)
            assert choose_dtype("auto", torch.device("cuda")) == wanted

    def test_the_bundled_model(self, nano: SAM2) -> None:
        assert nano.config == preset("nano")
        assert find_weights("nano").stat().st_size <= 8 * 2**20


class TestRoundedWeights:
    """On CUDA GPUs weights are kept in the dtype that is computed in, unless they are to be trained."""

    def test_where(self) -> None:
        for device in (torch.device("cuda"), torch.device("cuda:1")):
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                assert weights_dtype(dtype, device, trainable=False) == dtype
                assert weights_dtype(dtype, device, trainable=True) == torch.float32
        for device in (torch.device("cpu"), torch.device("mps")):
            assert weights_dtype(torch.bfloat16, device, trainable=False) == torch.float32

    def test_loading(self, on_cuda: None) -> None:
        model = load_model("nano", "cpu", "bfloat16")
        assert (model.weight_dtype, model.compute_dtype) == (torch.bfloat16, torch.bfloat16)
        assert model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.dtype == torch.float32
        model = load_model("nano", "cpu", "bfloat16", trainable=True)
        assert (model.weight_dtype, model.compute_dtype) == (torch.float32, torch.bfloat16)

    def test_what_trains_has_float32(self, on_cuda: None, toy: SAM2, tmp_path: Path) -> None:
        base = save_model(toy, tmp_path / "toy.safetensors")
        assert build_sam2("sam2.1_hiera_t.yaml", base, device="cpu").weight_dtype == torch.float32
        _, model = load_base(str(base), Budget(device="cpu", precision="bfloat16"))
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


def gpus(monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int]) -> None:
    """Let torch see GPUs of these kinds, the first of them the current one."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(capabilities))
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(
        "torch.cuda.get_device_capability", lambda device=None: capabilities[torch.device(device).index or 0]
    )


class TestHub:
    def test_a_real_layout_downloads_once_and_then_comes_from_the_cache(
        self, hub: LoopbackHub, tmp_path: Path, tiny: SAM2
    ) -> None:
        half = {k: v.half() for k, v in tiny.state_dict().items()}
        torch.save({"model": half}, tmp_path / "tiny.pt")
        hub.repos["facebook/sam2.1-hiera-tiny"] = {
            "config.json": b"{}",
            "sam2.1_hiera_tiny.pt": (tmp_path / "tiny.pt").read_bytes(),
        }
        first = load_model("sam2.1-hiera-tiny", "cpu")
        hub.stop()
        assert same(first, load_model("facebook/sam2.1-hiera-tiny", "cpu"))

    def test_safetensors_are_preferred(self, hub: LoopbackHub, tmp_path: Path, toy: SAM2) -> None:
        hub.repos["me/toy"] = {"model.safetensors": saved_bytes(toy, tmp_path), "old.pt": b"never read"}
        assert same(toy, load_model("me/toy", "cpu"))
        hub.stop()
        assert same(toy, load_model("me/toy", "cpu"))

    def test_a_new_version_is_noticed(self, hub: LoopbackHub, tmp_path: Path, toy: SAM2) -> None:
        hub.repos["me/toy"] = {"model.safetensors": saved_bytes(toy, tmp_path)}
        load_model("me/toy", "cpu")
        torch.nn.init.ones_(toy.no_mem_embed)
        hub.repos["me/toy"]["model.safetensors"] = saved_bytes(toy, tmp_path)
        assert same(toy, load_model("me/toy", "cpu"))

    def test_no_such_repo(self, hub: LoopbackHub) -> None:
        with pytest.raises(HubError, match="no repo 'me/nothing'"):
            load_model("me/nothing")

    def test_no_weights_in_the_repo(self, hub: LoopbackHub) -> None:
        hub.repos["me/empty"] = {"README.md": b"hello"}
        with pytest.raises(HubError, match="0 weight files"):
            load_model("me/empty")

    @pytest.mark.parametrize("trouble", ["500", "silence", "gone"])
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

    def test_wrong_content_is_named(self, hub: LoopbackHub, tmp_path: Path, tiny: SAM2) -> None:
        hub.repos["me/wrong"] = {"model.safetensors": b"this is no weight file"}
        with pytest.raises(ValueError, match="cannot be read as weights"):
            load_model("me/wrong", "cpu")
        state = {k: v.half() for k, v in tiny.state_dict().items()}
        del state["obj_ptr_proj.layers.0.weight"]
        state["no_mem_embed"] = torch.zeros(1, 1, 3)
        save_file(state, tmp_path / "a.safetensors")
        hub.repos["me/odd"] = {"model.safetensors": (tmp_path / "a.safetensors").read_bytes()}
        with pytest.raises(ValueError, match=r"1 missing \(such as obj_ptr_proj.*no_mem_embed"):
            load_model("me/odd", "cpu")

    def test_pushing(self, toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
        pushed = {}

        class Api:
            def create_repo(self, repo_id: str, **options: object) -> None:
                pushed["repo"] = (repo_id, options["private"])

            def upload_file(self, *, path_or_fileobj: Path, path_in_repo: str, repo_id: str) -> SimpleNamespace:
                pushed[path_in_repo] = Path(path_or_fileobj).read_bytes()
                return SimpleNamespace(commit_url=f"https://hub/{repo_id}")

        monkeypatch.setattr("sam2kit.weights.HfApi", Api)
        assert push_to_hub(toy, "me/toy", private=True) == "https://hub/me/toy"
        assert pushed["repo"] == ("me/toy", True)
        assert pushed["model.safetensors"]

    def test_a_name_that_cannot_be(self, hub: LoopbackHub) -> None:
        with pytest.raises(HubError, match="no Hub id"):
            load_model("me/.hidden..name")
        assert not hub.requests
