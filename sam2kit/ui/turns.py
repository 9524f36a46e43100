"""First come, first served: who may use the network now, and how many are before whom.

Two of them run the app. One is held during each single pass through the network, so that visitors share a GPU; a fair
one, or a visitor whose job asks again and again would keep all others out. The other is held by whole jobs (tracking,
segmenting everything, training), and tells everybody in it their place.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turn:
    """A place in the queue; leave it in any case, as `with` does."""

    def __init__(self, turns: Turns, owner: str = "") -> None:
        self._turns, self.owner = turns, owner

    @property
    def before(self) -> int:
        """How many are to be waited for; 0 when it is one's turn."""
        with self._turns.changed:
            return self._turns.queue.index(self) if self in self._turns.queue else 0

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the turn, at most so long; whether it has come."""
        with self._turns.changed:
            return self._turns.changed.wait_for(self._has_come, seconds)

    def _has_come(self) -> bool:
        return bool(self._turns.queue) and self._turns.queue[0] is self

    def leave(self) -> None:
        """Let the next one have its turn; a second call does nothing."""
        with self._turns.changed:
            if self in self._turns.queue:
                self._turns.queue.remove(self)
                self._turns.changed.notify_all()

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Turns:
    """The queue. As a context manager it is a fair lock, not reentrant."""

    def __init__(self) -> None:
        self.queue: deque[Turn] = deque()
        self.changed = threading.Condition()
        self._held = threading.local()

    def join(self, owner: str = "") -> Turn:
        """Stand at the end of the queue; `owner` says who does."""
        turn = Turn(self, owner)
        with self.changed:
            self.queue.append(turn)
        return turn

    def leave(self, owner: str) -> None:
        """Give up all places of somebody who is gone: nobody should wait for a job that nobody drives any more."""
        with self.changed:
            theirs = [turn for turn in self.queue if turn.owner == owner]
        for turn in theirs:
            turn.leave()

    def __enter__(self) -> None:
        turn = self.join()
        turn.wait()
        self._held.turn = turn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.turn.leave()

    @property
    def count(self) -> int:
        """How many have their turn or wait for it; not `__len__`, as an empty queue is still a lock, and true."""
        return len(self.queue)


def waiting_text(before: int) -> str:
    """What somebody who waits reads."""
    return f"Waiting for the model: {before} {'job' if before == 1 else 'jobs'} before yours."
