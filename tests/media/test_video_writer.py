"""Written videos: browsers play them, nothing is late or lost, and half a file is never left."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sam2kit.media.clip import Clip
from sam2kit.media.video_file import VideoFile
from sam2kit.media.video_writer import VideoWriter
from tests.media.clip_factory import alpha_frames, corrupt_packet, number_of, numbered_frame, sound_of, write_clip

VARIABLE = [Fraction(int(ms), 1000) for ms in np.cumsum([0, *np.random.default_rng(1).integers(15, 90, 23)])]


def rewrite(clip: Clip, path: Path) -> tuple[str, ...]:
    """Write a clip and its sound anew, and look whether all is there; gives the writer's notes."""
    sound = clip.path if clip.has_audio else None
    with VideoWriter(path, clip.size_hw, audio_from=sound, span=clip.span) as writer:
        for frame, timestamp in zip(clip.frames(), clip.timestamps, strict=True):
            writer.write(frame, timestamp)
    assert not list(path.parent.glob("*.part*"))
    with VideoFile(path) as written:
        assert written.notes == () and written.timestamps[0] == 0
        for got, wanted in zip(written.timestamps, clip.timestamps, strict=True):
            assert abs(got - (wanted - clip.timestamps[0])) < Fraction(1, 1000)
        assert written.duration == pytest.approx(clip.duration, abs=0.002)
        height, width = clip.size_hw
        for got, wanted in zip(written.frames(), clip.frames(), strict=True):
            assert number_of(got[:height, :width]) == number_of(wanted)
            assert np.abs(got[:height, :width].astype(int) - wanted).mean() < 6
    return writer.notes


def onset(samples: np.ndarray) -> float:
    """Seconds at which the tone begins."""
    return np.flatnonzero(np.abs(samples) > 0.05)[0] / 48000


def codecs(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.codec_context.name for stream in container.streams]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mov"])
def test_times_and_sound_stay(suffix: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "source.mp4", times=VARIABLE, audio="aac", options={"bf": "2"})
    path = tmp_path / f"copy{suffix}"
    with VideoFile(source) as clip:
        assert rewrite(clip, path) == ()
    assert codecs(path) == (["vp9", "opus"] if suffix == ".webm" else ["h264", "aac"])
    before, after = sound_of(source), sound_of(path)
    assert len(after) == pytest.approx(len(before), abs=0.02 * 48000)
    assert onset(after) == pytest.approx(onset(before), abs=0.002)
    if suffix != ".webm":
        assert packets(source) == packets(path), "copied sound is the same to the packet"


def packets(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


def test_mp4_is_what_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "even.mp4"
    with VideoFile(write_clip(tmp_path / "odd.mp4", 12, size_hw=(75, 97), pix_fmt="yuv444p")) as clip:
        rewrite(clip, path)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 98, 76)
        last = list(container.decode(video=0))[-1].to_ndarray(format="rgb24").astype(int)
    assert np.abs(last[:, 97] - last[:, 96]).max() < 12, "the column that was added repeats its neighbour"
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize(
    ("name", "codec", "audio", "target", "sound"),
    [
        ("a.webm", "libvpx-vp9", "libopus", ".webm", "opus"),
        ("a.webm", "libvpx-vp9", "libopus", ".mp4", "aac"),
        ("a.mkv", "libx264", "pcm_s16le", ".mp4", "aac"),
        ("a.ts", "libx264", "aac", ".mp4", "aac"),
        ("a.mkv", "libx264", "libmp3lame", ".mp4", "mp3"),
    ],
)
def test_sound_of_every_kind(name: str, codec: str, audio: str, target: str, sound: str, tmp_path: Path) -> None:
    path = tmp_path / f"copy{target}"
    with VideoFile(write_clip(tmp_path / name, codec=codec, audio=audio)) as clip:
        assert rewrite(clip, path) == ()
    assert codecs(path)[1].startswith(sound)
    assert onset(sound_of(path)) == pytest.approx(0.1, abs=0.03)
    assert len(sound_of(path)) == pytest.approx(0.96 * 48000, abs=0.06 * 48000)


