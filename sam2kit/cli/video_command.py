"""Following things through one clip, and `sam2kit session`, which writes videos and masks of saved work.

    sam2kit video clip.mp4 --prompt frame=0,object=1,point=120,80 --prompt frame=40,object=1,point=9,9,0 --out tracked
    sam2kit session photo.session.safetensors --out masks
    sam2kit session clip.session.safetensors clip.mp4 --export video --export coco --out masks

Work is never lost: the session is written to the output folder now and then, and at a stop; `--resume` goes on there.
A session of the app needs no model and no weights. A photo's session holds the photo; a video's needs its clip.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2kit.cli.arguments import JSON_HELP, Command, argument, numbers_of, option
from sam2kit.cli.image_commands import write_masks
from sam2kit.files import make_folder, refuse_unknown_keys
from sam2kit.media.effects import EFFECTS, EffectPainter
from sam2kit.predict.prompt_lists import ALIASES, PlacedPrompt, prompt_of

if TYPE_CHECKING:
    from sam2kit.predict.frame_masks import FrameMasks
    from sam2kit.predict.session import Session
    from sam2kit.predict.video import VideoPredictor

_SAVE_EVERY = 60.0  # seconds between writings of the session
_SHOULD_LOOK = "--prompt {0!r} should look like frame=0,object=1,point=120,80 (or box=..., mask=FILE), each once"
_KEYS = ("frame", "object", "point", "box", "mask")
_ENDINGS = {  # kind of export -> how its file's name ends
    "video": "",  # says the effect
    "masks": "_masks.zip",
    "coco": "_coco.json",
    "yolo": "_yolo.zip",
    "sav": "_sav.json",
    "table": "_table.csv",
    "alpha": "_alpha.webm",
    "gif": ".gif",
    "compare": "_compare.mp4",
}


@dataclass(frozen=True, kw_only=True)
class ExportCommand(Command):
    """With what is written of a session, and how it is drawn."""

    effect: str = option(
        "overlay", f"how the video shows it: {', '.join(EFFECTS)}; several joined by +, such as blur_background+overlay"
    )
    export: list[str] = option([], f"{', '.join(_ENDINGS)} (default: video and masks); repeat for more")
    out: Path = option(help="folder for the results")
    json: bool = option(False, JSON_HELP)

    def __post_init__(self) -> None:
        EffectPainter(self.effect)  # a ValueError before hours of work
        unknown = [kind for kind in self.export if kind not in _ENDINGS]
        if unknown:
            raise ValueError(f"--export is one of {', '.join(_ENDINGS)}, got {unknown[0]!r}")

    def write_exports(self, session: Session, stem: str) -> None:
        """Write what was asked for, and print which files there are and what could not be taken over.

        Args:
            stem: what the files' names begin with.
        """
        from tqdm import tqdm

        make_folder(self.out)
        files: list[str] = []
        notes = list(session.clip.notes)
        for kind in self.export or ["video", "masks"]:
            ending = _ENDINGS[kind] or self._video_ending()
            path = self.out / f"{stem}{ending}"
            progress = self._exporting(kind, session, path)
            with tqdm(desc=path.name, total=len(session.clip), unit="frame", disable=self.json) as bar:
                while True:
                    try:
                        bar.update(next(progress) - bar.n)
                    except StopIteration as end:
                        notes += end.value or ()
                        break
            files.append(str(path))
        if self.json:
            objects, frames = list(session.object_ids), len(session.clip)
            print(json.dumps({"frames": frames, "objects": objects, "files": files, "notes": notes}))
        else:
            print("\n".join([*notes, *files]))

    def _video_ending(self) -> str:
        return f"_{self.effect.replace('+', '_')}.{'webm' if self.effect.endswith('cut_out') else 'mp4'}"

    def _exporting(self, kind: str, session: Session, path: Path) -> Any:
        """A generator of how many frames are written."""
        from sam2kit.data import mask_exports
        from sam2kit.media import video_exports

        given = (session.clip, session.masks, path)
        painter = EffectPainter(self.effect, feather=session.options.feather)
        writers: dict[str, Callable[[], Any]] = {
            "video": lambda: video_exports.export_video(*given, painter),
            "masks": lambda: mask_exports.export_davis(*given),
            "coco": lambda: mask_exports.export_coco(*given),
            "yolo": lambda: mask_exports.export_yolo(*given),
            "sav": lambda: mask_exports.export_sav(*given),
            "table": lambda: mask_exports.export_table(*given),
            "alpha": lambda: video_exports.export_alpha(*given, feather=session.options.feather),
            "gif": lambda: video_exports.export_gif(*given, painter),
            "compare": lambda: video_exports.export_video(*given, painter, side_by_side=True),
        }
        return writers[kind]()


@dataclass(frozen=True, kw_only=True)
class SessionCommand(ExportCommand):
    """masks and videos of a session that the app saved"""

    file: Path = argument(help="a session of a photo or of a video")
    clip: Path | None = argument(None, "the video, for a session of one")

    def run(self) -> None:
        from sam2kit.media.clips import open_clip
        from sam2kit.media.mask_files import NamedMask
        from sam2kit.predict.session import Session
        from sam2kit.predict.session_file import is_picture_session, session_clip_path

        if not is_picture_session(self.file):
            source = self.clip or session_clip_path(self.file)
            if source is None:
                raise ValueError(f"{self.file} does not say where its video is; give it: sam2kit session FILE VIDEO")
            with open_clip(source) as clip:
                self.write_exports(Session.load(self.file, clip), Path(source).stem)
            return
        if self.clip is not None:
            raise ValueError(f"{self.file} is a session of a picture, which is in it; leave {self.clip} out")
        if self.export:
            raise ValueError("--export is for sessions of videos; a picture's masks are written in every form")
        session = Session.load(self.file)
        masks = session.masks(0)
        results = {i: (item.name, item.result(0)) for i, item in session.objects.items()}
        found = [NamedMask.of(name, masks.mask(i), r.predicted_iou) for i, (name, r) in results.items() if r]
        feather = session.options.feather
        write_masks(self.out, session.clip.frame(0), found, session.file_name, as_json=self.json, feather=feather)


def parse_prompt(text: str) -> PlacedPrompt:
    """ "frame=0,object=1,point=120,80,0" -> frame, object id, prompt.

    Raises:
        ValueError: if it says anything else; shows how it should look.
    """
    stated: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals:
            if key.strip() in stated:
                raise ValueError(_SHOULD_LOOK.format(text))
            stated[key.strip()] = value
        elif stated:
            stated[list(stated)[-1]] += f",{part}"
    if not stated:
        raise ValueError(_SHOULD_LOOK.format(text))
    meant = {alias: key.replace("points", "point") for alias, key in ALIASES.items() if key != "labels"}
    refuse_unknown_keys(stated, _KEYS, f"--prompt {text!r}", meant)
    entry: dict[str, Any] = {key: stated[key] for key in ("frame", "object", "mask") if key in stated}
    if "point" in stated:
        x, y, *label = numbers_of(stated["point"], (2, 3), "point", "x,y or x,y,0 or x,y,1")
        entry |= {"points": [[x, y]], "labels": label or [1]}
    if "box" in stated:
        entry["box"] = numbers_of(stated["box"], (4,), "box", "x0,y0,x1,y1")
    return prompt_of(entry, f"--prompt {text!r}", Path())


def track(
    predictor: VideoPredictor, session: Session, saved: Path, steps: Iterator[FrameMasks], *, quiet: bool
) -> None:
    """Go through the frames with a progress bar; whatever happens, the session is written."""
    from tqdm import tqdm

    last, done = time.monotonic(), False
    try:
        with tqdm(desc="tracking", total=len(session.plan) or len(session.frames), unit="frame", disable=quiet) as bar:
            for _ in steps:
                bar.update()
                if time.monotonic() - last > _SAVE_EVERY:
                    predictor.save(session, saved)
                    last = time.monotonic()
        done = True
    finally:
        predictor.save(session, saved)
        if not done:
            print(f"sam2kit: what is done is kept in {saved}; --resume goes on there", file=sys.stderr)
