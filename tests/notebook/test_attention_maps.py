"""Attention maps of decoder and memory are those of the answers, and making them changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2kit.config import preset
from sam2kit.model.memory_bank import SelectedMemories
from sam2kit.model.sam2 import SAM2
from sam2kit.notebook.activations import record_calls
from sam2kit.notebook.attention_maps import decoder_attention_maps, memory_attention_maps
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor

OWN_TOKENS = ("object score", "predicted IoU", "mask 0", "mask 1", "mask 2", "mask 3")
POINTS = [[30, 20], [0, 0], [60, 40]]


@pytest.fixture(params=["toy", pytest.param("sam2.1-hiera-tiny", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest) -> SAM2:
    """One memory layer and four."""
    if request.param == "toy":
        return request.getfixturevalue("toy")
    torch.manual_seed(0)
    return SAM2(preset(request.param, side=128)).eval()


def tracked(model: SAM2, *, frame: int = 0, direction: str = "forward") -> tuple[VideoPredictor, Session]:
    """Two objects, prompted on one frame of a clip of noise."""
    options = VideoOptions(exact_logits=True, max_hole_area=0, memory_dtype=torch.float32)
    predictor = VideoPredictor(model, options)
    session = predictor.open(list(np.random.default_rng(0).integers(0, 256, (7, 40, 60, 3), np.uint8)))
    predictor.add_points(session, frame, "a", [[30, 20]])
    predictor.add_box(session, frame, "b", [5, 5, 20, 30])
    assert list(predictor.propagate(session, direction=direction))
    return predictor, session


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        (Prompt([[30, 20]]), ("click: this", "not a point")),
        (Prompt([[30, 20], [4, 4]], labels=[1, 0]), ("click: this", "click: not this", "not a point")),
        (Prompt(box_xyxy=[3, 4, 30, 20]), ("box, top left", "box, bottom right", "not a point")),
        (Prompt(mask_logits=np.zeros((1, 16, 16))), ()),
    ],
    ids=["click", "two clicks", "box", "mask"],
)
def test_decoder_attention_belongs_to_the_answer(
    model: SAM2, photo: np.ndarray, prompt: Prompt, asked: tuple[str, ...]
) -> None:
    predictor = ImagePredictor(model)
    embedding = predictor.encode(photo)
    maps = decoder_attention_maps(predictor, embedding, prompt)
    layers, tokens, side = model.config.decoder.layers, 6 + len(asked), model.config.embedding_side
    assert maps.token_names == (*OWN_TOKENS, *asked)
    assert maps.token_to_image.shape == (layers + 1, tokens, side, side)
    assert maps.image_to_token.shape == (layers, tokens, side, side)
    torch.testing.assert_close(maps.token_to_image.sum(dim=(-2, -1)), torch.ones(layers + 1, tokens))
    torch.testing.assert_close(maps.image_to_token.sum(dim=1), torch.ones(layers, side, side))
    logits = torch.einsum("mc,chw->mhw", maps.weights, maps.upscaled)
    torch.testing.assert_close(logits, maps.candidates.mask_logits[0], atol=1e-4, rtol=1e-4)
    three = predictor.predict(embedding, prompt, multimask=True)
    torch.testing.assert_close(maps.candidates.mask_logits[:, 1:], three.raw)
    torch.testing.assert_close(maps.candidates.predicted_iou[:, 1:], three.predicted_iou)


def test_memory_attention_is_that_of_tracking(model: SAM2) -> None:
    predictor, session = tracked(model)
    maps = memory_attention_maps(predictor, session, 5, "b", POINTS)
    slots, layers, side = model.config.memory.slots, model.config.memory.attention_layers, model.config.embedding_side
    latest = [(f, 5 - f - 1) for f in range(max(1, 5 - slots + 1), 5)]
    assert maps.selected == SelectedMemories(((0, slots - 1), *latest), ((0, 5), (4, 1), (3, 2), (2, 3), (1, 4)))
    assert maps.maps.shape == (3, layers, len(latest) + 1, side, side)
    assert maps.pointers.shape == (3, layers, 5)
    torch.testing.assert_close(maps.maps.sum(dim=(2, 3, 4)) + maps.pointers.sum(dim=2), torch.ones(3, layers))
    torch.testing.assert_close(maps.map_shares.sum(dim=1) + maps.pointer_shares.sum(dim=1), torch.ones(3))
    assert (maps.maps[0] - maps.maps[2]).abs().max() > 0, "two equal places would prove nothing"
    result = session.objects["b"].result(5)
    torch.testing.assert_close(maps.answer.mask_logits[0], result.low_res(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps.answer.object_score.item(), result.object_score, atol=1e-4, rtol=1e-4)


def test_maps_and_pointers_are_in_the_order_of_their_frames(toy: SAM2) -> None:
    predictor, session = tracked(toy)
    track, cells = session.objects["a"], toy.config.embedding_side**2
    with record_calls(toy, "memory_attention") as calls:
        maps = memory_attention_maps(predictor, session, 6, "a", POINTS)
    tokens = calls["memory_attention"][0].arguments["memory"][0]
    for i, (frame, _) in enumerate(maps.selected.maps):
        own = track.memories[frame].flatten(1).T
        torch.testing.assert_close(tokens[i * cells : (i + 1) * cells], own, atol=1e-4, rtol=1e-4)
    pieces = tokens[len(maps.selected.maps) * cells :].reshape(len(maps.selected.pointers), -1)
    for piece, (frame, _) in zip(pieces, maps.selected.pointers, strict=True):
        torch.testing.assert_close(piece, track.result(frame).pointer)


def test_embeddings_before_and_after(nano: SAM2) -> None:
    predictor, session = tracked(nano)
    with record_calls(nano, "memory_attention", "sam_mask_decoder") as calls:
        maps = memory_attention_maps(predictor, session, 3, "a", POINTS)
    (recall,), (tracking, again, without) = calls["memory_attention"], calls["sam_mask_decoder"]
    raw = recall.arguments["features"][0]
    torch.testing.assert_close(maps.before, raw + nano.no_mem_embed.detach()[0, 0, :, None, None])
    assert torch.equal(maps.after, recall.output[0])
    assert torch.equal(tracking.output.mask_logits, again.output.mask_logits)
    assert torch.equal(without.arguments["image"][0], maps.before)
    assert torch.equal(without.output.object_score[0], maps.without_memory.object_score)
    other = memory_attention_maps(predictor, session, 3, "b", POINTS)
    assert torch.equal(maps.before, other.before)
    assert not torch.allclose(maps.after, other.after, atol=1e-2)


def test_time_may_run_backwards_and_the_session_stays_as_it_is(toy: SAM2) -> None:
    predictor, session = tracked(toy, frame=6, direction="backward")
    before = {i: {n: dict(d) for n, d in vars(t).items() if isinstance(d, dict)} for i, t in session.objects.items()}
    features, run = list(session.features), session.run
    maps = memory_attention_maps(predictor, session, 2, "a", POINTS)
    assert [f for f, _ in maps.selected.maps] == [6, 5, 4, 3]
    assert dict(maps.selected.pointers) == {6: 4, 3: 1, 4: 2, 5: 3}
    for object_id, dicts in before.items():
        for name, old in dicts.items():
            new = getattr(session.objects[object_id], name)
            assert old.keys() == new.keys() and all(old[k] is new[k] for k in old)
    assert (list(session.features), session.run, len(session.plan)) == (features, run, 0)


def test_what_has_no_maps(toy: SAM2, photo: np.ndarray) -> None:
    images = ImagePredictor(toy)
    with pytest.raises(ValueError, match="got 2"):
        decoder_attention_maps(images, images.encode(photo), Prompt([[[3, 4]], [[5, 6]]]))
    predictor, session = tracked(toy)
    for error, says, frame, object_id, points in (
        (ValueError, "frame 0 was prompted", 0, "a", POINTS),
        (ValueError, r"point \(61, 3\) lies outside the 60x40 clip", 3, "a", [[61, 3]]),
        (KeyError, "no object 'c'", 3, "c", POINTS),
        (IndexError, "7", 7, "a", POINTS),
    ):
        with pytest.raises(error, match=says):
            memory_attention_maps(predictor, session, frame, object_id, points)
    session.clear(0, "a")
    with pytest.raises(ValueError, match="no prompt left"):
        memory_attention_maps(predictor, session, 3, "a", POINTS)
    fresh = predictor.open(session.clip)
    predictor.add_points(fresh, 0, "a", [[30, 20]])
    with pytest.raises(ValueError, match="frame 3 was not tracked yet"):
        memory_attention_maps(predictor, fresh, 3, "a", POINTS)
