"""`sam2kit video --batch`: many clips, each into a folder of its own.

    [{"clip": "a.mp4", "prompts": [{"frame": 0, "object": "cup", "points": [[120, 80]]}]},
     {"clip": "b.mp4", "prompts": "b.json", "name": "second"}]

Paths are relative to the list. A clip that fails does not stop the rest. The same command goes on after an
interruption: what is done stays as it is, what was begun goes on, what failed is tried again. The processes of
`accelerate launch` share the clips, on one machine or several with a common folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2kit.cli.video import follow, predictor_of, session_file
from sam2kit.errors import refuse_unknown_keys
from sam2kit.evaluation.processes import join_team
from sam2kit.files import make_folder, read_json, written_whole
from sam2kit.predict.prompt_lists import PlacedPrompt, prompts_of, read_prompts

if TYPE_CHECKING:
    from sam2kit.predict.video import VideoPredictor

_NOTE = "batch.json"
_LONGEST_NAME = 200  # bytes
_SETTINGS = ("model", "side", "effect", "export", "start", "stop", "every", "direction")


@dataclass(frozen=True)
class BatchClip:
    """One entry of the list."""

    name: str  # of its folder
    clip: Path
    prompts: list[PlacedPrompt]
    stated: dict[str, Any]  # the entry as it was written


def read_batch(path: Path) -> list[BatchClip]:
    """The clips of a list.

    Raises:
        ValueError: if it cannot be read, an entry is incomplete, or two would share a folder.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
        raise ValueError(f'{path} must hold a list of {{"clip": "a.mp4", "prompts": [...]}}')
    clips = [_entry(entry, f"entry {number} of {path}", path.parent) for number, entry in enumerate(entries)]
    names = [clip.name for clip in clips]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f'{path} has two clips called {twice!r}; give them a "name" each')
    return clips


def _entry(entry: dict[str, Any], where: str, folder: Path) -> BatchClip:
    refuse_unknown_keys(
        entry, ("clip", "prompts", "name"), where, {"video": "clip", "path": "clip", "prompt": "prompts"}
    )
    if not isinstance(entry.get("clip"), str) or "prompts" not in entry:
        raise ValueError(f'{where} needs "clip", a path, and "prompts", a list or the path of one')
    clip, asked = folder / entry["clip"], entry["prompts"]
    name = str(entry.get("name") or clip.stem)
    if Path(name).name != name or name == ".." or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(f"{where}: the name {name!r:.80} is no name of a folder")
    prompts = (
        read_prompts(folder / asked) if isinstance(asked, str) else prompts_of(asked, f"the prompts of {where}", folder)
    )
    if not prompts:
        raise ValueError(f"{where} has no prompt, so there is nothing to follow")
    return BatchClip(name, clip, prompts, entry)


def run_batch(options: argparse.Namespace) -> int:
    """Follow what the list says; returns 1 if a clip failed."""
    if options.prompt or options.prompts:
        raise ValueError("with --batch, the list says what to follow; leave --prompt and --prompts out")
    settings = {name: getattr(options, name) for name in _SETTINGS}
    works = [_Work(clip, options.out / clip.name, settings) for clip in read_batch(options.batch)]
    for work in works:
        work.check_folder()
    team = join_team(options.device)
    waiting = [work for work in team.share(works) if not work.is_done]
    if waiting:
        here = {"device": team.device or options.device}
        predictor = predictor_of(argparse.Namespace(**vars(options) | here))
        for work in waiting:
            _do(work, predictor, options)
    team.wait()
    failed = [work.clip.name for work in works if not work.is_done]
    if team.is_main:
        said = {"clips": len(works), "done": len(works) - len(failed), "failed": failed}
        print(json.dumps(said) if options.json else f"{said['done']} of {said['clips']} clips are done")
    return int(bool(failed))


def _do(work: _Work, predictor: VideoPredictor, options: argparse.Namespace) -> None:
    """One clip of the list; says so if it fails."""
    from sam2kit.media.clips import open_clip

    begun = session_file(work.folder).exists()
    own = {"clip": work.clip.clip, "out": work.folder, "resume": begun}
    try:
        work.note(done=False)
        with open_clip(work.clip.clip) as whole:
            follow(predictor, whole, [] if begun else work.clip.prompts, argparse.Namespace(**vars(options) | own))
        work.note(done=True)
    except (ValueError, OSError, LookupError, RuntimeError) as error:  # memory of a GPU that is short is the last
        print(f"sam2kit: {work.clip.name} failed: {error}", file=sys.stderr)


@dataclass(frozen=True)
class _Work:
    """A clip and its folder, in which a note says what is done there, so that nobody takes it for something else."""

    clip: BatchClip
    folder: Path
    settings: dict[str, Any]

    @property
    def is_done(self) -> bool:
        return (self._noted() or {}).get("done", False)

    def check_folder(self) -> None:
        """Raises ValueError if the folder holds something else that was done or begun."""
        noted = self._noted()
        if noted is None and session_file(self.folder).exists():
            raise ValueError(f"{self.folder} holds a session that is not of a batch; choose another --out")
        if noted is not None and noted | {"done": False} != self._note(done=False):
            raise ValueError(f"{self.folder} holds results of another list or other options; choose another --out")

    def note(self, *, done: bool) -> None:
        """Write the note, whole or not at all."""
        with written_whole(make_folder(self.folder) / _NOTE) as unfinished:
            unfinished.write_text(json.dumps(self._note(done=done), indent=1) + "\n", encoding="utf-8")

    def _note(self, *, done: bool) -> dict[str, Any]:
        return {"done": done, "entry": self.clip.stated, **self.settings}

    def _noted(self) -> dict[str, Any] | None:
        file = self.folder / _NOTE
        noted = read_json(file) if file.exists() else None
        if noted is not None and not isinstance(noted, dict):
            raise ValueError(f"{file} is damaged; choose another --out, or delete it to begin anew")
        return noted
