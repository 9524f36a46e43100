"""Training, evaluation and the app on a CUDA device that is not there, see test_pretended_cuda.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401 - before a device is pretended: what it imports asks for one
import numpy as np
import pytest
import supervision  # noqa: F401
import torch
from PIL import Image

from sam2kit.app.api import Endpoints
from sam2kit.app.jobs import seconds_per_frame
from sam2kit.app.limits import Limits
from sam2kit.app.models import LoadedModel
from sam2kit.app.queue import FairQueue
from sam2kit.app.zero_gpu import GpuWork, pack, unpack
from sam2kit.data.opening import open_dataset
from sam2kit.evaluation.runs import Settings, evaluate_dataset
from sam2kit.model.sam2 import SAM2
from sam2kit.notebook.activations import attention_weights, record_calls
from sam2kit.notebook.attention_maps import decoder_attention_maps, memory_attention_maps
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor
from sam2kit.training import finetune as module
from sam2kit.training.finetune import finetune
from sam2kit.weights import load_model, save_model
from tests.app.clicks import Canvas, models_of, tab_of
from tests.pretend_cuda import OnCuda, pretend_cuda
from tests.test_pretended_cuda import FRAMES, model_on
from tests.toy_model import toy_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A toy model in a file, as a base to train from."""
    return save_model(toy_model(), tmp_path / "base.safetensors")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures with a bright square each."""
    for number in range(3):
        write(tmp_path / "p", f"{number}.png", number, 0)
    return tmp_path / "p"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips of three frames in which a square moves."""
    for number in range(2):
        for t in range(3):
            write(tmp_path / "c", f"clip{number}/{t:05d}.png", number, t, images="JPEGImages", masks="Annotations")
    return tmp_path / "c"


