"""Open the app: click on a thing in your photo or video, get its mask.

python app.py [--model auto] [--device auto] [--dtype auto] [--port 7860] [--share] [--mcp]

A Hugging Face Space starts it without options; it takes the model's name from the variable SAM2KIT_MODEL.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Parse options, load the model once, build the page, launch."""
    options = _parser().parse_args(arguments)
    if options.mcp and find_spec("mcp") is None:
        print('app.py: --mcp needs one more package; install it with: pip install "gradio[mcp]"', file=sys.stderr)
        return 2
    with suppress(ImportError):
        import spaces  # noqa: F401 - where it is there, it must come before torch

    from sam2kit.app.layout import build_app, launch_options
    from sam2kit.app.limits import default_limits
    from sam2kit.app.models import load_for_app

    assets = Path(__file__).parent / "assets"
    photos, clips = sorted((assets / "photos").glob("*.jpg")), sorted((assets / "clips").glob("*.mp4"))
    stated = {"clip_seconds": options.max_seconds, "upload_mb": options.max_upload_mb, "visitors": options.visitors}
    try:
        limits = replace(default_limits(), **{name: value for name, value in stated.items() if value is not None})
        model = load_for_app(options.model, options.device, options.dtype, side=options.side)
        if model.terminal:
            print(f"app.py: {model.terminal}", file=sys.stderr)
        app = build_app(model, photos, clips, limits=limits)
        app.launch(
            server_name=options.host, server_port=options.port, share=options.share, mcp_server=options.mcp or None,
            **launch_options(limits),
        )  # fmt: skip
    except (ValueError, OSError, ImportError, OverflowError) as error:  # a model that cannot be, a port that is taken
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Segment anything in a photo or video, in the browser.")
    model = os.environ.get("SAM2KIT_MODEL", "auto")
    chosen = "preset, Hub id or path; auto: sam2.1-hiera-tiny, on a CPU one that answers a click in about a second"
    parser.add_argument("--model", default=model, help=f"{chosen} (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"),
        help="precision to compute in; auto: 16 bits on CUDA GPUs, the kind that they have (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--side", type=int, help="edge of the model's square in pixels; smaller is faster, coarser")
    parser.add_argument("--host", default=None, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=None, help="default: the first free one from 7860")
    parser.add_argument("--share", action="store_true", help="make a public link that lasts a week")
    parser.add_argument("--mcp", action="store_true", help="let agents use it, as an MCP server")
    parser.add_argument("--max-seconds", type=float, help="longest clip that is taken (a Space: 120)")
    parser.add_argument("--max-upload-mb", type=int, help="largest file that is taken (default: 1024; a Space: 200)")
    parser.add_argument("--visitors", type=int, help="whose work is kept at a time (default: 32)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
