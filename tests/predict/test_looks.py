"""Looks at the decoder and at the memory tell what really happened, and change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2kit.config import preset
from sam2kit.model.memory_bank import Recollection
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.frame_masks import VideoOptions
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.inside import recorded
from sam2kit.predict.looks import look_at_decoder, look_back
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session import VideoSession
from sam2kit.predict.video import VideoPredictor

OWN_TOKENS = ("object score", "predicted IoU", "mask 0", "mask 1", "mask 2", "mask 3")
POINTS = [[30, 20], [0, 0], [60, 40]]


@pytest.fixture(params=["toy", "sam2.1-hiera-tiny"])
def model(request: pytest.FixtureRequest) -> SAM2:
    """One memory layer and four."""
    if request.param == "toy":
        return request.getfixturevalue("toy")
    torch.manual_seed(0)
    return SAM2(preset(request.param, side=128)).eval()


def tracked(model: SAM2, *, frame: int = 0, direction: str = "forward") -> tuple[VideoPredictor, VideoSession]:
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
def test_the_decoder_is_seen_as_it_is(model: SAM2, photo: np.ndarray, prompt: Prompt, asked: tuple[str, ...]) -> None:
    predictor = ImagePredictor(model)
    embedding = predictor.encode(photo)
    look = look_at_decoder(predictor, embedding, prompt)
    layers, tokens, side = model.config.decoder.layers, 6 + len(asked), model.config.embedding_side
    assert look.token_names == (*OWN_TOKENS, *asked)
    assert look.looking.shape == (layers + 1, tokens, side, side)
    assert look.listening.shape == (layers, tokens, side, side)
    torch.testing.assert_close(look.looking.sum(dim=(-2, -1)), torch.ones(layers + 1, tokens))
    torch.testing.assert_close(look.listening.sum(dim=1), torch.ones(layers, side, side))
    logits = torch.einsum("mc,chw->mhw", look.weights, look.upscaled)
    torch.testing.assert_close(logits, look.candidates.mask_logits[0], atol=1e-4, rtol=1e-4)
    three = predictor.predict(embedding, prompt, multimask=True)
    torch.testing.assert_close(look.candidates.mask_logits[:, 1:], three.raw)
    torch.testing.assert_close(look.candidates.predicted_iou[:, 1:], three.predicted_iou)


def test_one_prompt_at_a_time(toy: SAM2, photo: np.ndarray) -> None:
    predictor = ImagePredictor(toy)
    with pytest.raises(ValueError, match="got 2"):
        look_at_decoder(predictor, predictor.encode(photo), Prompt([[[3, 4]], [[5, 6]]]))


def test_looking_back_sees_what_tracking_saw(model: SAM2) -> None:
    predictor, session = tracked(model)
    look = look_back(predictor, session, 5, "b", POINTS)
    slots, layers, side = model.config.memory.slots, model.config.memory.attention_layers, model.config.embedding_side
    latest = [(f, 5 - f - 1) for f in range(max(1, 5 - slots + 1), 5)]
    assert look.recalled == Recollection(((0, slots - 1), *latest), ((0, 5), (4, 1), (3, 2), (2, 3), (1, 4)))
    assert look.maps.shape == (3, layers, len(latest) + 1, side, side)
    assert look.pointers.shape == (3, layers, 5)
    torch.testing.assert_close(look.maps.sum(dim=(2, 3, 4)) + look.pointers.sum(dim=2), torch.ones(3, layers))
    torch.testing.assert_close(look.map_shares.sum(dim=1) + look.pointer_shares.sum(dim=1), torch.ones(3))
    assert (look.maps[0] - look.maps[2]).abs().max() > 0, "two places that look alike would prove nothing"
    result = session.tracks["b"].result(5)
    torch.testing.assert_close(look.answer.mask_logits[0], result.low_res(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(look.answer.object_score.item(), result.object_score, atol=1e-4, rtol=1e-4)


def test_maps_and_pointers_are_in_the_order_of_their_frames(toy: SAM2) -> None:
    predictor, session = tracked(toy)
    track, cells = session.tracks["a"], toy.config.embedding_side**2
    with recorded(toy, "memory_attention") as calls:
        look = look_back(predictor, session, 6, "a", POINTS)
    tokens = calls["memory_attention"][0].arguments["memory"][0]
    for i, (frame, _) in enumerate(look.recalled.maps):
        own = track.memories[frame].flatten(1).T
        torch.testing.assert_close(tokens[i * cells : (i + 1) * cells], own, atol=1e-4, rtol=1e-4)
    pieces = tokens[len(look.recalled.maps) * cells :].reshape(len(look.recalled.pointers), -1)
    for piece, (frame, _) in zip(pieces, look.recalled.pointers, strict=True):
        torch.testing.assert_close(piece, track.result(frame).pointer)


def test_embeddings_before_and_after(nano: SAM2) -> None:
    predictor, session = tracked(nano)
    with recorded(nano, "memory_attention", "sam_mask_decoder") as calls:
        look = look_back(predictor, session, 3, "a", POINTS)
    (recall,), (tracking, again, without) = calls["memory_attention"], calls["sam_mask_decoder"]
    raw = recall.arguments["features"][0]
    torch.testing.assert_close(look.before, raw + nano.no_mem_embed.detach()[0, 0, :, None, None])
    assert torch.equal(look.after, recall.output[0])
    assert torch.equal(tracking.output.mask_logits, again.output.mask_logits)
    assert torch.equal(without.arguments["image"][0], look.before)
    assert torch.equal(without.output.object_score[0], look.without_memory.object_score)
    other = look_back(predictor, session, 3, "b", POINTS)
    assert torch.equal(look.before, other.before)
    assert not torch.allclose(look.after, other.after, atol=1e-2)


def test_time_may_run_backwards(toy: SAM2) -> None:
    predictor, session = tracked(toy, frame=6, direction="backward")
    look = look_back(predictor, session, 2, "a", POINTS)
    assert [f for f, _ in look.recalled.maps] == [6, 5, 4, 3]
    assert dict(look.recalled.pointers) == {6: 4, 3: 1, 4: 2, 5: 3}


def test_the_session_stays_as_it_is(toy: SAM2) -> None:
    predictor, session = tracked(toy)
    before = {i: [dict(d) for d in vars(t).values()] for i, t in session.tracks.items()}
    features, run = list(session.features), session.run
    look_back(predictor, session, 2, "a", POINTS)
    for object_id, dicts in before.items():
        for old, new in zip(dicts, vars(session.tracks[object_id]).values(), strict=True):
            assert old.keys() == new.keys() and all(old[k] is new[k] for k in old)
    assert (list(session.features), session.run, len(session.plan)) == (features, run, 0)


def test_frames_and_places_that_cannot_be_looked_at(toy: SAM2) -> None:
    predictor, session = tracked(toy)
    with pytest.raises(ValueError, match="frame 0 was prompted"):
        look_back(predictor, session, 0, "a", POINTS)
    with pytest.raises(ValueError, match=r"point \(61, 3\) lies outside the 60x40 clip"):
        look_back(predictor, session, 3, "a", [[61, 3]])
    with pytest.raises(KeyError, match="no object 'c'"):
        look_back(predictor, session, 3, "c", POINTS)
    with pytest.raises(IndexError):
        look_back(predictor, session, 7, "a", POINTS)
    session.clear(0, "a")
    with pytest.raises(ValueError, match="no prompt left"):
        look_back(predictor, session, 3, "a", POINTS)
    fresh = predictor.open(session.clip)
    predictor.add_points(fresh, 0, "a", [[30, 20]])
    with pytest.raises(ValueError, match="frame 3 was not tracked yet"):
        look_back(predictor, fresh, 3, "a", POINTS)
