"""`python -m sam2kit` is the `sam2kit` command."""

import sys

from sam2kit.cli import main

sys.exit(main())
