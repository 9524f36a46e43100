"""`python -m sam2kit.cli`."""

from sam2kit.cli import main
from sam2kit.evaluation.processes import end_program

end_program(main())
