"""`sam2kit video`, of one clip or, with `--batch`, of many: each into a folder of its own.

    [{"clip": "a.mp4", "prompts": [{"frame": 0, "object": "cup", "points": [[120, 80]]}]},
     {"clip": "b.mp4", "prompts": "b.json", "name": "second"}]

Paths are relative to the list. A clip that fails does not stop the rest. The same command goes on after an
interruption: what is done stays as it is, what was begun goes on, what failed is tried again. The processes of
`accelerate launch` share the clips, on one machine or several with a common folder.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sam2kit.cli.arguments import CleaningCommand, argument, option
from sam2kit.cli.video_command import ExportCommand, parse_prompt, track
from sam2kit.files import make_folder, read_json, refuse_unknown_keys, write_json
from sam2kit.predict.options import CAREFUL
from sam2kit.predict.prompt_lists import PlacedPrompt, place_prompts, prompts_of, read_prompts, refuse_lost_prompts
from sam2kit.processes import join_team

if TYPE_CHECKING:
    from sam2kit.predict.video import VideoPredictor

_LONGEST_NAME = 200  # bytes
_SESSION, _NOTE = "session.sam2kit", "batch.json"
_SETTINGS = ("model", "side", "effect", "export", "start", "stop", "every", "direction", "careful", "exclusive")


@dataclass(frozen=True, kw_only=True)
class VideoCommand(ExportCommand, CleaningCommand):
    """follow things through a video"""

    clip: Path | None = argument(None, "a video, a GIF, or a folder of pictures")
    batch: Path | None = option(None, "many clips with their prompts; see the README", "LIST.json")
    prompt: list[str] = option(
        [],
        "a click (point=x,y,0 for 'not this'), box=x0,y0,x1,y1 or mask=FILE; repeat for more",
        "frame=0,object=1,point=x,y[,0|1]",
    )
    prompts: Path | None = option(None, "a list of such prompts; see the README", "FILE.json")
    find_every: int | None = option(
        None, "find what a model with classes knows, on the first frame and every N-th, and follow it", "N"
    )
    start: int = option(0, "first frame to use; frames count in the whole clip")
    stop: int | None = option(None, "frame to end before")
    every: int = option(1, "use every N-th frame", "N")
    direction: Literal["forward", "backward", "both"] = option("both")
    careful: bool = option(False, "choose memories for look-alikes and long absences; see the README")
    exclusive: bool = option(False, "no pixel belongs to two objects")
    resume: bool = option(
        False, "go on with the session in the output folder; give the same --start, --stop and --every"
    )
    fast: bool = option(False, "for a CUDA GPU: record a frame's work, one launch for hundreds")
    compile: bool = option(False, "the same, and compiled: minutes before the first frame")

    def run(self) -> int | None:
        if (self.clip is None) == (self.batch is None):
            raise ValueError("give a clip, or --batch LIST.json for many")
        if self.batch is not None:
            return self._run_batch(self.batch)
        assert self.clip is not None, "a clip or a batch"
        prompts = [parse_prompt(p) for p in self.prompt] + (read_prompts(self.prompts) if self.prompts else [])
        refuse_lost_prompts(prompts, "the list of prompts")
        if self.resume and not self.session_file.exists():
            raise ValueError(f"there is no session to resume in {self.out}; run without --resume first")
        if not self.resume and not prompts and self.find_every is None:
            raise ValueError("say what to follow: --prompt frame=0,object=1,point=x,y, or --prompts FILE.json")
        self._follow(self.clip, prompts)
        return None

    @property
    def session_file(self) -> Path:
        """Where the session of the output folder is."""
        return self.out / _SESSION

    def _predictor(self, device: str | None = None) -> VideoPredictor:
        """As fast as the options ask for."""
        from sam2kit.predict.options import SpeedOptions
        from sam2kit.predict.video import VideoPredictor

        model = self.load(device)
        if not self.fast and not self.compile:
            return VideoPredictor(model)
        if model.device.type != "cuda":
            where = f"and this runs on {model.device.type}; leave them out"
            raise ValueError(f"--fast and --compile are for CUDA GPUs, {where}")
        return VideoPredictor(model, speed=SpeedOptions.fastest(compile=self.compile))

    def _follow(self, path: Path, prompts: list[PlacedPrompt], predictor: VideoPredictor | None = None) -> None:
        """Prompt, track, write; or go on where an earlier run ended.

        Args:
            prompts: by frames of the whole clip.
            predictor: None loads the model, after the clip was opened: weights may have to be downloaded.
        """
        from sam2kit.media.clips import open_clip
        from sam2kit.predict.detector import Detector, follow_all

        with open_clip(path) as whole:
            predictor = predictor or self._predictor()
            clip = whole.cut(self.start, self.stop, self.every)
            numbers = range(self.start, len(whole) if self.stop is None else self.stop, self.every)
            make_folder(self.out)
            session = predictor.load(self.session_file, clip) if self.resume else predictor.open(clip)
            chosen = {"memory_selection": CAREFUL if self.careful else None, "exclusive": self.exclusive or None}
            session.options = session.options.changed(**self.cleaning, **chosen)
            for index, object_id, prompt in place_prompts(prompts, numbers):
                predictor.add_prompt(session, index, object_id, prompt)
            if prompts:
                session.plan = predictor.plan(session, direction=self.direction)
            if self.find_every is None:
                steps = predictor.resume(session)
            else:
                steps = follow_all(Detector(predictor.model), predictor, session, every=self.find_every)
            track(predictor, session, self.session_file, steps, quiet=self.json)
            self.write_exports(session, path.stem)

    def _run_batch(self, batch: Path) -> int:
        """Follow what a list says; returns 1 if a clip failed."""
        if self.prompt or self.prompts:
            raise ValueError("with --batch, the list says what to follow; leave --prompt and --prompts out")
        if self.find_every is not None:
            raise ValueError("--find-every is for one clip; leave it out with --batch")
        settings = {name: getattr(self, name) for name in _SETTINGS} | self.cleaning
        clips = read_batch(batch, self.out, settings)
        for one in clips:
            one.check_folder()
        team = join_team(self.device)
        waiting = [one for one in team.share(clips) if not one.is_done]
        if waiting:
            predictor = self._predictor(team.device)
            for one in waiting:
                self._follow_one(one, predictor)
        team.wait()
        failed = [one.folder.name for one in clips if not one.is_done]
        if team.is_main:
            counts = {"clips": len(clips), "done": len(clips) - len(failed), "failed": failed}
            print(json.dumps(counts) if self.json else f"{counts['done']} of {counts['clips']} clips are done")
        return int(bool(failed))

    def _follow_one(self, one: BatchClip, predictor: VideoPredictor) -> None:
        """One clip of the list; says so if it fails."""
        own = replace(self, out=one.folder)
        begun = own.session_file.exists()
        try:
            one.write_note(done=False)
            replace(own, resume=begun)._follow(one.clip, [] if begun else one.prompts, predictor)
            one.write_note(done=True)
        except (ValueError, OSError, LookupError, RuntimeError) as error:  # memory of a GPU that is short is the last
            print(f"sam2kit: {one.folder.name} failed: {error}", file=sys.stderr)


@dataclass(frozen=True)
class BatchClip:
    """One entry of the list, and its folder, in which a note says what is done there for which entry and options."""

    clip: Path
    prompts: list[PlacedPrompt]
    folder: Path
    note: dict[str, Any]

    @property
    def is_done(self) -> bool:
        """Whether all of it is written."""
        return bool((self._noted() or {}).get("done"))

    def check_folder(self) -> None:
        """Raises ValueError if the folder holds something else that was done or begun."""
        noted = self._noted()
        if noted is None and (self.folder / _SESSION).exists():
            raise ValueError(f"{self.folder} holds a session that is not of a batch; choose another --out")
        if noted is not None and noted | {"done": False} != {"done": False, **self.note}:
            raise ValueError(f"{self.folder} holds results of another list or other options; choose another --out")

    def write_note(self, *, done: bool) -> None:
        """Write the note, whole or not at all."""
        write_json({"done": done, **self.note}, self.folder / _NOTE, indent=1)

    def _noted(self) -> dict[str, Any] | None:
        file = self.folder / _NOTE
        noted = read_json(file) if file.exists() else None
        if noted is not None and not isinstance(noted, dict):
            raise ValueError(f"{file} is damaged; choose another --out, or delete it to begin anew")
        return noted


def read_batch(path: Path, out: Path, settings: dict[str, Any]) -> list[BatchClip]:
    """The clips of a list, each with a folder in `out`, for work with these settings.

    Raises:
        ValueError: if it cannot be read, an entry is incomplete, or two would share a folder.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
        raise ValueError(f'{path} must hold a list of {{"clip": "a.mp4", "prompts": [...]}}')
    clips: dict[str, BatchClip] = {}
    for number, entry in enumerate(entries):
        name, clip, prompts = _read_entry(entry, f"entry {number} of {path}", path.parent)
        if name in clips:
            raise ValueError(f'{path} has two clips called {name!r}; give them a "name" each')
        clips[name] = BatchClip(clip, prompts, out / name, {"entry": entry, **settings})
    return list(clips.values())


def _read_entry(entry: dict[str, Any], where: str, folder: Path) -> tuple[str, Path, list[PlacedPrompt]]:
    """Name, clip and prompts."""
    aliases = {"video": "clip", "path": "clip", "prompt": "prompts"}
    refuse_unknown_keys(entry, ("clip", "prompts", "name"), where, aliases)
    if not isinstance(entry.get("clip"), str) or "prompts" not in entry:
        raise ValueError(f'{where} needs "clip", a path, and "prompts", a list or the path of one')
    clip, asked = folder / entry["clip"], entry["prompts"]
    name = str(entry.get("name") or clip.stem)
    if Path(name).name != name or name == ".." or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(f"{where}: the name {name!r:.80} is no name of a folder")
    from_file = isinstance(asked, str)
    prompts = read_prompts(folder / asked) if from_file else prompts_of(asked, f"the prompts of {where}", folder)
    if not prompts:
        raise ValueError(f"{where} has no prompt, so there is nothing to follow")
    return name, clip, prompts
