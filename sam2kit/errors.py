"""What goes wrong, told apart: files of another shape than expected, and devices that are full."""

from __future__ import annotations

# what a file of another shape than expected makes Python stumble over
ODD = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


def is_out_of_memory(error: object) -> bool:
    """Whether an error says that a device is full; a CPU has no class of its own for it."""
    told = str(error).lower()
    full = "out of memory" in told or "can't allocate memory" in told
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and full)
