"""A fine-tuning on the Hub: there and back, refusals, and the page that goes with it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam2kit.finetuned import LowRank, read_finetuned, save_finetuned, with_metrics
from sam2kit.hub import HubError
from sam2kit.model.sam2 import SAM2
from sam2kit.model_card import model_card, write_model_card
from sam2kit.weights import load_model, push_to_hub
from tests.finetuned_maker import edit_json, finetuned_nano, finetuned_toy
from tests.loopback_hub import LoopbackHub
from tests.test_weights import same


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuning of nano, for reading only."""
    return finetuned_nano(tmp_path_factory.mktemp("runs") / "leaves")


@pytest.fixture
def copy(tuned: Path, tmp_path: Path) -> Path:
    """The same, to be spoiled."""
    return Path(shutil.copytree(tuned, tmp_path / "leaves"))


class TestHub:
    def test_there_and_back(self, hub: LoopbackHub, tuned: Path) -> None:
        address = push_to_hub(tuned, "me/leaves")
        assert address.startswith(f"http://127.0.0.1:{hub.port}/me/leaves/commit/")
        assert set(hub.repos["me/leaves"]) == {"finetuned.safetensors", "finetuned.json", "README.md"}
        assert same(load_model("me/leaves", "cpu"), load_model(tuned, "cpu"))
        hub.stop()
        assert same(load_model("me/leaves", "cpu"), load_model(tuned, "cpu"))

    def test_half_a_download_is_none(self, hub: LoopbackHub) -> None:
        hub.repos["me/half"] = {"finetuned.safetensors": b"no JSON beside it"}
        with pytest.raises(HubError, match="0 weight files"):
            load_model("me/half", "cpu")

    def test_half_precision(self, hub: LoopbackHub, tuned: Path) -> None:
        push_to_hub(tuned, "me/leaves", dtype=torch.float16)
        whole = (tuned / "finetuned.safetensors").stat().st_size
        assert len(hub.repos["me/leaves"]["finetuned.safetensors"]) < 0.6 * whole
        load_model("me/leaves", "cpu")

    def test_a_whole_model(self, hub: LoopbackHub, toy: SAM2) -> None:
        push_to_hub(toy, "me/toy")
        assert same(load_model("me/toy", "cpu"), toy)

    def test_a_base_on_the_hub(self, hub: LoopbackHub, toy: SAM2, tmp_path: Path) -> None:
        push_to_hub(toy, "me/toy")
        folder, trained = finetuned_toy(tmp_path, toy)
        edit_json(folder, base="me/toy")
        push_to_hub(folder, "me/tuned-toy")
        assert same(load_model("me/tuned-toy", "cpu"), trained)
        assert "base_model: me/toy" in hub.repos["me/tuned-toy"]["README.md"].decode()
        del hub.repos["me/toy"]
        edit_json(folder, base="me/gone")
        with pytest.raises(HubError, match=r"the base of .* is missing: the Hub has no repo 'me/gone'"):
            load_model(folder, "cpu")

    def test_a_local_base_is_not_pushed(self, hub: LoopbackHub, toy: SAM2, tmp_path: Path) -> None:
        folder, _ = finetuned_toy(tmp_path, toy)
        with pytest.raises(ValueError, match="which others do not have"):
            push_to_hub(folder, "me/toy")
        assert not hub.repos

    def test_what_is_no_fine_tuning(self, hub: LoopbackHub, tmp_path: Path, tuned: Path) -> None:
        with pytest.raises(ValueError, match="holds no fine-tuning"):
            push_to_hub(tmp_path, "me/nothing")
        hub.repos["me/whole"] = {"model.safetensors": b"a model"}
        with pytest.raises(ValueError, match="holds a whole model"):
            push_to_hub(tuned, "me/whole")
        assert list(hub.repos["me/whole"]) == ["model.safetensors"]

    def test_refusals_and_silence(self, hub: LoopbackHub, tuned: Path) -> None:
        hub.trouble = "read only"
        with pytest.raises(HubError, match=r"did not take me/leaves .*hf auth login"):
            push_to_hub(tuned, "me/leaves")
        with pytest.raises(HubError, match="no Hub id"):
            push_to_hub(tuned, "me/.hidden..name")
        hub.stop()
        with pytest.raises(HubError, match="broke off"):
            push_to_hub(tuned, "me/leaves")


class TestModelCard:
    def test_what_it_says(self, copy: Path) -> None:
        text = write_model_card(copy, "me/leaves").read_text()
        header, body = text.removeprefix("---\n").split("\n---\n")
        assert "library_name: sam2kit" in header and "pipeline_tag: mask-generation" in header
        assert "license: apache-2.0" in header and "null" not in header
        assert "| 1 click | 0.400 | 0.710 |" in body and "| objects | 12 | 12 |" in body
        assert 'load_model("me/leaves")' in body and "*leaves*" in body and "`decoder` recipe" in body
        assert "of the mask decoder." in body and "## Limits" in body and "memory is the base's" in body

    def test_published_bases_and_lora(self, copy: Path, nano: SAM2) -> None:
        weight = "image_encoder.trunk.blocks.0.attn.qkv.weight"
        out, wide = nano.state_dict()[weight].shape
        pair = LowRank(torch.ones(4, wide), torch.ones(out, 4), 2.0)
        state = nano.state_dict()
        save_finetuned(copy, state, state, replace(read_finetuned(copy), base="sam2.1-hiera-tiny"), {weight: pair})
        text = model_card(copy)
        assert "base_model: facebook/sam2.1-hiera-tiny" in text and "base_model_relation: adapter" in text
        assert "LoRA, rank 4) to 1 layers of the image encoder" in text

    def test_a_page_of_ones_own_stays(self, copy: Path, hub: LoopbackHub) -> None:
        (copy / "README.md").write_text("# Mine\n")
        write_model_card(copy)
        assert (copy / "README.md").read_text() == "# Mine\n"
        push_to_hub(copy, "me/leaves")
        assert hub.repos["me/leaves"]["README.md"] == b"# Mine\n"

    def test_nothing_measured(self, copy: Path) -> None:
        with_metrics(copy, {})
        assert "Before and after" not in model_card(copy)
        with_metrics(copy, {"leaves": {"before": {"box": 0.5}, "after": {"box": 0.75}}})
        assert "### leaves\n\n| | before | after |" in model_card(copy)
