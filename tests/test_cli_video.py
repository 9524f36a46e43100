"""`sam2kit video` and `sam2kit session`."""

from __future__ import annotations

import csv
import json
import re
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit.cli import main
from sam2kit.cli.video_command import parse_prompt
from sam2kit.data.opening import open_dataset
from sam2kit.media.clips import open_clip
from sam2kit.media.video_writer import VideoWriter
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.options import CAREFUL
from sam2kit.predict.prompt_lists import prompts_of
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import load_model


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twelve frames of a red disc that goes right over a striped ground, at an uneven rate."""
    y, x = np.mgrid[0:96, 0:128]
    path = tmp_path / "disc.mp4"
    with VideoWriter(path, (96, 128)) as writer:
        for t in range(12):
            frame = np.stack([90 + 30 * np.sin(x / 6), 100 + 0 * x, 110 + 20 * np.sin(y / 9)], axis=2)
            frame[(x - 30 - 5 * t) ** 2 + (y - 48) ** 2 < 18**2] = (230, 40, 30)
            writer.write(frame.astype(np.uint8), Fraction(t, 12) + Fraction(t * t, 1000))
    return path


def track(clip: Path, out: Path, *more: str) -> int:
    return main(["video", str(clip), "--out", str(out), "--model", "nano", *more])


def test_from_clip_to_files(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    kinds = ["video", "masks", "coco", "yolo", "sav", "alpha", "gif", "compare"]
    exports = [word for kind in kinds for word in ("--export", kind)]
    assert track(clip, out, "--prompt", "frame=2,object=disc,point=40,48", "--json", *exports) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 12
    assert report["objects"] == ["disc"]
    assert len(report["files"]) == len(kinds)
    assert all(Path(f).stat().st_size > 0 for f in report["files"])
    with open_clip(out / "disc_overlay.mp4") as made, open_clip(clip) as source:
        assert len(made) == 12
        differences = [float(a - b) for a, b in zip(made.timestamps, source.timestamps, strict=True)]
        assert max(differences) - min(differences) < 1e-3
    names = zipfile.ZipFile(out / "disc_masks.zip").namelist()
    assert sum(n.endswith(".png") for n in names) == 12


def test_cut_and_prompts_from_a_file(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image.fromarray((np.indices((96, 128)).sum(0) < 80).astype(np.uint8) * 255).save(tmp_path / "corner.png")
    entries = [
        {"frame": 4, "object": 1, "points": [[50, 48], [100, 10]], "labels": [1, 0]},
        {"frame": 6, "object": "corner", "mask": "corner.png"},
        {"frame": 6, "object": 7, "box": [40, 30, 78, 66]},
    ]
    (tmp_path / "prompts.json").write_text(json.dumps(entries))
    code = track(
        clip, tmp_path / "out", "--prompts", str(tmp_path / "prompts.json"), "--start", "2", "--stop", "10",
        "--every", "2", "--effect", "spotlight", "--export", "video", "--json", "--no-keep-clicked",
        "--careful", "--exclusive", "--fill-holes", "40", "--export", "table",
    )  # fmt: skip
    assert code == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 4
    assert report["objects"] == [1, "corner", 7]
    options = Session.load(tmp_path / "out/session.sam2kit").options
    assert (options.keep_clicked, options.memory_selection, options.exclusive) == (False, CAREFUL, True)
    assert (options.max_hole_area, options.remembered_hole_area) == (40, 8)
    with (tmp_path / "out/disc_table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["frame"] for row in rows} == {"2", "4", "6", "8"}
    assert {(row["object"], row["name"]) for row in rows} >= {("2", "corner"), ("7", "Object 7")}, "as in the PNGs"
    assert float(rows[0]["seconds"]) == pytest.approx(2 / 12 + 4 / 1000, abs=0.01)


@pytest.mark.slow
def test_a_part_of_a_clip_counts_frames_in_the_whole_one(clip: Path, tmp_path: Path) -> None:
    """Prompts, names of mask files and frame_index; the session finds its clip again, and is data."""
    out = tmp_path / "out"
    part = ("--start", "2", "--stop", "10", "--every", "3", "--export", "masks", "--export", "coco")
    assert track(clip, out, "--prompt", "frame=5,object=4,point=55,48", *part) == 0
    names = zipfile.ZipFile(out / "disc_masks.zip").namelist()
    assert [n for n in names if n.endswith(".png")] == ["00002.png", "00005.png", "00008.png"]
    coco = json.loads((out / "disc_coco.json").read_text())
    assert [image["frame_index"] for image in coco["images"]] == [2, 5, 8]
    assert {annotation["track_id"] for annotation in coco["annotations"]} == {4}
    session = VideoPredictor(load_model("nano", "cpu")).load(out / "session.sam2kit")
    assert list(session.clip.source_frames) == [2, 5, 8]
    assert main(["session", str(out / "session.sam2kit"), "--export", "masks", "--out", str(tmp_path / "again")]) == 0
    assert zipfile.ZipFile(tmp_path / "again" / "disc_masks.zip").namelist() == names
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move(out / "session.sam2kit", moved / "disc.session.safetensors")
    shutil.move(clip, moved)
    (sample,) = open_dataset(moved).clips
    with open_clip(moved / "disc.mp4") as whole:
        assert np.array_equal(sample.read([1]).frames[0], whole.frame(5))
        assert np.array_equal(sample.frame(2), whole.frame(8))


@pytest.mark.slow
def test_a_broken_run_keeps_what_it_has(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    prompt = ("--prompt", "frame=0,object=1,point=30,48", "--export", "masks")
    assert track(clip, whole, *prompt) == 0
    done = 0
    one_step = VideoPredictor.track_frame

    def stop_at_five(self: VideoPredictor, *arguments: object) -> None:
        nonlocal done
        done += 1
        if done == 6:
            raise KeyboardInterrupt
        one_step(self, *arguments)

    monkeypatch.setattr(VideoPredictor, "track_frame", stop_at_five)
    assert track(clip, broken, *prompt) == 130
    assert [p.name for p in broken.iterdir()] == ["session.sam2kit"]
    monkeypatch.undo()
    assert track(clip, broken, "--resume", "--export", "masks") == 0
    monkeypatch.setattr(VideoPredictor, "track_frame", None)  # all is done: nothing is tracked again
    assert track(clip, broken, "--resume", "--export", "coco", "--export", "masks") == 0
    ours, theirs = (zipfile.ZipFile(f / "disc_masks.zip") for f in (whole, broken))
    assert ours.namelist() == theirs.namelist()
    assert all(ours.read(n) == theirs.read(n) for n in ours.namelist())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "say what to follow"),
        ("--resume", "no session to resume"),
        ("--prompt obj_id=1,point=5,2", 'has the unknown key "obj_id"; did you mean "object"?'),
        ("--prompt points=5,2", 'has the unknown key "points"; did you mean "point"?'),
        ("--prompt object=,point=5,2", "its object is ''; give a whole number or a name"),
        ("--prompt here", "should look like frame=0,object=1,point=120,80"),
        ("--prompt frame=0,object=1", "neither a point nor a box nor a mask"),
        ("--prompt frame=0,point=1;2", "is not x,y"),
        ("--prompt frame=99,point=1,2", "on frame 99 is not among the frames in use, 0 to 11 (counted"),
        ("--prompt frame=4,point=1,2 --start 3 --every 5", "in use, 3 to 8, every 5 (counted from 0"),
        ("--prompt box=5,5,20,20 --prompt box=60,40,100,80", "two boxes for object 1 on frame 0, of which"),
        ("--prompt frame=x,point=1,2", "cannot be read as a prompt"),
        ("--prompt frame=0,point=500,2", "lies outside the 128x96"),
        ("--prompt frame=0,point=5,2 --fast", "are for CUDA GPUs, and this runs on cpu; leave them out"),
        ("--prompt frame=0,point=5,2 --effect glow", "unknown effect 'glow'"),
    ],
)
def test_mistakes(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture, line: str, message: str) -> None:
    assert track(clip, tmp_path / "out", *line.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_prompts_as_text() -> None:
    frame, name, prompt = parse_prompt("frame=3,object=cat,box=1,2,30,40,point=5,6,0")
    assert (frame, name, prompt.labels.tolist()) == (3, "cat", [0])
    assert prompt.box_xyxy.tolist() == [1, 2, 30, 40]
    assert parse_prompt("point=5,6")[:2] == (0, 1)


CLICKS = [{"points": [[1, 1]]}, {"points": [[9, 9]], "labels": [0]}, {"box": [0, 0, 20, 20]}]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            {"frame_idx": 3, "points": [[1, 1]]},
            'entry 3 of list.json has the unknown key "frame_idx"; did you mean "frame"',
        ),
        ({"obj_id": 2, "points": [[1, 1]]}, 'unknown key "obj_id"; did you mean "object"'),
        ({"pionts": [[1, 1]]}, 'unknown key "pionts"; did you mean "points"'),
        ({"points": [[1, 1]], "colour": "red"}, 'unknown key "colour"; known are: frame, object, points, labels, box'),
        *(
            ({"object": odd, "points": [[1, 1]]}, f"(its object is {odd!r}; give a whole number or a name)")
            for odd in (None, [1], True, "", 1.5)
        ),
        *(
            (
                {"frame": odd, "points": [[1, 1]]},
                f"(its frame is {odd!r}, which is no whole number; count frames from 0",
            )
            for odd in (0.5, None, "a", True, [3])
        ),
        ({"box": [5, 5, 9, 9]}, "list.json has two boxes for object 1 on frame 0, of which only one would count; give"),
    ],
)
def test_prompts_of_a_list_that_would_be_lost(entry: dict, says: str) -> None:
    assert len(prompts_of([*CLICKS, {"object": 2, "box": [5, 5, 9, 9]}], "list.json", Path())) == 4
    with pytest.raises(ValueError, match=re.escape(says)):
        prompts_of([*CLICKS, entry], "list.json", Path())


def test_mask_files_that_are_prompts(tmp_path: Path) -> None:
    """Palette pictures count by number, not by colour; of 16 bits, the middle is that of the file."""
    mask = np.zeros((12, 16), np.uint8)
    mask[2:8, 3:9] = 1
    palette = Image.fromarray(mask)
    palette.putpalette([0, 0, 0, 128, 0, 0])
    files = {
        "palette.png": palette,
        "ones.png": Image.fromarray(mask),
        "deep.png": Image.fromarray(mask.astype(np.uint16) * 65535),
        "colour.png": Image.fromarray(mask * np.uint8(255)).convert("RGB"),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
        ((_, _, prompt),) = prompts_of([{"mask": name}], "list.json", tmp_path)
        assert np.array_equal(prompt.mask, mask > 0), name
    with pytest.raises(ValueError, match="a mask and something else for object 1 on frame 0"):
        prompts_of([{"mask": "ones.png"}, {"points": [[1, 1]]}], "list.json", tmp_path)
    mask[9:11, 10:15] = 2
    Image.fromarray(mask).save(tmp_path / "two.png")
    with pytest.raises(ValueError, match=r"two\.png holds several objects, numbered up to 2; save"):
        prompts_of([{"mask": "two.png"}], "list.json", tmp_path)


def test_a_picture_session_becomes_masks(nano: SAM2, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:45, 10:40] = (240, 200, 40)
    predictor = VideoPredictor(nano)
    work = predictor.open(image)
    predictor.add_points(work, 0, work.add_object("square"), [(25, 30)])
    work.file_name = "square.png"
    file, out = str(work.save(tmp_path / "square.session.safetensors")), tmp_path / "out"
    wanted = work.masks(0).mask("square")
    assert main(["session", file, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["masks"][0]["area"] == wanted.sum()
    assert np.array_equal(np.array(Image.open(out / "square_mask1.png")) > 0, wanted)
    assert json.loads((out / "square_coco.json").read_text())["categories"][0]["name"] == "square"
    for more, message in ((["clip.mp4"], "leave clip.mp4 out"), (["--export", "coco"], "for sessions of videos")):
        assert main(["session", file, *more, "--out", str(out)]) == 2
        assert message in capsys.readouterr().err


def test_a_video_session_becomes_masks_and_a_video(
    nano: SAM2, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    predictor, out = VideoPredictor(nano), tmp_path / "out"
    session = predictor.open(clip)
    predictor.add_points(session, 0, "disc", [(30, 48)])
    assert len(list(predictor.propagate(session, frames=2)))
    wanted = session.masks(1).mask("disc")
    file = str(predictor.save(session, tmp_path / "disc.session.safetensors", with_path=False))
    session.clip.close()
    arguments = ["--export", "masks", "--export", "video", "--effect", "blur_background+outline", "--out", str(out)]
    assert main(["session", file, str(clip), *arguments]) == 0
    with zipfile.ZipFile(out / "disc_masks.zip") as archive, archive.open("00001.png") as png:
        assert np.array_equal(np.array(Image.open(png)) == 1, wanted)
    assert (out / "disc_blur_background_outline.mp4").exists()
    assert main(["session", file, "--out", str(out)]) == 2
    assert "does not say where its video is" in capsys.readouterr().err
