"""`sam2kit video`: follow things through a clip, and write videos and masks.

    sam2kit video clip.mp4 --prompt frame=0,object=1,point=120,80 --prompt frame=40,object=1,point=9,9,0 --out tracked
    sam2kit video --batch clips.json --out tracked

Work is never lost: the session is written to the output folder now and then, and at a stop; `--resume` goes on there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2kit.cli.options import Commands, add_results_options, load, numbers_of
from sam2kit.files import make_folder
from sam2kit.media.effects import EFFECTS, EffectPainter
from sam2kit.predict.prompt_lists import PlacedPrompt, place_prompts, prompt_of, read_prompts, refuse_lost_prompts

if TYPE_CHECKING:
    from sam2kit.media.clip_masks import Progress
    from sam2kit.media.clips import Clip
    from sam2kit.predict.session import VideoSession
    from sam2kit.predict.video import VideoPredictor

_SAVE_EVERY = 60.0  # seconds between writings of the session
_SHOULD_LOOK = "--prompt {0!r} should look like frame=0,object=1,point=120,80 (or box=..., mask=FILE), each once"
_KEYS = ("frame", "object", "point", "box", "mask")
_EXPORTS = ("video", "masks", "coco", "yolo", "sav", "alpha", "gif", "compare")


def add_video_command(commands: Commands) -> None:
    """The options of `sam2kit video`."""
    video = commands.add_parser("video", help="follow things through a video")
    video.add_argument("clip", type=Path, nargs="?", help="a video, a GIF, or a folder of pictures")
    video.add_argument("--batch", type=Path, metavar="LIST.json", help="many clips with their prompts; see the README")
    video.add_argument(
        "--prompt", action="append", default=[], metavar="frame=0,object=1,point=x,y[,0|1]",
        help="a click (point=x,y,0 for 'not this'), box=x0,y0,x1,y1 or mask=FILE; repeat for more",
    )  # fmt: skip
    video.add_argument("--prompts", type=Path, metavar="FILE.json", help="a list of such prompts; see the README")
    add_export_options(video)
    video.add_argument("--start", type=int, default=0, help="first frame to use; frames count in the whole clip")
    video.add_argument("--stop", type=int, help="frame to end before")
    video.add_argument("--every", type=int, default=1, metavar="N", help="use every N-th frame")
    video.add_argument("--direction", default="both", choices=("forward", "backward", "both"))
    video.add_argument(
        "--resume", action="store_true",
        help="go on with the session in the output folder; give the same --start, --stop and --every",
    )  # fmt: skip
    video.add_argument(
        "--fast", action="store_true", help="for a CUDA GPU: record a frame's work, one launch for hundreds"
    )
    video.add_argument("--compile", action="store_true", help="the same, and compiled: minutes before the first frame")
    add_results_options(video, run_video)


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """What is written of a session, and how it looks."""
    parser.add_argument(
        "--effect", default="overlay", type=_effect, metavar="EFFECT",
        help=f"how the video shows it: {', '.join(EFFECTS)}; several joined by +, such as blur_background+overlay",
    )  # fmt: skip
    parser.add_argument(
        "--export", action="append", choices=_EXPORTS, help="what to write (default: video and masks); repeat for more"
    )


def _effect(text: str) -> str:
    try:
        EffectPainter(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def run_video(options: argparse.Namespace) -> int:
    """One clip, or a list of them; returns the exit code."""
    from sam2kit.media.clips import open_clip

    if (options.clip is None) == (options.batch is None):
        raise ValueError("give a clip, or --batch LIST.json for many")
    if options.batch:
        from sam2kit.cli.video_batch import run_batch

        return run_batch(options)
    prompts = [parse_prompt(p) for p in options.prompt] + (read_prompts(options.prompts) if options.prompts else [])
    refuse_lost_prompts(prompts, "the list of prompts")
    if options.resume and not session_file(options.out).exists():
        raise ValueError(f"there is no session to resume in {options.out}; run without --resume first")
    if not options.resume and not prompts:
        raise ValueError("say what to follow: --prompt frame=0,object=1,point=x,y, or --prompts FILE.json")
    with open_clip(options.clip) as whole:  # before the weights, which may have to be downloaded
        follow(predictor_of(options), whole, prompts, options)
    return 0


def predictor_of(options: argparse.Namespace) -> VideoPredictor:
    """A predictor at the pace of the options."""
    from sam2kit.predict.pace import Pace
    from sam2kit.predict.video import VideoPredictor

    model = load(options)
    if not options.fast and not options.compile:
        return VideoPredictor(model)
    if model.device.type != "cuda":
        raise ValueError(
            f"--fast and --compile are for CUDA GPUs, and this runs on {model.device.type}; leave them out"
        )
    return VideoPredictor(model, pace=Pace.fastest(compiled=options.compile))


def follow(predictor: VideoPredictor, whole: Clip, prompts: list[PlacedPrompt], options: argparse.Namespace) -> None:
    """Prompt, track, write; or go on where an earlier run ended.

    Args:
        prompts: by frames of the whole clip.
        options: those of the command, for one clip; with `resume`, the session in its folder is gone on with.
    """
    saved = session_file(options.out)
    clip = whole.cut(options.start, options.stop, options.every)
    numbers = range(options.start, len(whole) if options.stop is None else options.stop, options.every)
    make_folder(options.out)
    session = predictor.load(saved, clip) if options.resume else predictor.open(clip)
    for index, object_id, prompt in place_prompts(prompts, numbers):
        predictor.add_prompt(session, index, object_id, prompt)
    if not options.resume or prompts:
        session.plan = predictor.plan(session, direction=options.direction)
    _track(predictor, session, saved, options)
    write_exports(session, options, options.clip.stem)


def session_file(out: Path) -> Path:
    """Where the session of an output folder is."""
    return out / "session.sam2kit"


def parse_prompt(text: str) -> PlacedPrompt:
    """ "frame=0,object=1,point=120,80,0" -> frame, object id, prompt.

    Raises:
        ValueError: if it says anything else; shows how it should look.
    """
    stated: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals:
            if key.strip() in stated or key.strip() not in _KEYS:
                raise ValueError(_SHOULD_LOOK.format(text))
            stated[key.strip()] = value
        elif stated:
            stated[list(stated)[-1]] += f",{part}"
    if not stated:
        raise ValueError(_SHOULD_LOOK.format(text))
    entry: dict[str, Any] = {"frame": stated.get("frame", "0"), "object": stated.get("object", "1")}
    if "point" in stated:
        x, y, *label = numbers_of(stated["point"], (2, 3), "point", "x,y or x,y,0 or x,y,1")
        entry |= {"points": [[x, y]], "labels": label or [1]}
    if "box" in stated:
        entry["box"] = numbers_of(stated["box"], (4,), "box", "x0,y0,x1,y1")
    if "mask" in stated:
        entry["mask"] = stated["mask"]
    return prompt_of(entry, f"--prompt {text!r}", Path())


def _track(predictor: VideoPredictor, session: VideoSession, saved: Path, options: argparse.Namespace) -> None:
    """Go through the plan with a progress bar; whatever happens, the session is written."""
    from tqdm import tqdm

    last, done = time.monotonic(), False
    try:
        with tqdm(desc="tracking", total=len(session.plan), unit="frame", disable=options.json) as bar:
            for _ in predictor.resume(session):
                bar.update()
                if time.monotonic() - last > _SAVE_EVERY:
                    predictor.save(session, saved)
                    last = time.monotonic()
        done = True
    finally:
        predictor.save(session, saved)
        if not done:
            print(f"sam2kit: what is done is kept in {saved}; --resume goes on there", file=sys.stderr)


def write_exports(session: VideoSession, options: argparse.Namespace, stem: str) -> None:
    """Write what was asked for, and print which files there are and what could not be taken over.

    Args:
        options: with those of `add_export_options`, `out` and `json`.
        stem: what the files' names begin with.
    """
    make_folder(options.out)
    files, notes = _export(session, options, stem)
    notes = [*session.clip.notes, *notes]
    if options.json:
        objects, frames = list(session.object_ids), len(session.clip)
        print(json.dumps({"frames": frames, "objects": objects, "files": files, "notes": notes}))
    else:
        print("\n".join([*notes, *files]))


def _export(session: VideoSession, options: argparse.Namespace, stem: str) -> tuple[list[str], list[str]]:
    """Write what was asked for; the files and what could not be taken over."""
    from tqdm import tqdm

    from sam2kit.media import mask_exports, video_exports

    clip, masks_of, out = session.clip, session.masks, options.out
    writers: dict[str, tuple[Path, Callable[[Path], Progress]]] = {
        "video": (
            out
            / f"{stem}_{options.effect.replace('+', '_')}.{'webm' if options.effect.endswith('cut_out') else 'mp4'}",
            lambda p: video_exports.export_video(clip, masks_of, p, options.effect),
        ),
        "masks": (out / f"{stem}_masks.zip", lambda p: mask_exports.export_davis(clip, masks_of, p)),
        "coco": (out / f"{stem}_coco.json", lambda p: mask_exports.export_coco(clip, masks_of, p)),
        "yolo": (out / f"{stem}_yolo.zip", lambda p: mask_exports.export_yolo(clip, masks_of, p)),
        "sav": (out / f"{stem}_sav.json", lambda p: mask_exports.export_sav(clip, masks_of, p)),
        "alpha": (out / f"{stem}_alpha.webm", lambda p: video_exports.export_alpha(clip, masks_of, p)),
        "gif": (out / f"{stem}.gif", lambda p: video_exports.export_gif(clip, masks_of, p, options.effect)),
        "compare": (
            out / f"{stem}_compare.mp4",
            lambda p: video_exports.export_side_by_side(clip, masks_of, p, options.effect),
        ),
    }
    files: list[str] = []
    notes: list[str] = []
    for kind in options.export or ["video", "masks"]:
        path, write = writers[kind]
        progress = write(path)
        with tqdm(desc=path.name, total=len(clip), unit="frame", disable=options.json) as bar:
            while True:
                try:
                    bar.update(next(progress) - bar.n)
                except StopIteration as end:
                    notes += end.value or ()
                    break
        files.append(str(path))
    return files, notes
