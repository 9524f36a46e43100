"""Open the app: click on a thing in your photo or video, get its mask.

python app.py [--model sam2.1-hiera-tiny] [--device auto] [--port 7860] [--share]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Parse options, load the model once, build the page, launch."""
    parser = argparse.ArgumentParser(description="Segment anything in a photo or video, in the browser.")
    parser.add_argument("--model", default="sam2.1-hiera-tiny", help="preset, Hub id or path (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--side", type=int, help="edge of the model's square in pixels; smaller is faster, coarser")
    parser.add_argument("--host", default=None, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=None, help="default: the first free one from 7860")
    parser.add_argument("--share", action="store_true", help="make a public link that lasts a week")
    options = parser.parse_args(arguments)

    from sam2kit.ui.layout import build_app, launch_options
    from sam2kit.ui.start import load_for_app

    assets = Path(__file__).parent / "assets"
    photos, clips = sorted((assets / "photos").glob("*.jpg")), sorted((assets / "clips").glob("*.mp4"))
    try:
        app = build_app(load_for_app(options.model, options.device, side=options.side), photos, clips)
        app.launch(server_name=options.host, server_port=options.port, share=options.share, **launch_options())
    except (ValueError, OSError) as error:  # a model that cannot be, a port that is taken
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
