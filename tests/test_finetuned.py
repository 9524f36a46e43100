"""What a fine-tuning leaves: small, exact, refused where it does not belong, and welcome wherever models are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sam2kit.finetuned import (
    FineTuning,
    LowRank,
    fingerprint,
    read_changes,
    read_finetuned,
    save_finetuned,
    with_metrics,
)
from sam2kit.hub import HubError
from sam2kit.model.sam2 import SAM2
from sam2kit.model_card import model_card, write_model_card
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from sam2kit.weights import load_model, push_to_hub, save_model
from tests.finetuned_maker import MOVED, edit_json, finetuned_nano, finetuned_toy, moved
from tests.loopback_hub import LoopbackHub
from tests.test_weights import same

QKV = "image_encoder.trunk.blocks.0.attn.qkv.weight"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuning of nano, for reading only."""
    return finetuned_nano(tmp_path_factory.mktemp("runs") / "leaves")


@pytest.fixture
def copy(tuned: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(tuned, tmp_path / "leaves"))


class TestSaving:
    def test_only_what_changed_is_stored(self, tuned: Path, nano: SAM2) -> None:
        stored = load_file(tuned / "finetuned.safetensors")
        assert stored.keys() == {k for k in nano.state_dict() if k.startswith(MOVED)}
        assert sorted(p.name for p in tuned.iterdir()) == ["finetuned.json", "finetuned.safetensors"]
        about = read_finetuned(tuned)
        assert about.base == "nano" and about.seed == 3
        assert about.base_fingerprint == fingerprint(nano.state_dict())
        assert about.metrics["after"]["click1"] == 0.71
        assert about.environment["torch"] == torch.__version__
        assert about.time.startswith("20")

    def test_numbers_of_other_libraries_become_plain(self, copy: Path) -> None:
        with_metrics(copy, {"before": {"a": np.float32(0.5)}, "after": {"a": torch.tensor(0.75)}})
        assert read_finetuned(copy).metrics == {"before": {"a": 0.5}, "after": {"a": 0.75}}

    def test_another_model_as_base_is_refused(self, toy: SAM2, nano: SAM2, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="not of the base's kind"):
            save_finetuned(tmp_path / "out", nano, toy.state_dict(), FineTuning("toy"))
        odd = {"no_mem_embed": LowRank(torch.zeros(2, 5), torch.zeros(3, 2), 1.0)}
        with pytest.raises(ValueError, match="no_mem_embed"):
            save_finetuned(tmp_path / "out", toy, toy.state_dict(), FineTuning("toy"), odd)
        assert not (tmp_path / "out").exists()

    def test_a_fingerprint_knows_values_names_and_shapes(self, nano: SAM2) -> None:
        state = dict(nano.state_dict())
        first = fingerprint(state)
        assert fingerprint({k: v.double() for k, v in reversed(state.items())}) == first
        assert fingerprint(state | {"no_mem_embed": state["no_mem_embed"] + 1e-6}) != first
        assert fingerprint(state | {"no_mem_embed": state["no_mem_embed"].flatten()}) != first


