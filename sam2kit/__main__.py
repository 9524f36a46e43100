"""`python -m sam2kit` is the `sam2kit` command."""

from sam2kit.cli import main
from sam2kit.processes import end_program

end_program(main())
