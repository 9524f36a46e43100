"""What a fine-tuning leaves: small, exact, refused where it does not belong, and welcome wherever models are."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sam2kit.cli import main
from sam2kit.finetuned import (
    FineTuning,
    LowRank,
    fingerprint,
    read_changes,
    read_finetuned,
    save_finetuned,
    with_metrics,
)
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor
from sam2kit.weight_files import in_dtype
from sam2kit.weights import load_model, save_model
from tests.finetuned_maker import MOVED, edit_json, finetuned_nano, finetuned_toy, moved
from tests.test_weights import same


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuning of nano, for reading only."""
    return finetuned_nano(tmp_path_factory.mktemp("runs") / "leaves")


@pytest.fixture
def copy(tuned: Path, tmp_path: Path) -> Path:
    """The same, to be spoiled."""
    return Path(shutil.copytree(tuned, tmp_path / "leaves"))


class TestSaving:
    def test_only_what_changed_is_stored(self, tuned: Path, nano: SAM2) -> None:
        stored = load_file(tuned / "finetuned.safetensors")
        assert stored.keys() == {k for k in nano.state_dict() if k.startswith(MOVED)}
        whole = sum(v.numel() for v in nano.state_dict().values()) * 4
        assert (tuned / "finetuned.safetensors").stat().st_size < whole / 10
        assert sorted(p.name for p in tuned.iterdir()) == ["finetuned.json", "finetuned.safetensors"]

    def test_the_json_tells_everything(self, tuned: Path, nano: SAM2) -> None:
        about = read_finetuned(tuned)
        assert about.base == "nano" and about.base_side == 256 and about.seed == 3
        assert about.base_fingerprint == fingerprint(nano.state_dict())
        assert about.metrics["after"]["1 click"] == 0.71
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

    def test_an_older_result_stays_until_the_new_one_is_complete(
        self, copy: Path, nano: SAM2, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = (copy / "finetuned.safetensors").read_bytes()

        def full_disk(_state: dict, file: Path, **_: object) -> None:
            file.write_bytes(b"half")
            raise OSError("No space left on device")

        monkeypatch.setattr("sam2kit.weight_files.save_file", full_disk)
        with pytest.raises(OSError, match="No space"):
            save_finetuned(copy, nano, nano.state_dict(), FineTuning("nano"))
        assert (copy / "finetuned.safetensors").read_bytes() == before
        assert read_finetuned(copy).seed == 3

    def test_a_fingerprint_knows_values_names_and_shapes(self, nano: SAM2) -> None:
        state = dict(nano.state_dict())
        first = fingerprint(state)
        assert fingerprint(dict(reversed(state.items()))) == first
        assert fingerprint({k: v.double() for k, v in state.items()}) == first
        assert fingerprint(state | {"no_mem_embed": state["no_mem_embed"] + 1e-6}) != first
        assert fingerprint(state | {"no_mem_embed": state["no_mem_embed"].flatten()}) != first


class TestLoading:
    def test_bit_for_bit(self, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded = load_model(tuned, "cpu")
        assert same(loaded, moved(load_model("nano", "cpu")))
        assert loaded.memory_is_trained and not loaded.training
        for other in (tuned / "finetuned.safetensors", tuned / "finetuned.json"):
            assert same(loaded, load_model(other, "cpu"))
        monkeypatch.chdir(tuned.parent)
        assert same(loaded, load_model("leaves", "cpu"))

    def test_low_rank_additions_to_layers_and_convolutions(self, nano: SAM2, tmp_path: Path) -> None:
        state = nano.state_dict()
        names = ("image_encoder.trunk.blocks.0.attn.qkv.weight", "image_encoder.trunk.patch_embed.proj.weight")
        pairs = {}
        for name in names:
            out, *rest = state[name].shape
            pairs[name] = LowRank(torch.randn(2, *rest), torch.randn(out, 2, *[1] * (len(rest) - 1)), 0.5)
        loaded = load_model(save_finetuned(tmp_path, state, state, FineTuning("nano"), pairs), "cpu").state_dict()
        for name, pair in pairs.items():
            rows = state[name].flatten(1) + 0.5 * pair.up.flatten(1) @ pair.down.flatten(1)
            torch.testing.assert_close(loaded[name].flatten(1), rows)
        assert all(torch.equal(loaded[k], state[k]) for k in state if k not in names)

    def test_arguments_of_load_model(self, tuned: Path) -> None:
        model = load_model(tuned, "cpu", "bfloat16", side=128)
        assert model.config.side == 128 and model.compute_dtype == torch.bfloat16

    def test_half_precision(self, tuned: Path, tmp_path: Path) -> None:
        shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
        in_dtype(tuned / "finetuned.safetensors", tmp_path / "finetuned.safetensors", torch.float16)
        halves = [(tmp_path / "finetuned.safetensors").stat().st_size, (tuned / "finetuned.safetensors").stat().st_size]
        assert halves[0] < 0.6 * halves[1]
        exact, rough = load_model(tuned, "cpu").state_dict(), load_model(tmp_path, "cpu").state_dict()
        assert all(torch.allclose(exact[k], rough[k], rtol=1e-3, atol=1e-6) for k in exact)

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

    def test_a_base_beside_it_moves_along(self, toy: SAM2, tmp_path: Path) -> None:
        _, trained = finetuned_toy(tmp_path / "here", toy)
        shutil.move(tmp_path / "here", tmp_path / "there")
        assert same(load_model(tmp_path / "there" / "tuned", "cpu"), trained)

    def test_a_base_in_the_working_directory(self, toy: SAM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder, trained = finetuned_toy(tmp_path, toy)
        edit_json(folder, base="base/toy.safetensors")
        monkeypatch.chdir(tmp_path)
        assert same(load_model("tuned", "cpu"), trained)

    def test_the_working_directory_of_the_training_does_not_matter(
        self, toy: SAM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finetuned_toy(tmp_path, toy)
        base = load_model(tmp_path / "tuned", "cpu")
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            save_finetuned("runs/again", toy, base.state_dict(), FineTuning("tuned"))
        assert read_finetuned(tmp_path / "runs" / "again").base == "./../../tuned"
        assert same(load_model(tmp_path / "runs" / "again", "cpu"), toy)

    def test_a_fine_tuning_of_a_fine_tuning(self, tuned: Path, tmp_path: Path) -> None:
        base = load_model(tuned, "cpu")
        again = load_model(tuned, "cpu")
        torch.nn.init.ones_(again.no_mem_embed)
        folder = save_finetuned(tmp_path / "again", again, base.state_dict(), FineTuning(str(tuned)))
        assert list(read_changes(folder).tensors) == ["no_mem_embed"]
        assert same(load_model(folder, "cpu"), again)

    def test_entries_of_a_newer_version_are_left_aside(self, copy: Path) -> None:
        edit_json(copy, mood="good")
        assert "mood" not in asdict(read_finetuned(copy))
        load_model(copy, "cpu")


class TestRefusing:
    def test_a_changed_base(self, toy: SAM2, tmp_path: Path) -> None:
        folder, _ = finetuned_toy(tmp_path, toy)
        torch.nn.init.ones_(toy.no_mem_embed)
        save_model(toy, tmp_path / "base" / "toy.safetensors")
        with pytest.raises(ValueError, match=r"from other weights than '\.\./base/toy\.safetensors' holds now"):
            load_model(folder, "cpu")

    def test_a_missing_base(self, toy: SAM2, tmp_path: Path) -> None:
        folder, _ = finetuned_toy(tmp_path, toy)
        (tmp_path / "base" / "toy.safetensors").unlink()
        with pytest.raises(FileNotFoundError, match="which is not there; put it back"):
            load_model(folder, "cpu")

    def test_a_base_that_is_itself(self, copy: Path) -> None:
        edit_json(copy, base=".")
        with pytest.raises(ValueError, match="its own base"):
            load_model(copy, "cpu")
        edit_json(copy, base="huge")
        with pytest.raises(ValueError, match=r"the base of .*leaves cannot be used: unknown model 'huge'"):
            load_model(copy, "cpu")

    def test_tensors_that_do_not_fit(self, copy: Path, nano: SAM2) -> None:
        file = copy / "finetuned.safetensors"
        metadata = {"sam2kit": json.dumps({"config": None, "memory_is_trained": None, "low_rank": {}})}
        for name in ("no_mem_embed", "wings"):
            save_file({name: torch.zeros(3)}, file, metadata=metadata)
            with pytest.raises(ValueError, match=f"has no weight {name}, or one of another shape"):
                load_model(copy, "cpu")
        weight = "memory_attention.layers.0.linear1.weight"
        metadata["sam2kit"] = json.dumps({"config": None, "memory_is_trained": None, "low_rank": {weight: 1.0}})
        save_file({weight + ".lora_down": torch.zeros(2, 5), weight + ".lora_up": torch.zeros(5, 2)}, file, metadata)
        with pytest.raises(ValueError, match=weight):
            load_model(copy, "cpu")
        save_file({weight + ".lora_down": torch.zeros(2, 5)}, file, metadata)
        with pytest.raises(ValueError, match="not wholly"):
            load_model(copy, "cpu")

    def test_a_cut_off_file(self, copy: Path) -> None:
        file = copy / "finetuned.safetensors"
        file.write_bytes(file.read_bytes()[:2000])
        with pytest.raises(ValueError, match=r"finetuned\.safetensors cannot be read as weights .* cut off"):
            load_model(copy, "cpu")
        file.unlink()
        with pytest.raises(FileNotFoundError, match=r"no weight file at .*finetuned\.safetensors"):
            load_model(copy, "cpu")

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"base": 7}', '{"base": "nano", "recipe": "lora"}'])
    def test_a_broken_json(self, copy: Path, content: str) -> None:
        (copy / "finetuned.json").write_text(content)
        with pytest.raises(ValueError, match=r"finetuned\.json cannot be used \(.*\); copy or download"):
            load_model(copy, "cpu")

    def test_its_weights_alone_are_no_model(self, tuned: Path, tmp_path: Path) -> None:
        shutil.copy(tuned / "finetuned.safetensors", tmp_path / "mine.safetensors")
        with pytest.raises(ValueError, match="only what a fine-tuning changed"):
            load_model(tmp_path / "mine.safetensors", "cpu")
        (tmp_path / "mine.safetensors").rename(tmp_path / "finetuned.safetensors")
        with pytest.raises(ValueError, match=r"there is no finetuned\.json"):
            load_model(tmp_path / "finetuned.safetensors", "cpu")


class TestEverywhere:
    """A folder loads wherever a model's name is asked for, and its masks are not nano's."""

    def test_image_predictor(self, tuned: Path, nano: SAM2, assets: Path) -> None:
        masks = []
        for model in (nano, load_model(tuned, "cpu")):
            predictor = ImagePredictor(model)
            embedding = predictor.encode(assets / "photos" / "coffee.jpg")
            masks.append(predictor.predict(embedding, Prompt([[290, 60]], [1])).best().masks)
        assert masks[0].shape == masks[1].shape
        assert not torch.equal(*masks)

    def test_video_predictor(self, tuned: Path, nano: SAM2) -> None:
        clip = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
        logits = []
        for model in (nano, load_model(tuned, "cpu")):
            predictor = VideoPredictor(model)
            session = predictor.open(clip)
            predictor.add_points(session, 0, 1, [[30, 30]], [1])
            logits.append([frame.low_res.float() for frame in predictor.propagate(session)])
        assert len(logits[0]) == len(logits[1]) == 3
        assert all(not torch.equal(a, b) for a, b in zip(*logits, strict=True))

    def test_command_line(self, tuned: Path, assets: Path, tmp_path: Path) -> None:
        photo = str(assets / "photos" / "coffee.jpg")
        for model in ("nano", str(tuned)):
            out = tmp_path / Path(model).name
            assert main(["image", photo, "--point", "290,60", "--model", model, "--out", str(out)]) == 0
        masks = [np.array(Image.open(tmp_path / name / "coffee_mask1.png")) for name in ("nano", "leaves")]
        assert masks[0].shape == masks[1].shape and (masks[0] != masks[1]).any()

    def test_app(self, tuned: Path, nano: SAM2, monkeypatch: pytest.MonkeyPatch, assets: Path) -> None:
        import gradio

        import app
        from sam2kit.ui import layout

        opened, launched = [], []
        build = layout.build_app

        def build_and_note(model: layout.AppModel, *rest: object, **more: object) -> gradio.Blocks:
            opened.append(model)
            return build(model, *rest, **more)

        monkeypatch.setattr(layout, "build_app", build_and_note)
        monkeypatch.setattr(gradio.Blocks, "launch", lambda page, **_: launched.append(page))
        assert app.main(["--model", str(tuned), "--device", "cpu"]) == 0
        assert len(launched) == 1 and opened[0].name == str(tuned) and not opened[0].notice
        predictors = [ImagePredictor(model) for model in (nano, opened[0].model)]
        photo, prompt = assets / "photos" / "coffee.jpg", Prompt([[290, 60]], [1])
        ours, theirs = (p.predict(p.encode(photo), prompt).best().masks for p in predictors)
        assert not torch.equal(ours, theirs)