class TestLoading:
    def test_bit_for_bit(self, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded = load_model(tuned, "cpu")
        assert same(loaded, moved(load_model("nano", "cpu")))
        assert loaded.memory_is_trained and not loaded.training
        monkeypatch.chdir(tuned.parent)
        for other in (tuned / "finetuned.safetensors", tuned / "finetuned.json", "leaves"):
            assert same(loaded, load_model(other, "cpu"))

    def test_low_rank_additions_to_layers_and_convolutions(self, nano: SAM2, tmp_path: Path) -> None:
        state, pairs = nano.state_dict(), {}
        for name in (QKV, "image_encoder.trunk.patch_embed.proj.weight"):
            out, *rest = state[name].shape
            pairs[name] = LowRank(torch.randn(2, *rest), torch.randn(out, 2, *[1] * (len(rest) - 1)), 0.5)
        loaded = load_model(save_finetuned(tmp_path, state, state, FineTuning("nano"), pairs), "cpu").state_dict()
        for name, pair in pairs.items():
            rows = state[name].flatten(1) + 0.5 * pair.up.flatten(1) @ pair.down.flatten(1)
            torch.testing.assert_close(loaded[name].flatten(1), rows)
        assert all(torch.equal(loaded[k], state[k]) for k in state if k not in pairs)

    def test_another_side_and_an_untrained_memory_are_kept(self, toy: SAM2, tmp_path: Path) -> None:
        toy.memory_is_trained = False
        save_model(toy, tmp_path / "toy.safetensors")
        trained = moved(load_model(tmp_path / "toy.safetensors", "cpu", side=96))
        base = load_model(tmp_path / "toy.safetensors", "cpu").state_dict()
        for given in ({"trained": trained}, {"trained": trained.state_dict(), "config": trained.config}):
            save_finetuned(tmp_path / "out", base_state=base, about=FineTuning("../toy.safetensors"), **given)
            loaded = load_model(tmp_path / "out", "cpu")
            assert loaded.config.side == 96
            assert not loaded.memory_is_trained

    def test_where_a_base_is_looked_for(self, toy: SAM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _, trained = finetuned_toy(tmp_path / "here", toy)
        there = Path(shutil.move(tmp_path / "here", tmp_path / "there"))
        assert same(load_model(there / "tuned", "cpu"), trained), "a base beside it moves along"
        with monkeypatch.context() as patch:
            patch.chdir(there)
            edit_json(there / "tuned", base="base/toy.safetensors")
            assert same(load_model("tuned", "cpu"), trained), "or it is in the working directory"
            save_finetuned("runs/again", toy, trained.state_dict(), FineTuning("tuned"))
            edit_json(there / "tuned", base="../base/toy.safetensors")
        assert read_finetuned(there / "runs" / "again").base == "./../../tuned"
        assert same(load_model(there / "runs" / "again", "cpu"), toy), "which does not matter later"

    def test_a_fine_tuning_of_a_fine_tuning(self, tuned: Path, tmp_path: Path) -> None:
        base, again = load_model(tuned, "cpu"), load_model(tuned, "cpu")
        torch.nn.init.ones_(again.no_mem_embed)
        folder = save_finetuned(tmp_path / "again", again, base.state_dict(), FineTuning(str(tuned)))
        assert list(read_changes(folder).tensors) == ["no_mem_embed"]
        assert same(load_model(folder, "cpu"), again)


class TestRefusing:
    def test_a_changed_or_missing_base(self, toy: SAM2, tmp_path: Path) -> None:
        folder, _ = finetuned_toy(tmp_path, toy)
        torch.nn.init.ones_(toy.no_mem_embed)
        base = save_model(toy, tmp_path / "base" / "toy.safetensors")
        with pytest.raises(ValueError, match=r"from other weights than '\.\./base/toy\.safetensors' holds now"):
            load_model(folder, "cpu")
        base.unlink()
        with pytest.raises(FileNotFoundError, match="which is not there; put it back"):
            load_model(folder, "cpu")
        for other, message in ((".", "its own base"), ("huge", r"the base of .* cannot be used: unknown model 'huge'")):
            edit_json(folder, base=other)
            with pytest.raises(ValueError, match=message):
                load_model(folder, "cpu")

    @pytest.mark.parametrize(
        ("low_rank", "tensors", "message"),
        [
            ({}, {"no_mem_embed": torch.zeros(3)}, "has no weight no_mem_embed, or one of another shape"),
            ({}, {"wings": torch.zeros(3)}, "has no weight wings"),
            ({QKV: 1.0}, {QKV + ".lora_down": torch.zeros(2, 5), QKV + ".lora_up": torch.zeros(5, 2)}, QKV),
            ({QKV: 1.0}, {QKV + ".lora_down": torch.zeros(2, 5)}, "not wholly"),
        ],
    )
    def test_tensors_that_do_not_fit(self, copy: Path, low_rank: dict, tensors: dict, message: str) -> None:
        about = json.dumps({"config": None, "memory_is_trained": None, "low_rank": low_rank})
        save_file(tensors, copy / "finetuned.safetensors", metadata={"sam2kit": about})
        with pytest.raises(ValueError, match=message):
            load_model(copy, "cpu")

    def test_damaged_files(self, copy: Path, tmp_path: Path) -> None:
        file = copy / "finetuned.safetensors"
        shutil.copy(file, tmp_path / "mine.safetensors")
        with pytest.raises(ValueError, match="only what a fine-tuning changed"):
            load_model(tmp_path / "mine.safetensors", "cpu")
        file.write_bytes(file.read_bytes()[:2000])
        with pytest.raises(ValueError, match=r"finetuned\.safetensors cannot be read as weights .* cut off"):
            load_model(copy, "cpu")
        file.unlink()
        with pytest.raises(FileNotFoundError, match=r"no weight file at .*finetuned\.safetensors"):
            load_model(copy, "cpu")
        for content in ("", "[]", "{}", '{"base": 7}', '{"base": "nano", "recipe": "lora"}'):
            (copy / "finetuned.json").write_text(content)
            with pytest.raises(ValueError, match=r"finetuned\.json cannot be used \(.*\); copy or download"):
                load_model(copy, "cpu")


class TestHub:
    def test_there_and_back(self, hub: LoopbackHub, tuned: Path) -> None:
        address = push_to_hub(tuned, "me/leaves")
        assert address.startswith(f"http://127.0.0.1:{hub.port}/me/leaves/commit/")
        assert set(hub.repos["me/leaves"]) == {"finetuned.safetensors", "finetuned.json", "README.md"}
        push_to_hub(tuned, "me/small", dtype=torch.float16)
        whole = (tuned / "finetuned.safetensors").stat().st_size
        assert len(hub.repos["me/small"]["finetuned.safetensors"]) < 0.6 * whole
        assert same(load_model("me/leaves", "cpu"), load_model(tuned, "cpu"))
        hub.stop()
        assert same(load_model("me/leaves", "cpu"), load_model(tuned, "cpu"))

    def test_a_base_on_the_hub(self, hub: LoopbackHub, toy: SAM2, tmp_path: Path) -> None:
        folder, trained = finetuned_toy(tmp_path, toy)
        with pytest.raises(ValueError, match="which others do not have"):
            push_to_hub(folder, "me/tuned-toy")
        assert not hub.repos
        push_to_hub(toy, "me/toy")
        edit_json(folder, base="me/toy")
        push_to_hub(folder, "me/tuned-toy")
        assert same(load_model("me/tuned-toy", "cpu"), trained)
        assert "base_model: me/toy" in hub.repos["me/tuned-toy"]["README.md"].decode()
        edit_json(folder, base="me/gone")
        with pytest.raises(HubError, match=r"the base of .* is missing: the Hub has no repo 'me/gone'"):
            load_model(folder, "cpu")

    def test_refusals_and_silence(self, hub: LoopbackHub, tmp_path: Path, tuned: Path) -> None:
        with pytest.raises(ValueError, match="holds no fine-tuning"):
            push_to_hub(tmp_path, "me/nothing")
        hub.repos["me/whole"] = {"model.safetensors": b"a model"}
        with pytest.raises(ValueError, match="holds a whole model"):
            push_to_hub(tuned, "me/whole")
        assert list(hub.repos["me/whole"]) == ["model.safetensors"]
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
        assert "| click1 | 0.4 | 0.71 |" in body and "In percent" not in body, "without intervals, numbers as they are"
        assert 'load_model("me/leaves")' in body and "*leaves*" in body and "`decoder` recipe" in body
        assert "of the mask decoder." in body and "## Limits" in body and "memory is the base's" in body
        with_metrics(copy, {})
        assert "Before and after" not in model_card(copy)

    def test_published_bases_and_lora(self, copy: Path, nano: SAM2) -> None:
        state = nano.state_dict()
        out, wide = state[QKV].shape
        pair, about = LowRank(torch.ones(4, wide), torch.ones(out, 4), 2.0), read_finetuned(copy)
        save_finetuned(copy, state, state, replace(about, base="sam2.1-hiera-tiny"), {QKV: pair})
        text = model_card(copy)
        assert "base_model: facebook/sam2.1-hiera-tiny" in text and "base_model_relation: adapter" in text
        assert "LoRA, rank 4) to 1 layers of the image encoder" in text

    def test_a_page_of_ones_own_stays(self, copy: Path, hub: LoopbackHub) -> None:
        (copy / "README.md").write_text("# Mine\n")
        write_model_card(copy)
        assert (copy / "README.md").read_text() == "# Mine\n"
        push_to_hub(copy, "me/leaves")
        assert hub.repos["me/leaves"]["README.md"] == b"# Mine\n"


class TestEverywhere:
    """A folder is taken wherever a model's name is asked for, and its masks are not nano's."""

    def test_app(self, tuned: Path, nano: SAM2, monkeypatch: pytest.MonkeyPatch, assets: Path) -> None:
        import gradio

        import app
        from sam2kit.app import layout

        opened, launched = [], []
        build = layout.build_app
        monkeypatch.setattr(layout, "build_app", lambda *a, **more: opened.append(a[0]) or build(*a, **more))
        monkeypatch.setattr(gradio.Blocks, "launch", lambda page, **_: launched.append(page))
        assert app.main(["--model", str(tuned), "--device", "cpu"]) == 0
        assert len(launched) == 1 and opened[0].name == str(tuned) and not opened[0].notice
        predictors = [ImagePredictor(model) for model in (nano, opened[0].model)]
        photo, prompt = assets / "photos" / "coffee.jpg", Prompt([[290, 60]], [1])
        ours, theirs = (p.predict(p.encode(photo), prompt).best().masks for p in predictors)
        assert not torch.equal(ours, theirs)
