"""`sam2kit session`: what was saved in the app, as files, without a model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit import PictureSession, VideoPredictor
from sam2kit.cli import main
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.picture_session import PromptedObject
from sam2kit.predict.prompts import Prompt
from tests.ui.moving_disc import centre, write_disc_clip


def test_a_picture_session_becomes_masks(nano: SAM2, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:45, 10:40] = (240, 200, 40)
    predictor = ImagePredictor(nano)
    answer = predictor.predict(predictor.encode(image), Prompt([[25, 30]])).best()
    session = PictureSession(image, "square.png", (PromptedObject(0, "square", ((25, 30, 1),), None, answer),))
    file = session.save(tmp_path / "square.session.safetensors")
    out = tmp_path / "out"
    assert main(["session", str(file), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["masks"][0]["area"] == session.masks["square"].sum()
    assert np.array_equal(np.array(Image.open(out / "square_mask1.png")) > 0, session.masks["square"])
    coco = json.loads((out / "square_coco.json").read_text())
    assert coco["categories"][0]["name"] == "square"
    assert main(["session", str(file), "clip.mp4", "--out", str(out)]) == 2
    assert "leave clip.mp4 out" in capsys.readouterr().err
    assert main(["session", str(file), "--export", "coco", "--out", str(out)]) == 2
    assert "for sessions of videos" in capsys.readouterr().err


def test_a_video_session_becomes_masks_and_a_video(nano: SAM2, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    clip_path = write_disc_clip(tmp_path / "disc.mp4")
    predictor = VideoPredictor(nano)
    session = predictor.open(clip_path)
    predictor.add_points(session, 0, "disc", [centre(0)])
    for _ in predictor.propagate(session, frames=2):
        pass
    wanted = session.masks(1).mask("disc")
    file = predictor.save(session, tmp_path / "disc.session.safetensors", with_path=False)
    session.clip.close()
    out = tmp_path / "out"
    arguments = ["--export", "masks", "--export", "video", "--effect", "blur_background+outline", "--out", str(out)]
    assert main(["session", str(file), str(clip_path), *arguments]) == 0
    with zipfile.ZipFile(out / "disc_masks.zip") as archive, archive.open("00001.png") as png:
        assert np.array_equal(np.array(Image.open(png)) == 1, wanted)
    assert (out / "disc_blur_background_outline.mp4").exists()
    capsys.readouterr()
    assert main(["session", str(file), "--out", str(out)]) == 2
    assert "does not say where its video is" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["session", str(file), str(clip_path), "--effect", "glow", "--out", str(out)])
    assert "unknown effect 'glow'" in capsys.readouterr().err
