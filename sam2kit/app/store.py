"""Who is working on what: a bounded store of visitors, their work in each tab, and what a forgotten one leaves.

    key of a visitor ---> Visitor ---> TabStore of a tab ---> work, its lock, its Stop, number of its newest request

Gradio keeps a closed visitor's state for an hour and copies it deeply; so Gradio only keeps an unguessable
key, and the work itself lives here. The least recently used goes first when the store is full. TabWork of a visitor who
left waits a while, in case that only the connection broke; a token that the browser holds brings it to a new page.

Surprise: a sign after the leaving only puts the forgetting off. It may be a request that came late from a page that is
closed; a page that lives on gives one each minute (page.js).
"""

from __future__ import annotations

import ctypes
import gc
import secrets
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock, RLock, Thread, Timer
from typing import Any, Generic, TypeVar

TabWork = TypeVar("TabWork")

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # names of malloc.h
_HEAPS = 4
_LARGE = 2**18  # bytes; blocks from this size go back to the system as soon as they are freed


class VisitorFolder:
    """A visitor's temporary folder, made when it is first needed and deleted with the work."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="sam2kit-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    def delete(self) -> None:
        """Delete it and all that is in it; there is a new one if it is needed again."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


@dataclass(eq=False)
class _Entry(Generic[TabWork]):
    """A visitor's work in one tab."""

    work: TabWork
    close: Callable[[TabWork], None]
    lock: RLock = field(default_factory=RLock)
    cancelled: Event = field(default_factory=Event)
    newest: int = 0  # number of the newest request


@dataclass(eq=False)
class _Visitor:
    entries: dict[TabStore[Any], _Entry[Any]] = field(default_factory=dict)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))  # brings the work to another page
    departure: Timer | None = None
    seen: float = 0.0  # when the visitor gave the last sign; seconds of time.monotonic()

    def stop_jobs(self) -> None:
        for entry in self.entries.values():
            entry.cancelled.set()

    def stay(self) -> None:
        if self.departure is not None:
            self.departure.cancel()
            self.departure = None


class VisitorStore:
    """All visitors: work of so many is kept, and for some time after they left."""

    def __init__(self, *, capacity: int = 32, seconds_after_leaving: float = 600.0) -> None:
        self._capacity, self.seconds_after_leaving = capacity, seconds_after_leaving
        self._visitors: OrderedDict[str, _Visitor] = OrderedDict()
        self._lock = Lock()

    @staticmethod
    def new_key() -> str:
        """An unguessable key for a new visitor."""
        return secrets.token_urlsafe(24)

    def token(self, key: str) -> str:
        """The secret that brings a visitor's work to another page; a sign, but no use of the work."""
        with self._lock:
            visitor = self._visitors.get(key)
            if visitor is None:
                visitor = self._touch(key)
                self._drop_surplus()
            visitor.seen = time.monotonic()
            return visitor.token

    def knows(self, key: str) -> bool:
        """Whether anything is kept of a visitor; no sign of theirs."""
        return key in self._visitors

    def key_of(self, token: str) -> str | None:
        """Whose token this is; None if it brings nothing back any more."""
        with self._lock:
            return next((key for key, visitor in self._visitors.items() if visitor.token == token), None)

    def move(self, key: str, to: str) -> bool:
        """Hand work over to a visitor's next page, and stop its jobs; False if there is none, or that page has some."""
        with self._lock:
            there = self._visitors.get(to)
            if key not in self._visitors or (there is not None and there.entries):
                return False
            self._visitors[to] = self._visitors.pop(key)
            visitor = self._touch(to)
            visitor.stay()
            visitor.stop_jobs()
            for entry in visitor.entries.values():
                entry.cancelled, entry.newest = Event(), 0  # the next page counts from the beginning
        return True

    def leave(self, key: str) -> None:
        """Stop a visitor's jobs, and forget the visitor when there was no sign for a while."""
        with self._lock:
            visitor = self._visitors.get(key)
            if visitor is None:
                return
            visitor.stop_jobs()
            if visitor.departure is None:
                self._wait(key, visitor, self.seconds_after_leaving)

    def _wait(self, key: str, visitor: _Visitor, seconds: float) -> None:
        visitor.departure = Timer(seconds, self._depart, (key, visitor))
        visitor.departure.daemon = True
        visitor.departure.start()

    def _depart(self, key: str, visitor: _Visitor) -> None:
        with self._lock:
            if self._visitors.get(key) is not visitor or visitor.departure is None:
                return  # on another page, or gone
            left = visitor.seen + self.seconds_after_leaving - time.monotonic()
            if left > 0:
                self._wait(key, visitor, left)
                return
            del self._visitors[key]
        _let_go(list(visitor.entries.values()))

    def drop(self, key: str) -> None:
        """Forget a visitor now."""
        with self._lock:
            visitor = self._visitors.pop(key, None)
            if visitor is None:
                return
            visitor.stay()
        _let_go(list(visitor.entries.values()))

    def __len__(self) -> int:
        return len(self._visitors)

    def entry(self, key: str, tab: TabStore[TabWork]) -> _Entry[TabWork] | None:
        """A visitor's work in a tab, if there is any; no sign of the visitor."""
        visitor = self._visitors.get(key)
        return None if visitor is None else visitor.entries.get(tab)

    def known_entry(self, key: str, tab: TabStore[TabWork]) -> _Entry[TabWork]:
        """The same as a sign of the visitor; KeyError if there is none."""
        with self._lock:
            entry = self._visitors[key].entries[tab]
            self._touch(key)
            return entry

    def made_entry(self, key: str, tab: TabStore[TabWork]) -> _Entry[TabWork]:
        """The same, made if it is new or was dropped."""
        with self._lock:
            entries = self._touch(key).entries
            if tab not in entries:
                entries[tab] = _Entry(tab.make(), tab.discard)
            entry: _Entry[TabWork] = entries[tab]
            self._drop_surplus(tab)
        return entry

    def _touch(self, key: str) -> _Visitor:
        visitor = self._visitors.setdefault(key, _Visitor())
        self._visitors.move_to_end(key)
        visitor.seen = time.monotonic()
        return visitor

    def _drop_surplus(self, tab: TabStore[Any] | None = None) -> None:
        """Let go of what is too much, visitors and work in a tab, in a thread: nobody should wait for another."""
        surplus: list[_Entry[Any]] = []
        while len(self._visitors) > self._capacity:
            _, oldest = self._visitors.popitem(last=False)
            oldest.stay()
            surplus += oldest.entries.values()
        if tab is not None and tab.capacity is not None:
            using = [visitor for visitor in self._visitors.values() if tab in visitor.entries]
            surplus += [visitor.entries.pop(tab) for visitor in using[: -tab.capacity]]
        if surplus:
            Thread(target=_let_go, args=(surplus,), daemon=True).start()