@pytest.mark.parametrize("target", [".mp4", ".webm"])
@pytest.mark.parametrize(("name", "codec", "audio"), [("a.mp4", "libx264", "aac"), ("a.webm", "libvpx-vp9", "libopus")])
def test_the_sound_of_a_cut(name: str, codec: str, audio: str, target: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut{target}"
    with VideoFile(write_clip(tmp_path / name, codec=codec, audio=audio)) as clip:
        rewrite(clip.cut(2, 20), path)
    # MP4 hides the front of the first packet by an edit list; decoders here may still give it, up to one packet
    samples = sound_of(path)
    with av.open(str(path)) as container:
        first = next(container.decode(audio=0))
        begin = float(first.pts * first.time_base)
    assert begin + onset(samples) == pytest.approx(0.1 - 0.08, abs=0.012)
    assert begin + len(samples) / 48000 == pytest.approx(18 / 25, abs=0.03)


def test_broken_sound_does_not_lose_the_video(tmp_path: Path) -> None:
    noise, path = tmp_path / "noise.mp3", tmp_path / "a.mp4"
    noise.write_bytes(b"no sound at all")
    with VideoWriter(path, (64, 96), audio_from=noise) as writer:
        for i in range(5):
            writer.write(numbered_frame(i), Fraction(i, 25))
    assert "the sound of noise.mp3 could not be read" in writer.notes[0]
    assert codecs(path) == ["h264"]
    with VideoFile(path) as clip:
        assert len(clip) == 5

    with VideoFile(corrupt_packet(write_clip(tmp_path / "b.mp4", audio="aac"), 20, "audio")) as clip:
        assert rewrite(clip, tmp_path / "c.webm") == ("damaged parts of the sound are silent: 1",)
    samples = sound_of(tmp_path / "c.webm")
    assert len(samples) == pytest.approx(0.96 * 48000, abs=0.03 * 48000)
    gap = 19 * 1024  # the first packet is the encoder's run-up
    assert np.abs(samples[gap + 200 : gap + 800]).max() < 0.25 * np.abs(samples).max()


def test_damaged_pictures_stay_in_sync(tmp_path: Path) -> None:
    with VideoFile(corrupt_packet(write_clip(tmp_path / "a.mp4", audio="aac"), 11)) as clip:
        assert clip.notes
        rewrite(clip, tmp_path / "b.mp4")


def test_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old one")

    def stumble() -> None:
        with VideoWriter(path, (64, 96)) as writer:
            for i in range(60):
                writer.write(numbered_frame(i), Fraction(i, 25))
            assert (tmp_path / "a.part.mp4").exists()
            raise RuntimeError("stumbled")

    with pytest.raises(RuntimeError, match="stumbled"):
        stumble()
    with pytest.raises(ValueError, match="no frame was written"), VideoWriter(path, (64, 96)):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"the old one"


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    for name, alpha in (("a.gif", False), ("a.mp4", True), ("a", False)):
        with pytest.raises(ValueError, match="end its name in"):
            VideoWriter(tmp_path / name, (4, 4), alpha=alpha)
    frame = numbered_frame(0)
    with VideoWriter(tmp_path / "a.mp4", (64, 96)) as writer:
        writer.write(frame, Fraction(1))
        with pytest.raises(ValueError, match="uint8"):
            writer.write(frame[:5], Fraction(2))
        with pytest.raises(ValueError, match="must increase"):
            writer.write(frame, Fraction(1))


@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_transparency(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, (64, 96), alpha=True) as writer:
        for i in range(6):
            alpha = np.zeros((64, 96, 1), np.uint8)
            alpha[:, 8 * i : 8 * i + 32] = 255
            writer.write(np.concatenate([numbered_frame(i), alpha], axis=2), Fraction(i, 25))
    frames = alpha_frames(path)
    assert len(frames) == 6
    for i, frame in enumerate(frames):
        assert frame[:, 8 * i + 2 : 8 * i + 30, 3].min() > 200
        assert frame[:, : max(0, 8 * i - 2), 3].max(initial=0) < 50
        assert frame[:, 8 * i + 34 :, 3].max() < 50
