"""Who is working on what: a bounded store of visitors' work, each with its own lock.

Gradio keeps a closed visitor's state for an hour and copies it deeply; so Gradio only keeps an unguessable
key, and the work itself lives here. The least recently used goes first when the store is full.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, RLock
from typing import Generic, TypeVar

Work = TypeVar("Work")


class _Slot(Generic[Work]):
    def __init__(self, work: Work) -> None:
        self.work = work
        self.lock = RLock()
        self.cancelled = Event()


class SessionStore(Generic[Work]):
    """Work by visitor.

    Args:
        make: makes a new visitor's empty work.
        capacity: how many visitors' work is kept.
        discard: called with work that is forgotten, to let go of its files.
    """

    def __init__(
        self, make: Callable[[], Work], *, capacity: int = 32, discard: Callable[[Work], None] | None = None
    ) -> None:
        self._make, self._capacity, self._discard = make, capacity, discard
        self._slots: OrderedDict[str, _Slot[Work]] = OrderedDict()
        self._lock = Lock()

    @staticmethod
    def new_key() -> str:
        """An unguessable key for a new visitor."""
        return secrets.token_urlsafe(24)

    @contextmanager
    def using(self, key: str) -> Iterator[Work]:
        """A visitor's work, locked; made empty if it is new or was dropped."""
        slot = self._slot(key)
        with slot.lock:
            yield slot.work

    def cancelled(self, key: str) -> Event:
        """Set it to ask the visitor's running job to stop; needs no lock."""
        return self._slot(key).cancelled

    def drop(self, key: str) -> None:
        """Forget a visitor."""
        with self._lock:
            slot = self._slots.pop(key, None)
        if slot is not None:
            self._let_go(slot)

    def __len__(self) -> int:
        return len(self._slots)

    def _slot(self, key: str) -> _Slot[Work]:
        with self._lock:
            if key not in self._slots:
                self._slots[key] = _Slot(self._make())
            self._slots.move_to_end(key)
            slot, forgotten = self._slots[key], []
            while len(self._slots) > self._capacity:
                forgotten.append(self._slots.popitem(last=False)[1])
        for old in forgotten:
            self._let_go(old)
        return slot

    def _let_go(self, slot: _Slot[Work]) -> None:
        slot.cancelled.set()
        if self._discard is not None:
            with slot.lock:
                self._discard(slot.work)
