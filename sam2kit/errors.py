"""What goes wrong, told apart: files of another shape than expected, and devices that are full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

# what a file of another shape than expected makes Python stumble over
ODD = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


def is_out_of_memory(error: object) -> bool:
    """Whether an error says that a device is full; a CPU has no class of its own for it."""
    told = str(error).lower()
    full = "out of memory" in told or "can't allocate memory" in told
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and full)


def refuse_unknown_keys(stated: Iterable[str], known: Iterable[str], where: str, aliases: Mapping[str, str]) -> None:
    """Check the keys that somebody wrote: a misspelt one must not be passed over.

    Args:
        where: what holds the keys, as it is called in the error.
        aliases: what other programs call them -> the key that is meant.
    Raises:
        ValueError: for the first key that is not known; names the one that was meant, or all.
    """
    known = list(known)
    for key in stated:
        if key not in known:
            near = [aliases[key]] if key in aliases else get_close_matches(str(key), known, n=1)
            told = f'did you mean "{near[0]}"?' if near else f"known are: {', '.join(known)}"
            raise ValueError(f'{where} has the unknown key "{key}"; {told}')
