"""`sam2kit session`: what somebody clicked and tracked in the app, as files; needs no model and no weights.

    sam2kit session photo.session.safetensors --out masks
    sam2kit session clip.session.safetensors clip.mp4 --export video --export coco --out masks

A photo's session holds the photo; a video's needs its clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2kit.cli.options import Commands
from sam2kit.cli.pictures import write_masks
from sam2kit.cli.video import add_export_options, write_exports


def add_session_command(commands: Commands) -> None:
    """The options of `sam2kit session`."""
    session = commands.add_parser("session", help="masks and videos of a session that the app saved")
    session.add_argument("file", type=Path, help="a session of a photo or of a video")
    session.add_argument("clip", type=Path, nargs="?", help="the video, for a session of one")
    add_export_options(session)
    session.add_argument("--out", type=Path, required=True, help="folder for the results")
    session.add_argument("--json", action="store_true", help="print the result as JSON")
    session.set_defaults(run=run_session)


def run_session(options: argparse.Namespace) -> None:
    """Write what a session holds."""
    from sam2kit.media.clips import open_clip
    from sam2kit.predict.picture_session import PictureSession
    from sam2kit.predict.session_container import is_picture_session
    from sam2kit.predict.session_files import reopen_session, session_clip_path

    if is_picture_session(options.file):
        if options.clip is not None:
            raise ValueError(f"{options.file} is a session of a picture, which is in it; leave {options.clip} out")
        if options.export:
            raise ValueError("--export is for sessions of videos; a picture's masks are written in every form")
        session = PictureSession.load(options.file)
        write_masks(options, session.image, session.finished(), session.file_name)
        return
    source = options.clip or session_clip_path(options.file)
    if source is None:
        raise ValueError(f"{options.file} does not say where its video is; give it: sam2kit session FILE VIDEO")
    with open_clip(source) as clip:
        write_exports(reopen_session(options.file, clip), options, Path(source).stem)