class TabStore(Generic[TabWork]):
    """The visitors' work in one tab, each with its own lock.

    Args:
        make, discard: a new visitor's empty work; let go of the files of work that is forgotten.
        visitors: the store of all tabs; None makes one of its own.
        capacity: of how many visitors this tab keeps work, if of fewer than the store.
    """

    def __init__(
        self,
        make: Callable[[], TabWork],
        discard: Callable[[TabWork], None] = lambda work: None,
        *,
        visitors: VisitorStore | None = None,
        capacity: int | None = None,
    ) -> None:
        self.make, self.discard, self.capacity = make, discard, capacity
        self.visitors = VisitorStore() if visitors is None else visitors

    @contextmanager
    def using(self, key: str) -> Iterator[TabWork]:
        """A visitor's work, locked; made empty if it is new or was dropped."""
        while True:
            with self._locked(key, self.visitors.made_entry(key, self)) as work:
                if work is not None:
                    yield work
                    return

    @contextmanager
    def still(self, key: str) -> Iterator[TabWork | None]:
        """The work for a job that began earlier, locked; None if it is gone. Does not count as a visitor's sign."""
        entry = self.visitors.entry(key, self)
        locked: AbstractContextManager[TabWork | None] = nullcontext() if entry is None else self._locked(key, entry)
        with locked as work:
            yield work

    @contextmanager
    def newest(self, key: str, sequence: int) -> Iterator[TabWork | None]:
        """The work for a numbered request, locked; None if a newer request came while this one waited.

        Raises:
            KeyError: if there is no work under the key; what comes past Gradio must not make any.
        """
        entry = self.visitors.known_entry(key, self)
        entry.newest = max(entry.newest, sequence)
        with self._locked(key, entry) as work:
            if work is None:
                raise KeyError(key)
            yield work if sequence >= entry.newest else None

    @contextmanager
    def if_free(self, key: str) -> Iterator[TabWork | None]:
        """The work for something that may be left out; None if somebody is using it. KeyError as `newest`."""
        entry = self.visitors.known_entry(key, self)
        if not entry.lock.acquire(blocking=False):
            yield None
            return
        try:
            with self._locked(key, entry) as work:
                yield work
        finally:
            entry.lock.release()

    @contextmanager
    def _locked(self, key: str, entry: _Entry[TabWork]) -> Iterator[TabWork | None]:
        """None if it was dropped while this waited."""
        with entry.lock:
            yield entry.work if self.visitors.entry(key, self) is entry else None

    def peek(self, key: str) -> TabWork | None:
        """The work without its lock, for what one look tells; None if there is none."""
        entry = self.visitors.entry(key, self)
        return None if entry is None else entry.work

    def cancelled(self, key: str) -> Event:
        """Set it to ask the visitor's running job in this tab to stop; needs no lock."""
        return self.visitors.made_entry(key, self).cancelled


def _let_go(entries: list[_Entry[Any]]) -> None:
    for entry in entries:
        entry.cancelled.set()
    for entry in entries:
        with entry.lock:
            entry.close(entry.work)
    give_back_memory()


def use_few_heaps() -> None:
    """Share a few heaps among all threads; before they begin.

    Linux keeps freed memory in a heap for each thread, and an app has many. Elsewhere this does nothing.
    """
    set_option = _of_libc("mallopt")
    if set_option is not None:
        set_option(_M_ARENA_MAX, _HEAPS)
        set_option(_M_MMAP_THRESHOLD, _LARGE)


def give_back_memory() -> None:
    """Collect what nobody refers to, and hand free memory back to the system."""
    gc.collect()
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_libc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of this name, as musl."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
