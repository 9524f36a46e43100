"""What the app takes from a visitor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam2kit.media.clips import open_clip
from sam2kit.media.video_facts import video_facts
from sam2kit.ui.limits import Limits, default_limits
from tests.media.clip_factory import write_clip


def test_a_header_tells_length_and_size(assets: Path) -> None:
    facts = video_facts(assets / "clips" / "cup_grows.mp4")
    assert facts is not None
    assert facts.size_hw == (360, 480)
    assert facts.seconds == pytest.approx(3, abs=0.2)
    assert video_facts(assets / "README.md") is None


def test_each_limit_says_what_came_what_is_taken_and_what_to_do(assets: Path) -> None:
    clip = assets / "clips" / "cup_grows.mp4"
    for limits, words in (
        (Limits(clip_seconds=1), "lasts 3 seconds or more; this app takes 1 at most. Cut it"),
        (Limits(clip_megapixels=0.1), "is 480x360; this app takes videos up to 0.1 megapixels"),
        (Limits(upload_mb=0.1), "more than 0.1 MB"),
    ):
        with pytest.raises(ValueError, match=words):
            limits.check_file(clip)
    with pytest.raises(ValueError, match="disc has 6 frames or more; this app takes 5 at most"):
        Limits(clip_frames=5).open_clip(clip, "disc")
    with pytest.raises(ValueError, match="12 megapixels; this app takes 10 at most"):
        Limits(picture_megapixels=10).check_picture((3000, 4000, 3), "a.jpg")
    Limits().check_file(clip)
    Limits().check_picture(np.zeros((10, 10, 3)).shape, "small.png")


@pytest.mark.parametrize("name", ["long.h264", "long.mp4", "long.mkv"])
def test_a_long_video_is_given_up_while_it_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_clip(tmp_path / name, 250, size_hw=(16, 16))  # ten seconds
    seconds = []
    open_clip(path, check=lambda size_hw, frames, so_far: seconds.append(so_far)).close()
    assert np.allclose(seconds, np.arange(250) / 25, atol=0.01)
    decoded = []
    monkeypatch.setattr(Limits, "_check_frame", lambda *_: decoded.append(1))
    with pytest.raises(ValueError, match="long lasts 2 seconds or more; this app takes 1 at most"):
        Limits(clip_seconds=1).open_clip(path, "long")
    assert len(decoded) < 45


def test_a_space_takes_less_than_a_laptop() -> None:
    home, space = default_limits({}), default_limits({"SPACE_ID": "you/sam2kit"})
    assert home.clip_seconds is None
    assert space.clip_seconds == 120
    assert space.upload_mb < home.upload_mb
    with pytest.raises(ValueError, match="visitors must be above 0"):
        Limits(visitors=0)
