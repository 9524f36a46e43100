"""Clips of every kind: the right frames, at the right times, upright, in any order, and what is damaged is said."""

from __future__ import annotations

import pickle
import random
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from sam2kit.data.opening import open_dataset
from sam2kit.media.clips import FrameList, PictureFolder, frame_at, open_clip
from sam2kit.media.video_file import VideoFile
from tests.media.clip_factory import (
    MIRRORED,
    QUARTER_TURN_LEFT,
    QUARTER_TURN_RIGHT,
    UPSIDE_DOWN,
    corrupt_packet,
    cut_off,
    number_of,
    numbered_frame,
    write_clip,
    write_turned_clip,
)

QUIET_X265 = "log-level=error:keyint=8:min-keyint=8:bframes=3"
VARIABLE = [Fraction(int(ms), 1000) for ms in np.cumsum([0, *np.random.default_rng(0).integers(15, 90, 23)])]
KINDS = {
    "sound.mp4": {"audio": "aac"},
    "b-frames.mp4": {"options": {"bf": "3", "b-adapt": "0"}},
    "open-gop.mp4": {"options": {"bf": "3", "b-adapt": "0", "x264-params": "open-gop=1"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": {"bf": "2"}},
    "ten-bit.mp4": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": QUIET_X265}},
    "vp9.webm": {"codec": "libvpx-vp9", "audio": "libopus"},
    "see-through.webm": {"codec": "libvpx-vp9", "pix_fmt": "yuva420p", "options": {"auto-alt-ref": "0"}},
    "av1.webm": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "old.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "broadcast.ts": {"audio": "aac"},
    "variable.mp4": {"times": VARIABLE, "options": {"bf": "2"}},
    "variable.mkv": {"times": VARIABLE, "audio": "aac"},
    "odd.mp4": {"size_hw": (75, 97), "pix_fmt": "yuv444p"},
    "animation.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_in_any_order(name: str, tmp_path: Path) -> None:
    options = KINDS[name]
    if options.get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"this FFmpeg cannot write {options['codec']}")
    path = write_clip(tmp_path / name, **options)
    with open_clip(path) as clip:
        assert isinstance(clip, VideoFile)
        assert clip.notes == () and clip.has_audio == ("audio" in options)
        assert clip.size_hw == options.get("size_hw", (64, 96))
        expected = options.get("times", [Fraction(i, 25) for i in range(24)])
        for got, wanted in zip(clip.timestamps, expected, strict=True):
            assert abs(got - clip.timestamps[0] - wanted) < Fraction(1, 1000)
        in_order = list(clip.frames())
        assert [number_of(frame) for frame in in_order] == list(range(24))
        for index in [*random.Random(0).sample(range(24), 24), *range(23, 19, -1)]:
            clip._cache.clear()  # each frame from the file, not from memory
            assert np.array_equal(clip.frame(index), in_order[index]), f"frame {index} differs after a jump"
    assert clip.fps == pytest.approx(23 / float(expected[-1] - expected[0]), rel=0.01)


@pytest.mark.parametrize("turn", [QUARTER_TURN_RIGHT, QUARTER_TURN_LEFT, UPSIDE_DOWN, MIRRORED])
def test_a_turned_clip_comes_out_upright(turn: tuple[int, int, int, int], tmp_path: Path) -> None:
    with VideoFile(write_turned_clip(tmp_path / "phone.mp4", turn)) as clip:
        assert clip.size_hw == (64, 96)
        assert [number_of(frame) for frame in clip.frames()] == list(range(12))


def test_reading_backwards_decodes_each_group_once(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", 40, options={"g": "40", "keyint_min": "40", "sc_threshold": "0"})
    with VideoFile(path) as clip:
        assert clip._keys == [0]
        clip._capacity = 8
        starts, seek = [], clip._seek
        clip._seek = lambda index: (starts.append(index), seek(index))
        assert [number_of(frame) for frame in clip.frames(39, None, -1)] == list(range(39, -1, -1))
        assert len(starts) <= 6, "one pass over the group for each filling of the cache"
        assert len(clip._cache) <= 8


@pytest.mark.parametrize(("name", "options"), [("end.mkv", {}), ("end.mp4", {"movflags": "faststart"})])
def test_a_cut_off_file_gives_what_it_has(name: str, options: dict[str, str], tmp_path: Path) -> None:
    pictures = [numbered_frame(i) for i in range(40)]
    for picture, grain in zip(pictures, np.random.default_rng(0).integers(0, 256, (40, 16, 96, 3)), strict=True):
        picture[24:40] = grain  # so that the frames weigh more than the index
    times = [Fraction(i, 25) for i in range(40)]
    path = write_clip(tmp_path / name, pictures=pictures, times=times, container_options=options)
    with VideoFile(cut_off(path, 0.5)) as clip:
        assert 5 < len(clip) < 35
        assert clip.notes[0] == f"{len(clip)} of about 40 frames could be read; the file is cut off"
        numbers = [number_of(frame) for frame in clip.frames()]
        assert numbers[:-1] == list(range(len(clip) - 1)), "all but perhaps the last are whole"


@pytest.mark.parametrize("bad", [8, 11, 16])
def test_a_bad_packet_costs_that_packet(bad: int, tmp_path: Path) -> None:
    path = corrupt_packet(write_clip(tmp_path / "bad.mp4", 40, options={"bf": "0"}), bad)
    with VideoFile(path) as clip:
        assert 32 <= len(clip) < 40
        assert "damaged packets left out: 1" in clip.notes[0]
        next_key = (bad // 8 + 1) * 8
        in_order = list(clip.frames())
        numbers = [number_of(frame) for frame in in_order]
        assert numbers[:bad] == list(range(bad))
        assert [n for n in numbers if n >= next_key] == list(range(next_key, 40))
        assert clip.timestamps[numbers.index(next_key)] == Fraction(next_key, 25), "what follows is not early"
        for index in (len(clip) - 1, bad, 3, bad + 1):
            clip._cache.clear()
            assert np.array_equal(clip.frame(index), in_order[index])


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    files = {"text.mp4": b"once upon a time", "empty.mp4": b"", "list.m3u8": b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="is not a video that can be read"):
            open_clip(tmp_path / name)
    for name in ("nothing.mp4", "nothing.png"):
        with pytest.raises(FileNotFoundError, match=r"there is no (video|picture) at"):
            open_clip(tmp_path / name)
    with pytest.raises(ValueError, match="got int"):
        open_clip(5)


def test_a_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    path = tmp_path / "one.png"
    Image.fromarray(pixels).save(path)
    for source in (path, str(path), path.read_bytes(), Image.fromarray(pixels), pixels):
        clip = open_clip(source)
        assert len(clip) == 1 and clip.size_hw == (4, 6) and np.array_equal(clip.frame(0), pixels)
    assert open_clip(path).origin == path.resolve() and open_clip(pixels).path is None


def test_closed_clips_and_wrong_numbers(tmp_path: Path) -> None:
    clip = VideoFile(write_clip(tmp_path / "a.mp4", 3))
    for index in (3, -1):
        with pytest.raises(IndexError, match=rf"no frame {index}; .* 0 to 2"):
            clip.frame(index)
    clip.frame(0)[:] = 0
    assert clip.frame(0).any(), "a frame belongs to who asked for it"
    clip.close()
    with pytest.raises(ValueError, match="closed"):
        clip.frame(0)
    with VideoFile(write_clip(tmp_path / "b.mp4", 1)) as one:
        assert (len(one), one.fps) == (1, 25.0) and one.duration > 0


def test_cuts_keep_the_clock(tmp_path: Path) -> None:
    with VideoFile(write_clip(tmp_path / "a.mp4", times=VARIABLE, audio="aac")) as clip:
        part = clip.cut(4, 20, every=3)
        assert [number_of(frame) for frame in part.frames()] == [4, 7, 10, 13, 16, 19] == list(part.source_frames)
        assert part.timestamps == clip.timestamps[4:20:3]
        assert part.span == (clip.timestamps[4], clip.timestamps[20])
        assert part.has_audio and clip.cut(0).span == clip.span
        assert number_of(part.cut(1, 3).frame(1)) == 10
        part.close()
        assert number_of(clip.frame(5)) == 5, "closing a cut leaves its source open"
        for start, stop, every in ((5, 5, 1), (-1, 4, 1), (0, 25, 1), (0, 4, 0)):
            with pytest.raises(ValueError, match="cannot cut"):
                clip.cut(start, stop, every)
        assert [frame_at(clip, t) for t in (-1, 0, VARIABLE[7], float(VARIABLE[7]) + 0.01, 99)] == [0, 0, 7, 7, 23]


def test_fingerprints_recognise(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 12)
    with VideoFile(path) as first, VideoFile(path) as again:
        assert first.fingerprint() == again.fingerprint() == pickle.loads(pickle.dumps(first)).fingerprint()
        assert first.fingerprint() != first.cut(0, 11).fingerprint()
        assert first.fingerprint() != FrameList([*first.frames(0, 11), first.frame(0)]).fingerprint()


def test_threads_share_a_clip(tmp_path: Path) -> None:
    with VideoFile(write_clip(tmp_path / "a.mp4", 24, options={"bf": "2"})) as clip:
        clip._capacity = 4
        wrong: list[int] = []

        def read(seed: int) -> None:
            wrong.extend(i for i in random.Random(seed).sample(range(24), 24) if number_of(clip.frame(i)) != i)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_changing_size_is_scaled(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / f"{w}.h264", 4, size_hw=(h, w)) for h, w in ((64, 96), (48, 72))]
    path = tmp_path / "joined.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with VideoFile(path) as clip:
        assert {frame.shape for frame in clip.frames()} == {(64, 96, 3)}
        assert [number_of(frame) for frame in clip.frames()] == [0, 1, 2, 3] * 2
        assert any("changes its size at frame 4" in note for note in clip.notes)
        assert all(a < b for a, b in zip(clip.timestamps, clip.timestamps[1:], strict=False))


def test_grey_and_transparent_pixels(tmp_path: Path) -> None:
    with VideoFile(write_clip(tmp_path / "grey.mkv", 6, codec="ffv1", pix_fmt="gray")) as clip:
        frame = clip.frame(3)
    assert (frame == frame[..., :1]).all()
    assert frame[5, 5, 0] > 200, "the lowest bit of 3"
    frames = [Image.new("RGBA", (8, 6), colour) for colour in ((0, 0, 0, 0), (255, 0, 0, 255), (0, 0, 0, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[100, 200, 50], disposal=2)
    with open_clip(tmp_path / "a.gif") as clip:
        assert clip.frame(0)[3, 4].tolist() == [255, 255, 255]
        assert clip.frame(1)[3, 4].tolist() == pytest.approx([255, 0, 0], abs=4)
        assert [float(t) for t in clip.timestamps] == [0, 0.1, 0.3]
        assert clip.duration == pytest.approx(0.35, abs=0.06)


def test_folders_count_like_people(tmp_path: Path) -> None:
    names = ["shot 1.png", "shot 2.png", "shot 10.PNG", "shot 11.jpg", "shot 100.webp"]
    for i, name in enumerate(names):
        Image.fromarray(numbered_frame(i)).save(tmp_path / name, quality=95)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    clip = open_clip(tmp_path, fps=10)
    assert isinstance(clip, PictureFolder)
    assert [number_of(frame) for frame in clip.frames()] == list(range(5))
    assert (clip.timestamps[3], clip.fps, clip.duration, clip.has_audio) == (Fraction(3, 10), 10, 0.5, False)
    Image.new("RGB", (5, 4)).save(tmp_path / "shot 3.png")
    with pytest.raises(ValueError, match=r"shot 3\.png is 5x4, but .*shot 1\.png is 96x64"):
        open_clip(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        open_clip(tmp_path / "empty")


def test_lists_of_frames(tmp_path: Path) -> None:
    stack = np.stack([numbered_frame(i) for i in range(4)])
    Image.fromarray(stack[2]).save(tmp_path / "two.png")
    mixed = [stack[0], Image.fromarray(stack[1]), tmp_path / "two.png", stack[3]]
    for clip in (open_clip(stack), open_clip(mixed), open_clip(list(stack), fps=30)):
        assert [number_of(frame) for frame in clip.frames(step=2)] == [0, 2]
        clip.frame(0)[:] = 0
        assert clip.frame(0).any()
    assert open_clip(clip) is clip
    assert open_clip(stack, fps=30000 / 1001).last_duration == Fraction(1001, 30000)
    for frames, fps, message in (
        ([], 25, "at least one"),
        (np.zeros((2, 4, 4, 1)), 25, r"\[T, H, W, 3\]"),
        ([stack[0], stack[0][:9]], 25, "one size"),
        (stack, 0, "fps"),
    ):
        with pytest.raises(ValueError, match=message):
            open_clip(frames, fps=fps)


@pytest.mark.parametrize("kind", ["files", "arrays", "colour files"])
def test_sixteen_bit_frames_have_one_range(kind: str, tmp_path: Path) -> None:
    """What fades to a quarter is shown so, in a clip and in a dataset of its frames."""
    whole = np.arange(2400, dtype=np.float64).reshape(40, 60) * 25
    frames = [(whole * share).astype(np.uint16) for share in (1, 0.5, 0.25)]
    folder, masks = tmp_path / "JPEGImages" / "fade", tmp_path / "Annotations" / "fade"
    folder.mkdir(parents=True)
    masks.mkdir(parents=True)
    for i, frame in enumerate(frames):
        deep = np.repeat(frame[..., None], 3, axis=2) if kind == "colour files" else frame
        cv2.imwrite(str(folder / f"{i:05d}.png"), deep)
        Image.fromarray(np.eye(40, 60, dtype=np.uint8)).save(masks / f"{i:05d}.png")
    clip = open_clip(frames if kind == "arrays" else folder)
    assert [int(clip.frame(i).max()) for i in (2, 0, 1)] == [64, 255, 127]
    assert clip.notes == ()
    (sample,) = open_dataset(tmp_path).clips
    assert [int(frame.max()) for frame in sample.read([0, 1, 2]).frames] == [255, 127, 64]


def test_a_hot_pixel_of_one_frame_does_not_darken_the_clip() -> None:
    frames = [np.random.default_rng(i).integers(0, 200, (40, 60), np.uint16) for i in range(3)]
    frames[1][0, 0] = 65535
    clip = open_clip(frames)
    assert [int(clip.frame(i)[1:].max()) for i in range(3)] == [255, 255, 255]
    assert "one range of values: its contrast is that of the values 0 to 199" in clip.notes[0]
