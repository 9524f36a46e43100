"""The official names, arguments and shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.compat import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    build_sam2,
    build_sam2_hf,
    preset_of_config,
)
from sam2kit.compat.build import read_overrides
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import save_model


@pytest.fixture
def predictor(toy: SAM2) -> SAM2ImagePredictor:
    return SAM2ImagePredictor(toy)


@pytest.fixture
def saved(toy: SAM2, tmp_path: Path) -> str:
    return str(save_model(toy, tmp_path / "toy.safetensors"))


def test_config_names() -> None:
    for config, name in {
        "configs/sam2.1/sam2.1_hiera_l.yaml": "sam2.1-hiera-large",
        "sam2.1_hiera_b+.yaml": "sam2.1-hiera-base-plus",
        "configs/sam2/sam2_hiera_t.yaml": "sam2-hiera-tiny",
        "sam2.1-hiera-small": "sam2.1-hiera-small",
    }.items():
        assert preset_of_config(config) == name
    with pytest.raises(ValueError, match="unknown config"):
        preset_of_config("sam3.yaml")


def test_the_notebooks_calls(predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
    predictor.set_image(Image.fromarray(photo))
    masks, scores, logits = predictor.predict(
        point_coords=np.array([[30, 20]]), point_labels=np.array([1]), multimask_output=True
    )
    assert (masks.shape, scores.shape, logits.shape) == ((3, 40, 60), (3,), (3, 16, 16))
    assert masks.dtype == bool
    assert predictor._features["image_embed"].shape == (1, 32, 4, 4)
    best = logits[np.argmax(scores)][None]
    masks, scores, _ = predictor.predict(
        np.array([[30, 20], [10, 10]]), np.array([1, 0]), mask_input=best, multimask_output=False
    )
    assert masks.shape == (1, 40, 60)
    boxes = np.array([[0, 0, 20, 20], [10, 10, 50, 30], [5, 5, 9, 9], [1, 1, 59, 39]])
    masks, scores, logits = predictor.predict(box=boxes, multimask_output=False)
    assert (masks.shape, scores.shape, logits.shape) == ((4, 1, 40, 60), (4, 1), (4, 1, 16, 16))
    logits, _, _ = predictor.predict(box=boxes[0], return_logits=True)
    assert logits.dtype == np.float32
    in_pixels = predictor.predict([[30, 20]], [1])[2]
    in_units = predictor.predict([[0.5, 0.5]], [1], normalize_coords=False)[2]
    np.testing.assert_allclose(in_pixels, in_units, atol=1e-4)
    predictor.mask_threshold = 100.0
    assert not predictor.predict([[30, 20]], [1])[0].any(), "as of the next call"


def test_batches_of_pictures(predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
    predictor.set_image_batch([photo, photo[:20]])
    masks, scores, _ = predictor.predict_batch(
        [np.array([[[5, 5]], [[9, 9]]]), np.array([[7, 7]])], [np.array([[1], [1]]), np.array([1])]
    )
    assert masks[0].shape == (2, 3, 40, 60)
    assert masks[1].shape == (3, 20, 60)
    assert scores[0].shape == (2, 3)


def test_calls_out_of_order(predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.predict([[1, 1]], [1])
    predictor.set_image(photo)
    with pytest.raises(RuntimeError, match="set_image_batch"):
        predictor.predict_batch()
    with pytest.raises(ValueError, match="point_labels"):
        predictor.predict([[1, 1]])


@pytest.mark.parametrize("mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
def test_automatic_records(toy: SAM2, photo: np.ndarray, mode: str) -> None:
    generator = SAM2AutomaticMaskGenerator(
        toy, points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0, output_mode=mode
    )
    records = generator.generate(photo)
    assert records
    for record in records:
        assert set(record) == {
            "segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box",
        }  # fmt: skip
        assert record["crop_box"] == [0, 0, 60, 40]
    first = records[0]["segmentation"]
    assert isinstance(first, np.ndarray) if mode == "binary_mask" else set(first) == {"size", "counts"}
    with pytest.raises(ValueError, match="output_mode"):
        SAM2AutomaticMaskGenerator(toy, output_mode="png")


def test_own_grids(toy: SAM2, photo: np.ndarray) -> None:
    grid = np.array([[0.5, 0.5]])
    limits = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    generator = SAM2AutomaticMaskGenerator(toy, points_per_side=None, point_grids=[grid], **limits)
    assert all(r["point_coords"] == [[30, 20]] for r in generator.generate(photo))
    with pytest.raises(ValueError, match="either points_per_side or point_grids"):
        SAM2AutomaticMaskGenerator(toy, point_grids=[grid])


def test_the_scripts_autocast_decides(saved: str, photo: np.ndarray) -> None:
    model = build_sam2("sam2.1_hiera_t.yaml", saved, device="cpu")
    predictor = SAM2ImagePredictor(model)
    with torch.autocast("cpu", torch.bfloat16):
        predictor.set_image(photo)
    assert predictor._features["high_res_feats"][0].dtype == torch.bfloat16
    predictor.set_image(photo)
    assert predictor._features["high_res_feats"][0].dtype == torch.float32


class TestKeywords:
    def test_without_postprocessing_a_wavering_mask_stays(self, saved: str, photo: np.ndarray) -> None:
        answers = {}
        for processed in (True, False):
            predictor = SAM2ImagePredictor(
                build_sam2("sam2.1_hiera_t.yaml", saved, "cpu", apply_postprocessing=processed)
            )
            predictor.set_image(photo)
            answers[processed] = predictor.predict(box=[[5, 5, 40, 30], [1, 1, 59, 39]], multimask_output=False)[2]
        assert not np.array_equal(answers[True], answers[False]), "made-up weights waver"

    def test_hydra_overrides(self, saved: str) -> None:
        side = build_sam2("sam2.1_hiera_t.yaml", saved, "cpu", hydra_overrides_extra=["++model.image_size=96"])
        assert side.image_size == side.config.side == 96
        fallback = "++model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability=false"
        model = build_sam2_hf(saved, device="cpu", hydra_overrides_extra=[fallback], mode="train")
        assert model.training and not model.config.decoder.replaces_unstable_masks
        for override, message in {
            "++model.wings=2": r"'\+\+model.wings=2' is not known.*model.fill_hole_area",
            "++model.image_size=big": "needs a number",
            "++model.image_size=true": "needs a number",
            "++model.memory_temporal_stride_for_eval=2": "memory_temporal_stride_for_eval is 1; leave it out",
            "++model.fill_hole_area=3": "build_sam2_video_predictor",
            "++model.fill_hole_area=3.5": "needs a number",
            "++model.num_maskmem=4": "num_maskmem is 7; leave it out",
        }.items():
            with pytest.raises(ValueError, match=message):
                build_sam2("sam2.1_hiera_t.yaml", saved, "cpu", hydra_overrides_extra=[override])
            with pytest.raises(ValueError, match=message):
                SAM2ImagePredictor.from_pretrained(saved, device="cpu", hydra_overrides_extra=[override])

    def test_overrides_that_say_what_is_built_in(self) -> None:
        overrides = ["num_maskmem=7", "sigmoid_scale_for_mem_enc=20.0", "sigmoid_bias_for_mem_enc=-10.0"]
        overrides += ["use_obj_ptrs_in_encoder=true", "fill_hole_area=8.0"]
        read = read_overrides([f"++model.{text}" for text in overrides])
        assert read == {"fill_hole_area": 8} and isinstance(read["fill_hole_area"], int)
        with pytest.raises(ValueError, match=r"hydra_overrides_extra is a list .*, got the text '\+\+model"):
            read_overrides("++model.image_size=512")

    def test_of_builder_and_predictor_together(self, saved: str) -> None:
        predictor = SAM2ImagePredictor.from_pretrained(
            saved, device="cpu", apply_postprocessing=False, mask_threshold=0.5
        )
        assert predictor.mask_threshold == 0.5 and not predictor.model.config.decoder.replaces_unstable_masks
        generator = SAM2AutomaticMaskGenerator.from_pretrained(saved, device="cpu", points_per_side=2)
        assert generator.predictor.model.image_size == 64

    def test_unknown_ones_are_refused_by_name(self, saved: str, toy: SAM2) -> None:
        for call in (
            lambda: build_sam2("sam2.1_hiera_t.yaml", saved, wings=2),
            lambda: build_sam2_hf(saved, wings=2),
            lambda: SAM2ImagePredictor.from_pretrained(saved, wings=2),
            lambda: SAM2AutomaticMaskGenerator.from_pretrained(saved, wings=2),
        ):
            with pytest.raises(ValueError, match=r"does not take 'wings'; it takes .*device"):
                call()
        for kind in (SAM2ImagePredictor, SAM2AutomaticMaskGenerator):
            with pytest.raises(ValueError, match=rf"{kind.__name__} does not take 'wings'; it takes a model and \w+"):
                kind(toy, wings=2)
        with pytest.raises(ValueError, match='"eval" or "train"'):
            build_sam2("sam2.1_hiera_t.yaml", saved, "cpu", mode="test")


def test_a_pil_image_keeps_its_frame(predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
    """Masks lie over `np.asarray(image)`, which matplotlib shows, whatever its EXIF says."""
    image = Image.fromarray(photo)
    image.getexif()[0x112] = 6
    predictor.set_image(image)
    assert predictor.predict([[50, 5]], [1])[0].shape[1:] == photo.shape[:2]
    of_image = predictor.get_image_embedding()
    predictor.set_image(np.asarray(image))
    assert torch.equal(predictor.get_image_embedding(), of_image)
    generator = SAM2AutomaticMaskGenerator(
        predictor.model, points_per_side=1, pred_iou_thresh=0, stability_score_thresh=0
    )
    assert all(found["segmentation"].shape == photo.shape[:2] for found in generator.generate(image))


class TestInternals:
    """What the widely copied fine-tuning scripts call beneath the predictor."""

    def decoded(
        self, predictor: SAM2ImagePredictor, points: object, labels: object, *, multimask: bool = True
    ) -> tuple:
        mask, coords, marks, box = predictor._prep_prompts(
            np.array(points), np.array(labels), box=None, mask_logits=None, normalize_coords=True
        )
        assert mask is None and box is None
        sparse, dense = predictor.model.sam_prompt_encoder(points=(coords, marks), boxes=None, masks=None)
        return predictor.model.sam_mask_decoder(
            image_embeddings=predictor._features["image_embed"][-1].unsqueeze(0),
            image_pe=predictor.model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            repeat_image=coords.shape[0] > 1,
            high_res_features=[level[-1].unsqueeze(0) for level in predictor._features["high_res_feats"]],
        )

    @pytest.mark.parametrize("multimask", [True, False])
    def test_the_parts_give_what_the_predictor_gives(
        self, predictor: SAM2ImagePredictor, photo: np.ndarray, multimask: bool
    ) -> None:
        predictor.set_image(photo)
        points, labels = [[[30, 20]], [[9, 33]]], [[1], [1]]
        masks, ious, low_res = predictor.predict(points, labels, multimask_output=multimask, return_logits=True)
        with torch.no_grad():
            logits, predicted, tokens, scores = self.decoded(predictor, points, labels, multimask=multimask)
            shown = predictor._transforms.postprocess_masks(logits, predictor._orig_hw[-1])
        count = 3 if multimask else 1
        assert (tokens.shape, scores.shape) == ((2, count, 32), (2, 1))
        np.testing.assert_allclose(logits.clamp(-32, 32), low_res, atol=1e-4)
        np.testing.assert_allclose(predicted, ious, atol=1e-5)
        np.testing.assert_allclose(shown, masks, atol=1e-4)

    def test_boxes_and_masks(self, predictor: SAM2ImagePredictor) -> None:
        encoder, mask = predictor.model.sam_prompt_encoder, torch.zeros(2, 1, 16, 16)
        boxes = torch.tensor([[4.0, 4, 20, 30], [0, 0, 60, 60]])
        sparse, dense = encoder(points=None, boxes=boxes, masks=mask)
        assert (sparse.shape, dense.shape) == ((2, 2, 32), (2, 32, 4, 4))
        clicks = boxes[:, :2][:, None], torch.ones(2, 1)
        assert encoder(points=clicks, boxes=boxes, masks=None)[0].shape == (2, 3, 32), "no padding beside a box"
        assert encoder(points=clicks, boxes=None, masks=None)[0].shape == (2, 2, 32)
        assert [part.shape for part in encoder(points=None, boxes=None, masks=None)] == [(1, 0, 32), (1, 32, 4, 4)]

    def test_such_a_script_trains_and_goes_on(self, predictor: SAM2ImagePredictor, tmp_path: Path) -> None:
        image = np.zeros((48, 64, 3), np.uint8)
        image[12:36, 16:40] = 220
        wanted = torch.from_numpy(image[..., 0] > 0).float()
        model = predictor.model
        model.sam_mask_decoder.train(True)
        model.sam_prompt_encoder.train(True)
        optimizer = torch.optim.AdamW(params=model.parameters(), lr=3e-3)
        losses = []
        for _ in range(25):
            predictor.set_image(image)
            logits, scores, _, _ = self.decoded(predictor, [[28, 24]], [1])
            shown = torch.sigmoid(predictor._transforms.postprocess_masks(logits, predictor._orig_hw[-1])[:, 0])
            loss = (
                torch.nn.functional.binary_cross_entropy(shown, wanted[None]) + 0.05 * (scores[:, 0] - 1).abs().mean()
            )
            model.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2
        torch.save(model.state_dict(), tmp_path / "model.torch")
        predictor.model.load_state_dict(torch.load(tmp_path / "model.torch"))

    def test_the_two_steps_that_train_the_encoder(self, predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
        model = predictor.model
        predictor.set_image(photo)
        pyramid = model.forward_image(predictor._transforms(photo)[None])
        _, maps, places, sizes = model._prepare_backbone_features(pyramid)
        assert sizes == predictor._bb_feat_sizes == [(16, 16), (8, 8), (4, 4)]
        maps[-1] = maps[-1] + model.no_mem_embed
        *detail, image = (m.permute(1, 2, 0).reshape(1, -1, *size) for m, size in zip(maps, sizes, strict=True))
        torch.testing.assert_close(image, predictor._features["image_embed"])
        for ours, theirs in zip(detail, predictor._features["high_res_feats"], strict=True):
            torch.testing.assert_close(ours, theirs)
        assert places[0].shape == (256, 1, 32)
        image.sum().backward()
        assert model.image_encoder.trunk.patch_embed.proj.weight.grad is not None

    def test_features_that_a_script_kept_or_made(self, predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
        prompt = [[30, 20]], [1]
        with pytest.raises(ValueError, match=r"this model have the sizes \[\(16, 16\)"):
            predictor._bb_feat_sizes = [(256, 256), (128, 128), (64, 64)]
        predictor.set_image(photo)
        kept, size, sizes = predictor._features, predictor._orig_hw, predictor._bb_feat_sizes
        wanted = predictor.predict(*prompt)
        for order in (("_features", "_orig_hw"), ("_orig_hw", "_features")):
            predictor.reset_predictor()
            for name in order:
                setattr(predictor, name, {"_features": kept, "_orig_hw": size}[name])
            predictor._is_image_set, predictor._bb_feat_sizes = True, sizes
            for got, part in zip(predictor.predict(*prompt), wanted, strict=True):
                np.testing.assert_array_equal(got, part)
        predictor._is_image_set = False
        assert not predictor._is_image_set
        predictor.set_image_batch([photo, photo[:20]])
        kept, size = predictor._features, predictor._orig_hw
        predictor.reset_predictor()
        predictor._features, predictor._orig_hw, predictor._is_batch = kept, size, True
        assert predictor.predict_batch([[[5, 5]]] * 2, [[1]] * 2)[0][1].shape == (3, 20, 60)
        predictor._features = None
        assert not predictor._is_image_set

    def test_the_predictor_stands_for_its_model(self, predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
        assert predictor.to("cpu") is predictor.eval() is predictor
        assert sum(p.numel() for p in predictor.parameters()) == sum(p.numel() for p in predictor.model.parameters())
        predictor.set_image(photo)
        exact = predictor.predict([[30, 20]], [1])[1]
        matrix = predictor.model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        assert predictor.half().model.weight_dtype == torch.float16
        assert matrix.dtype == torch.float32, "half precision would move clicks by whole pixels"
        predictor.set_image(photo)
        np.testing.assert_allclose(predictor.predict([[30, 20]], [1])[1], exact, atol=0.02)
        with pytest.raises(AttributeError, match="SAM2ImagePredictor has no attribute 'wings'"):
            _ = predictor.wings
