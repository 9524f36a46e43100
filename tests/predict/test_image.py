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

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImageOptions, ImagePredictor
from sam2kit.predict.prompts import Prompt


class TestPrompt:
    def test_forms_that_are_understood(self) -> None:
        assert len(Prompt([[1, 2]])) == 1
        assert Prompt([[1, 2]]).labels.tolist() == [[1]]
        assert len(Prompt(np.zeros((3, 2, 2)), np.ones((3, 2)))) == 3
        assert len(Prompt(box_xyxy=[[0, 0, 1, 1], [1, 1, 2, 2]])) == 2
        assert len(Prompt(mask_logits=torch.zeros(1, 16, 16))) == 1
        assert Prompt([[1, 2]]).is_ambiguous
        assert not Prompt([[1, 2]], box_xyxy=[0, 0, 3, 3]).is_ambiguous

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "empty prompt"),
            ({"points_xy": [1, 2, 3]}, r"\[N, 2\]"),
            ({"points_xy": [[1, 2, 3]]}, r"\[N, 2\]"),
            ({"points_xy": [["a", "b"]]}, "of numbers"),
            ({"points_xy": [[1, float("nan")]]}, "finite"),
            ({"points_xy": np.zeros((1, 0, 2))}, "shape"),
            ({"points_xy": [[1, 2]], "labels": [1, 1]}, "one per point"),
            ({"points_xy": [[1, 2]], "labels": [7]}, "labels must be"),
            ({"labels": [1]}, "without points_xy"),
            ({"points_xy": [[1, 2]], "labels": ["a"]}, "one number per point"),
            ({"points_xy": [[1, 2]], "labels": [0.5]}, "labels must be"),
            ({"box_xyxy": [5, 5, 1, 9]}, "x0 <= x1"),
            ({"box_xyxy": [1, 2, 3]}, r"\[4\]"),
            ({"mask_logits": np.zeros((2, 2, 4, 4))}, "mask_logits"),
            ({"points_xy": np.zeros((2, 1, 2)), "box_xyxy": [[0, 0, 1, 1]] * 3}, "same number"),
        ],
    )
    def test_what_is_wrong_is_said(self, arguments: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Prompt(**arguments)

    def test_points_outside_are_refused_with_the_size(self, toy: SAM2, photo: np.ndarray) -> None:
        predictor = ImagePredictor(toy)
        embedding = predictor.encode(photo)
        for prompt in (
            Prompt([[61, 5]]),
            Prompt([[5, -1]]),
            Prompt(box_xyxy=[70, 5, 80, 9]),
            Prompt(box_xyxy=[-9, 5, -2, 9]),
        ):
            with pytest.raises(ValueError, match="60x40 picture"):
                predictor.predict(embedding, prompt)

    def test_a_box_comes_before_the_clicks(self) -> None:
        tensors = Prompt([[10, 10]], [0], [0, 0, 60, 40]).to_square((40, 60), 64, torch.device("cpu"))
        assert tensors.labels.tolist() == [[2, 3, 0]]
        assert tensors.points_xy[0, 1].tolist() == [64, 64]


class TestImagePredictor:
    def test_shapes(self, toy: SAM2, photo: np.ndarray) -> None:
        predictor = ImagePredictor(toy)
        embedding = predictor.encode(photo)
        answer = predictor.predict(embedding, Prompt(np.full((5, 1, 2), 20.0)))
        assert answer.masks.shape == (5, 3, 40, 60)
        assert answer.masks.dtype == torch.bool
        assert answer.predicted_iou.shape == (5, 3)
        assert answer.object_score.shape == (5, 1)
        assert answer.low_res.shape == (5, 3, 16, 16)
        assert answer.low_res.abs().max() <= 32
        assert answer.best().masks.shape == (5, 1, 40, 60)
        assert torch.equal(answer.best().predicted_iou[:, 0], answer.predicted_iou.max(dim=1).values)
        assert predictor.predict(embedding, Prompt([[20, 20]]), multimask=False).masks.shape == (1, 1, 40, 60)

    def test_all_prompts_together(self, toy: SAM2, photo: np.ndarray) -> None:
        predictor = ImagePredictor(toy)
        embedding = predictor.encode(photo)
        first = predictor.predict(embedding, Prompt([[20, 20]]))
        prompt = Prompt([[20, 20], [5, 5]], [1, 0], [0, 0, 30, 30], first.best().low_res[0])
        assert predictor.predict(embedding, prompt).masks.shape == (1, 1, 40, 60)

    def test_an_embedding_can_be_pickled_and_used_elsewhere(self, toy: SAM2, photo: np.ndarray) -> None:
        predictor = ImagePredictor(toy)
        embedding = predictor.encode(photo)
        back = pickle.loads(pickle.dumps(embedding))
        prompt = Prompt([[20, 20]])
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

    def test_no_pictures(self, toy: SAM2) -> None:
        with pytest.raises(ValueError, match="no pictures"):
            ImagePredictor(toy).encode_batch([])

    def test_detections(self, toy: SAM2, photo: np.ndarray) -> None:
        predictor = ImagePredictor(toy, ImageOptions(threshold=-1e9))  # everything is the object
        answer = predictor.predict(predictor.encode(photo), Prompt([[20, 20]]))
        detections = answer.to_detections()
        assert detections.xyxy.tolist() == [[0, 0, 60, 40]]
        assert detections.mask.shape == (1, 40, 60)
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


def test_embedding_size_is_small(nano: SAM2, photo: np.ndarray) -> None:
    buffer = io.BytesIO()
    torch.save(ImagePredictor(nano).encode(photo), buffer)
    assert buffer.tell() < 2_000_000
