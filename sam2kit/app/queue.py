"""First come, first served: who may use the model now, and how many are before whom.

Two queues run the app. One is held during each single pass through the model, so that visitors share a device; a fair
one, or a visitor whose job asks again and again would keep all others out. The other is held by whole jobs (tracking,
segmenting everything, training), and tells everybody in it their place.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

_LOOK_AGAIN = 0.5  # seconds between looks at the queue


class Place:
    """A place in the queue; leave it in any case, as `with` does."""

    def __init__(self, queue: FairQueue, owner: str) -> None:
        self._queue, self.owner = queue, owner

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the turn, at most so long; whether it has come."""
        places = self._queue.places
        with self._queue.changed:
            return self._queue.changed.wait_for(lambda: bool(places) and places[0] is self, seconds)

    def wait_texts(self, cancelled: threading.Event) -> Iterator[str]:
        """Wait for the turn, or until it is cancelled: what the visitor reads meanwhile, again and again."""
        while not self.wait(_LOOK_AGAIN) and not cancelled.is_set():
            with self._queue.changed:
                before = self._queue.places.index(self) if self in self._queue.places else 0
            yield f"Waiting for the model: {before} {'job' if before == 1 else 'jobs'} before yours."

    def leave(self) -> None:
        """Let the next one have its turn; a second call does nothing."""
        with self._queue.changed:
            if self in self._queue.places:
                self._queue.places.remove(self)
                self._queue.changed.notify_all()

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()


class FairQueue:
    """The queue. As a context manager it is a fair lock, not reentrant."""

    def __init__(self) -> None:
        self.places: deque[Place] = deque()
        self.changed = threading.Condition()
        self._held = threading.local()

    def join(self, owner: str = "") -> Place:
        """Stand at the end of the queue; `owner` says who does."""
        place = Place(self, owner)
        with self.changed:
            self.places.append(place)
        return place

    def leave(self, owner: str) -> None:
        """Give up all places of a visitor who is gone: nobody should wait for a job that nobody drives any more."""
        with self.changed:
            theirs = [place for place in self.places if place.owner == owner]
        for place in theirs:
            place.leave()

    def __enter__(self) -> None:
        self._held.place = self.join()
        self._held.place.wait()

    def __exit__(self, *error: object) -> None:
        self._held.place.leave()

    @property
    def count(self) -> int:
        """How many have their turn or wait for it; not `__len__`, as an empty queue is still a lock, and true."""
        return len(self.places)
