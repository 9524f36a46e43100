"""Prompts, embeddings and answers of the image predictor."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import supervision
import torch
from PIL import Image

from sam2kit.config import PRESETS
from sam2kit.media.drawing import grow_mask
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor, Masks
from sam2kit.predict.options import ImageOptions, VideoOptions
from sam2kit.predict.prompts import Prompt


def test_masks_of_pictures_grow_too(nano: SAM2, photo: np.ndarray) -> None:
    predictor = ImagePredictor(nano)
    embedding, prompt = predictor.encode(photo), Prompt([[30, 20]])
    plain = predictor.predict(embedding, prompt)
    grown = predictor.with_options(predictor.options.changed(grow=2.5)).predict(embedding, prompt)
    assert torch.equal(grown.logits, plain.logits)
    for was, now in zip(plain.masks.flatten(0, 1).numpy(), grown.masks.flatten(0, 1).numpy(), strict=True):
        assert np.array_equal(now, grow_mask(was, 2.5))


def test_prompts_that_are_understood() -> None:
    assert Prompt([[1, 2]]).labels.tolist() == [[1]]
    assert len(Prompt(torch.zeros(3, 2, 2, dtype=torch.bfloat16, requires_grad=True), np.ones((3, 2)))) == 3
    assert len(Prompt(box_xyxy=[[0, 0, 1, 1], [1, 1, 2, 2]])) == 2
    assert len(Prompt(mask_logits=torch.zeros(1, 16, 16))) == 1
    assert Prompt([[1, 2]]).is_ambiguous
    assert not Prompt([[1, 2]], box_xyxy=[0, 0, 3, 3]).is_ambiguous
    tensors = Prompt([[10, 10]], [0], [0, 0, 60, 40]).to_square((40, 60), 64, torch.device("cpu"))
    assert tensors.labels.tolist() == [[2, 3, 0]], "a box comes before the clicks"
    assert tensors.points_xy[0, 1].tolist() == [64, 64]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "empty prompt"),
        ({"points_xy": [1, 2, 3]}, r"\[N, 2\]"),
        ({"points_xy": [[1, 2, 3]]}, r"\[N, 2\]"),
        ({"points_xy": [["a", "b"]]}, "finite numbers"),
        ({"points_xy": [[1, float("nan")]]}, "finite numbers"),
        ({"points_xy": np.zeros((1, 0, 2))}, "shape"),
        ({"points_xy": np.zeros((1001, 2))}, "1000 are the most"),
        ({"points_xy": [[1, 2]], "labels": [1, 1]}, "one per point"),
        ({"points_xy": [[1, 2]], "labels": [7]}, "labels must be"),
        ({"labels": [1]}, "without points_xy"),
        ({"points_xy": [[1, 2]], "labels": ["a"]}, "labels must be"),
        ({"points_xy": [[1, 2]], "labels": [0.5]}, "labels must be"),
        ({"box_xyxy": [5, 5, 1, 9]}, "x0 <= x1"),
        ({"box_xyxy": [1, 2, 3]}, r"\[4\]"),
        ({"mask_logits": np.zeros((2, 2, 4, 4))}, "mask_logits"),
        ({"points_xy": np.zeros((2, 1, 2)), "box_xyxy": [[0, 0, 1, 1]] * 3}, "same number"),
    ],
)
def test_what_is_wrong_is_said(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prompt(**arguments)


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        (Prompt([[10, 10]]), "A"),
        (Prompt([[10, 10], [24, 24]]), "AB"),
        (Prompt([[2, 2]]), "A"),  # a pixel beside it
        (Prompt([[26, 2]]), "c"),  # no speck: somebody clicked it
        (Prompt([[10, 10], [24, 24]], [1, 0]), "A"),
        (Prompt([[1, 31]]), "AB"),  # on nothing
        (Prompt([[10, 10]], [0]), "AB"),
        (Prompt(box_xyxy=[0, 0, 16, 16]), "AB"),
        (Prompt([[10, 10]], [1], [0, 0, 16, 16]), "A"),
        (Prompt([[10, 10]], [1], [0, 0, 22, 22]), "AB"),
    ],
)
def test_the_parts_under_the_clicks_are_kept(prompt: Prompt, kept: str) -> None:
    """Of two blocks A and B of 16x16 logits, one with a hole, and a speck c, in a picture of 32x32 pixels."""
    raw = torch.full((1, 1, 16, 16), -3.0)
    parts = {"A": np.s_[..., 2:8, 2:8], "B": np.s_[..., 10:15, 10:15], "c": np.s_[..., 1, 13]}
    for part in parts.values():
        raw[part] = 3.0
    raw[..., 4, 4] = -3.0
    about = torch.ones(1, 1), torch.ones(1, 1), (16, 16), ImageOptions(max_speck_area=2, keep_clicked=True)
    answer = Masks(raw, *about, prompt.clicked((32, 32), (16, 16)))
    assert "".join(name for name, part in parts.items() if answer.masks[part].any()) == kept
    assert not answer.masks[..., 4, 4]
    assert torch.equal(answer.flat(torch.tensor([0])).masks, answer.masks)
    assert torch.equal(answer.low_res, raw), "what is fed back is as it was"


def test_options_suit_the_model(nano: SAM2) -> None:
    assert [name for name, config in PRESETS.items() if config.decoder.ragged_masks] == ["nano"]
    everything = {"max_hole_area": 8, "max_speck_area": 8, "keep_clicked": True}
    nothing = {"max_hole_area": 0, "max_speck_area": 0, "keep_clicked": False}
    for kind in (ImageOptions, VideoOptions.for_pictures):
        assert kind().for_model(nano.config) == kind(**everything)
        assert kind().for_model(PRESETS["sam2.1-hiera-tiny"]) == kind(**nothing)
        assert kind(**nothing).for_model(nano.config) == kind(**nothing)
    assert VideoOptions().for_model(PRESETS["sam2.1-hiera-tiny"]) == VideoOptions(**nothing | {"max_hole_area": 8})
    assert VideoOptions.official().for_model(nano.config) == VideoOptions.official()
    assert ImagePredictor(nano).options.keep_clicked


class TestImagePredictor:
    def test_shapes(self, toy: SAM2, photo: np.ndarray) -> None:
        predictor = ImagePredictor(toy)
        embedding = predictor.encode(photo)
        answer = predictor.predict(embedding, Prompt(np.full((5, 1, 2), 20.0)))
        assert (answer.masks.shape, answer.masks.dtype) == ((5, 3, 40, 60), torch.bool)
        assert (answer.predicted_iou.shape, answer.object_score.shape) == ((5, 3), (5, 1))
        assert answer.low_res.shape == (5, 3, 16, 16) and answer.low_res.abs().max() <= 32
        assert answer.best().masks.shape == (5, 1, 40, 60)
        assert torch.equal(answer.best().predicted_iou[:, 0], answer.predicted_iou.max(dim=1).values)
        prompt = Prompt([[20, 20], [5, 5]], [1, 0], [0, 0, 30, 30], answer.best().low_res[0])
        assert predictor.predict(embedding, prompt).masks.shape == (1, 1, 40, 60)
        with pytest.raises(ValueError, match="no pictures"):
            predictor.encode_batch([])

    def test_prompts_outside_are_refused_with_the_size(self, toy: SAM2, photo: np.ndarray) -> None:
        predictor = ImagePredictor(toy)
        embedding = predictor.encode(photo)
        boxes = (Prompt(box_xyxy=[70, 5, 80, 9]), Prompt(box_xyxy=[-9, 5, -2, 9]))
        for prompt in (Prompt([[61, 5]]), Prompt([[5, -1]]), *boxes):
            with pytest.raises(ValueError, match="60x40 picture"):
                predictor.predict(embedding, prompt)

    def test_an_embedding_can_be_pickled_and_used_elsewhere(self, nano: SAM2, photo: np.ndarray) -> None:
        predictor, file = ImagePredictor(nano), io.BytesIO()
        embedding = predictor.encode(photo)
        torch.save(embedding, file)
        assert file.tell() < 2_000_000
        back, prompt = pickle.loads(pickle.dumps(embedding)), Prompt([[20, 20]])
        assert torch.equal(predictor.predict(back, prompt).logits, predictor.predict(embedding, prompt).logits)

    def test_one_predictor_serves_many_pictures_at_once(self, toy: SAM2) -> None:
        predictor = ImagePredictor(toy)
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 256, (30 + i, 50, 3), np.uint8) for i in range(8)]

        def ask(picture: np.ndarray) -> torch.Tensor:
            return predictor.predict(predictor.encode(picture), Prompt([[20, 20]])).logits

        alone = [ask(p) for p in pictures]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(ask, pictures))
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))

    def test_detections(self, toy: SAM2, photo: np.ndarray) -> None:
        predictor = ImagePredictor(toy, ImageOptions(threshold=-1e9))  # everything is the object
        answer = predictor.predict(predictor.encode(photo), Prompt([[20, 20]]))
        detections = answer.to_detections()
        assert detections.xyxy.tolist() == [[0, 0, 60, 40]]
        assert detections.confidence[0] == pytest.approx(answer.predicted_iou.max().item())
        assert detections.class_id.tolist() == [0], "by which supervision's annotators choose colours"
        assert supervision.MaskAnnotator().annotate(photo.copy(), detections).shape == photo.shape

    @pytest.mark.filterwarnings("error")
    def test_a_picture_that_may_not_be_written_to(self, toy: SAM2, photo: np.ndarray) -> None:
        predictor = ImagePredictor(toy)
        embedding = predictor.encode(np.asarray(Image.fromarray(photo)))
        assert torch.equal(embedding.image, predictor.encode(photo).image)

    def test_it_runs_in_half_precision_from_any_thread(self, toy: SAM2, photo: np.ndarray) -> None:
        toy.compute_dtype = torch.bfloat16
        predictor = ImagePredictor(toy)
        with ThreadPoolExecutor(1) as pool:
            embedding = pool.submit(predictor.encode, photo).result()
        assert embedding.features.stride4.dtype == torch.bfloat16
        assert predictor.predict(embedding, Prompt([[20, 20]])).logits.dtype == torch.float32

    def test_what_it_finds_makes_sense(self, nano: SAM2) -> None:
        """The bundled model cuts a plain disc out of a plain ground."""
        y, x = np.mgrid[0:200, 0:300]
        disc = (y - 90) ** 2 + (x - 140) ** 2 <= 50**2
        picture = np.where(disc[..., None], (230, 120, 30), (40, 90, 70)).astype(np.uint8)
        predictor = ImagePredictor(nano)
        embedding = predictor.encode(picture)
        for prompt in (Prompt([[140, 90]]), Prompt(box_xyxy=[88, 38, 192, 142])):
            mask = predictor.predict(embedding, prompt).best().masks[0, 0].numpy()
            assert (mask & disc).sum() / (mask | disc).sum() > 0.85