def write(folder: Path, name: str, seed: int, t: int, images: str = "images", masks: str = "masks") -> None:
    picture, mask = np.random.default_rng(seed).integers(0, 60, (48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
    mask[8 + t : 26 + t, 6 + 3 * t : 24 + 3 * t] = 1
    picture[mask > 0] += 150
    for part, array in ((images, picture), (masks, mask)):
        path = (folder / part / name).with_suffix(".jpg" if part == "JPEGImages" else ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


# training


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "data", "precision"),
    [
        ("decoder", "pictures", "bfloat16"),
        ("lora", "pictures", "bfloat16"),
        ("full", "pictures", "float32"),
        ("memory", "clips", "bfloat16"),
        ("official", "clips", "bfloat16"),
    ],
)
def test_training_and_its_evaluation(
    recipe: str, data: str, precision: str, base: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_STEPS", 1)
    folder: Path = request.getfixturevalue(data)
    overrides = {
        "epochs": 1, "batch": 1, "objects": 1, "frames": 2, "corrections": 1, "evaluated_samples": 1,
        "forgetting_check": False, "pictures": 0, "device": "cuda", "precision": precision,
    }  # fmt: skip
    with pretend_cuda(training=True) as notes:
        result = finetune(base, folder, recipe, out=folder.parent / "out", **overrides)
        assert notes.launches["convolution_backward"] or recipe in ("decoder", "memory"), "trained there"
        assert notes.launches["_to_copy"]
    assert 0 <= result.after["score"] <= 1
    before, after = (load_model(path, "cpu").state_dict() for path in (base, result.folder))
    assert any(not torch.equal(before[name], after[name]) for name in before)


# evaluation, attention maps


@pytest.mark.slow
def test_evaluation_protocols(pictures: Path, clips: Path) -> None:
    samples = {"clicks": pictures, "vos": clips, "offline": clips, "online": clips}
    measure = {"clicks": "click3"}

    def score(device: str, protocol: str) -> list[float]:
        found = evaluate_dataset(
            model_on(device), open_dataset(samples[protocol]), Settings(protocol=protocol, limit=1)
        )
        assert found is not None and found.rows
        return [row.scores[measure.get(protocol, "J&F")] for row in found.rows]

    for protocol in samples:
        expected = score("cpu", protocol)
        with pretend_cuda():
            assert score("cuda", protocol) == pytest.approx(expected, abs=0.02), protocol


@pytest.mark.parametrize("cast", [False, True])
def test_attention_maps(cast: bool) -> None:
    with pretend_cuda():
        model = model_on("cuda", "bfloat16", cast=cast)
        predictor = ImagePredictor(model)
        embedding = predictor.encode(FRAMES[0])
        seen = decoder_attention_maps(predictor, embedding, Prompt([[30, 20]])).token_to_image.numpy()
        with record_calls(model, "image_encoder.trunk.blocks.*.attn") as calls:
            predictor.encode(FRAMES[0])
        name, (call, *_) = next(iter(calls.items()))
        weights = attention_weights(model.get_submodule(name), call).cpu().numpy()
        videos = VideoPredictor(model)
        session = videos.open(FRAMES[:4])
        videos.add_points(session, 0, "a", [[30, 20]])
        list(videos.propagate(session))
        back = memory_attention_maps(videos, session, 3, "a", [[30, 20], [5, 5]])
        shares = [back.map_shares.numpy(), back.pointer_shares.numpy()]
        assert len(session.masks(2).to_detections()) == 1
    assert np.isfinite(seen).all() and seen.max() > 0
    assert weights.sum(-1) == pytest.approx(1, abs=0.02)
    assert sum(s.reshape(2, -1).sum(1) for s in shares) == pytest.approx(1, abs=0.02)


# the app


@pytest.fixture
def small_nano() -> SAM2:
    """The bundled model at a small side, on the CPU."""
    return load_model("nano", "cpu", side=64)


def there(model: SAM2) -> SAM2:
    model.compute_dtype = torch.bfloat16
    return model.to("cuda")


def test_the_image_tab(small_nano: SAM2, assets: Path) -> None:
    with pretend_cuda():
        photos = sorted((assets / "photos").glob("*.jpg"))[:1]
        tab = tab_of("image", models_of(there(small_nano)), photos)
        tab.open_example(0, "me")
        clicked = Canvas(tab).clicks(300, 200)
        assert len(clicked["candidates"]["rows"]) == 3
        assert clicked["object"]["note"].startswith("predicted IoU")
        page = list(tab.jobs.find_everything("me", 2, 0.0, 0.0))[-1]
        assert page.status


def test_the_endpoints(small_nano: SAM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "one.png", 0, 0)
    file: Any = {
        "path": str(tmp_path / "images" / "one.png"),
        "orig_name": "one.png",
        "meta": {"_type": "gradio.FileData"},
    }
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with pretend_cuda():
        ends = Endpoints(LoadedModel.of(there(small_nano), "nano", FairQueue()), FairQueue(), Limits())
        _, coco = ends.segment_image(file, [{"points": [[14, 16]]}, {"box": [6, 8, 24, 26], "object": "it"}])
        assert [c["name"] for c in coco["categories"]] == ["object 1", "it"]
        ends.segment_everything(file, points_per_side=2, min_predicted_iou=0, min_stability=0)


def test_what_zero_gpu_packs() -> None:
    """Results go to another process as bytes, whatever device they are on."""
    with pretend_cuda():
        predictor = VideoPredictor(model_on("cuda", "bfloat16"), VideoOptions(forget=False))
        session = predictor.open(FRAMES[:3])
        predictor.add_points(session, 0, "a", [[30, 20]])
        list(predictor.propagate(session))
        packed = pack(session.objects)
        (here,), (again,) = unpack(packed).values(), unpack(packed, "cuda").values()
        for frame, memory in session.objects["a"].memories.items():
            assert not isinstance(here.memories[frame], OnCuda) and isinstance(again.memories[frame], OnCuda)
            assert torch.equal(here.memories[frame], memory.cpu())
        assert 0 < seconds_per_frame(predictor, session) < 60
        made = list(GpuWork.of(predictor.model).run(9, answers, FRAMES[0]))
        assert not isinstance(made[0], OnCuda)


def answers(model: SAM2, picture: np.ndarray) -> Iterator[torch.Tensor]:
    predictor = ImagePredictor(model)
    yield predictor.predict(predictor.encode(picture), Prompt([[30, 20]])).low_res
