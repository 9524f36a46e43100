"""The objects of a clip as a visitor sees them: numbers, names, and the active one.

Also what names and numbers of objects may be, and which colours objects have, in clips and in pictures.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from sam2kit.media.drawing import PALETTE, contrasting_colour
from sam2kit.predict.picture_session import MOST_OBJECTS

_LONGEST_NAME = 40


@dataclass
class NamedObjects:
    """Object numbers from 0, which are the ids in the session, and their names; there is always one."""

    names: dict[int, str] = field(default_factory=lambda: {0: "Object 1"})
    active: int = 0

    @property
    def by_id(self) -> dict[Hashable, str]:
        """The names for whoever takes any object ids: a copy."""
        return dict(self.names.items())

    def add(self, used: Collection[Hashable]) -> None:
        """Make another object active; one that is not among the used ones comes before a new one.

        Raises:
            ValueError: if there are too many.
        """
        unused = [number for number in self.names if number not in used]
        if unused:
            self.active = unused[0]
            return
        check_room(len(self.names) + 1)
        self.active = max(self.names, default=-1) + 1
        self.names[self.active] = free_name(self.active, self.names.values())

    def select(self, number: int) -> None:
        """Make an object the one that prompts go to.

        Raises:
            ValueError: if there is no such object.
        """
        if number not in self.names:
            raise ValueError("there is no such object any more")
        self.active = number

    def rename(self, number: int | None, name: str) -> None:
        """Give an object a name; nothing happens if it has it, or is gone.

        Raises:
            ValueError: if it is empty, too long or taken.
        """
        if number in self.names:
            self.names[number] = checked_name(name, set(self.names.values()) - {self.names[number]})

    def remove_active(self) -> None:
        """Forget the active object; the nearest other one becomes active."""
        number = self.active
        del self.names[number]
        if not self.names:
            self.add(used=())
        self.active = min(self.names, key=lambda other: abs(other - number))


@dataclass
class ObjectColours:
    """Which colour each object has: chosen to contrast with the object's first mask, and kept from then on."""

    _given: dict[int, int] = field(default_factory=dict)  # object number -> place in PALETTE

    def __contains__(self, number: int) -> bool:
        return number in self._given

    def keep(self, numbers: Collection[int]) -> None:
        """Forget the colours of all other objects."""
        self._given = {number: place for number, place in self._given.items() if number in numbers}

    def give(self, number: int, view: np.ndarray, mask: np.ndarray) -> None:
        """Choose an object's colour; nothing happens if it has one, or if its mask is empty.

        Args:
            view: uint8 [H, W, 3], what the colour will be seen on.
            mask: bool [H, W].
        """
        if number not in self._given and mask.any():
            self._given[number] = contrasting_colour(view[mask], number, set(self._given.values()))

    def of(self, number: int) -> int:
        """What `colour_of` makes the object's colour of, another number for each object; its own before it has one."""
        return len(PALETTE) * number + self._given.get(number, number % len(PALETTE))


def free_name(number: int, taken: Collection[str]) -> str:
    """What an object is called before anybody gives it a name: "Object 3", or a later number if that is taken."""
    return next(name for n in count(number + 1) if (name := f"Object {n}") not in taken)


def check_room(objects: int) -> None:
    """Refuse more objects than a picture or a clip may have.

    Raises:
        ValueError: says how many there would be.
    """
    if objects > MOST_OBJECTS:
        raise ValueError(f"these would be {objects} objects, and {MOST_OBJECTS} are the most; remove some first")


def checked_name(name: str, taken: Collection[str]) -> str:
    """A name without superfluous blanks.

    Raises:
        ValueError: if it is empty, too long or taken.
    """
    name = " ".join(name.split())
    if not name or len(name) > _LONGEST_NAME:
        raise ValueError(f"a name needs 1 to {_LONGEST_NAME} characters, got {len(name)}")
    if name in taken:
        raise ValueError(f"there is a “{name}” already; choose another name")
    return name
