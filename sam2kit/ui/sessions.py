"""Who is working on what: a bounded store of visitors' work, each with its own lock.

Gradio keeps a closed visitor's state for an hour and copies it deeply; so Gradio only keeps an unguessable
key, and the work itself lives here. The least recently used goes first when the store is full. Work of a visitor who
left waits a while, in case that only the connection broke.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, RLock, Thread, Timer
from typing import Generic, TypeVar

from sam2kit.ui.memory import give_back_memory

Work = TypeVar("Work")


class _Slot(Generic[Work]):
    def __init__(self, work: Work) -> None:
        self.work = work
        self.lock = RLock()
        self.cancelled = Event()
        self.newest = 0  # number of the newest request
        self.departure: Timer | None = None


class SessionStore(Generic[Work]):
    """Work by visitor.

    Args:
        make: makes a new visitor's empty work.
        capacity: how many visitors' work is kept.
        discard: called with work that is forgotten, to let go of its files.
        forgotten: called with the key of work that is forgotten.
        seconds_after_leaving: how long the work of a visitor who left is kept.
    """

    def __init__(
        self,
        make: Callable[[], Work],
        *,
        capacity: int = 32,
        discard: Callable[[Work], None] | None = None,
        forgotten: Callable[[str], None] | None = None,
        seconds_after_leaving: float = 600.0,
    ) -> None:
        self._make, self._capacity = make, capacity
        self._discard, self._forgotten = discard, forgotten
        self._seconds_after_leaving = seconds_after_leaving
        self._slots: OrderedDict[str, _Slot[Work]] = OrderedDict()
        self._lock = Lock()

    @staticmethod
    def new_key() -> str:
        """An unguessable key for a new visitor."""
        return secrets.token_urlsafe(24)

    @contextmanager
    def using(self, key: str) -> Iterator[Work]:
        """A visitor's work, locked; made empty if it is new or was dropped."""
        while True:
            slot = self._slot(key)
            with slot.lock:
                if self._slots.get(key) is slot:  # it may have been dropped while this waited
                    yield slot.work
                    return

    @contextmanager
    def still(self, key: str) -> Iterator[Work | None]:
        """The work for a job that began earlier, locked; None if it is gone. Does not count as a visitor's sign."""
        slot = self._slots.get(key)
        if slot is None:
            yield None
            return
        with slot.lock:
            yield slot.work if self._slots.get(key) is slot else None

    @contextmanager
    def newest(self, key: str, sequence: int) -> Iterator[Work | None]:
        """The work for a numbered request, locked; None if a newer request came while this one waited.

        Raises:
            KeyError: if there is no work under the key; what comes past Gradio must not make any.
        """
        slot = self._known(key)
        with self._lock:
            slot.newest = max(slot.newest, sequence)
        with slot.lock:
            if self._slots.get(key) is not slot:
                raise KeyError(key)
            yield slot.work if sequence >= slot.newest else None

    @contextmanager
    def if_free(self, key: str) -> Iterator[Work | None]:
        """The work for something that may be left out; None if somebody is using it.

        Raises:
            KeyError: if there is no work under the key.
        """
        slot = self._known(key)
        if not slot.lock.acquire(blocking=False):
            yield None
            return
        try:
            yield slot.work if self._slots.get(key) is slot else None
        finally:
            slot.lock.release()

    def cancelled(self, key: str) -> Event:
        """Set it to ask the visitor's running job to stop; needs no lock."""
        return self._slot(key).cancelled

    def leave(self, key: str) -> None:
        """Stop a visitor's job, and forget the visitor after a while, unless the work is used again until then."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or slot.departure is not None:
                return
            slot.cancelled.set()
            slot.departure = Timer(self._seconds_after_leaving, self._depart, (key, slot))
            slot.departure.daemon = True
            slot.departure.start()

    def move(self, key: str, to: str) -> bool:
        """Hand work over to a visitor's next page, and stop its jobs; False if there is none, or that page has some."""
        with self._lock:
            if key not in self._slots or to in self._slots:
                return False
            self._slots[to] = self._slots.pop(key)
            slot = self._touch(to)
            slot.cancelled.set()
            slot.cancelled, slot.newest = Event(), 0  # the next page counts from the beginning
        return True

    def drop(self, key: str) -> None:
        """Forget a visitor now."""
        with self._lock:
            slot = self._slots.pop(key, None)
        if slot is not None:
            self._let_go(key, slot)

    def __len__(self) -> int:
        return len(self._slots)

    def _slot(self, key: str) -> _Slot[Work]:
        with self._lock:
            if key not in self._slots:
                self._slots[key] = _Slot(self._make())
            slot, forgotten = self._touch(key), []
            while len(self._slots) > self._capacity:
                forgotten.append(self._slots.popitem(last=False))
        for old in forgotten:  # nobody should wait here for what a stranger is doing
            Thread(target=self._let_go, args=old, daemon=True).start()
        return slot

    def _known(self, key: str) -> _Slot[Work]:
        with self._lock:
            return self._touch(key)

    def _touch(self, key: str) -> _Slot[Work]:
        slot = self._slots[key]
        self._slots.move_to_end(key)
        if slot.departure is not None:  # the visitor is back
            slot.departure.cancel()
            slot.departure = None
        return slot

    def _depart(self, key: str, slot: _Slot[Work]) -> None:
        with self._lock:
            if self._slots.get(key) is not slot or slot.departure is None:
                return
            del self._slots[key]
        self._let_go(key, slot)

    def _let_go(self, key: str, slot: _Slot[Work]) -> None:
        slot.cancelled.set()
        if self._forgotten is not None:
            self._forgotten(key)
        if slot.departure is not None:
            slot.departure.cancel()
        if self._discard is not None:
            with slot.lock:
                self._discard(slot.work)
        give_back_memory()
