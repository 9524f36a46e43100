"""`python -m sam2kit.cli`."""

import sys

from sam2kit.cli import main

sys.exit(main())
