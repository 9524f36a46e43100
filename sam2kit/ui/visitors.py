"""Who is there: what a visitor's coming and going mean for the stores and the queue.

Gradio tells of a visitor who leaves by the session's hash alone; the key, which opens the work, is known for it from
the time when the page was loaded.

Gradio keeps what it knows of a page, a megabyte or more that grows with each answer, until thousands of others have
come. It is dropped here together with the visitor's work.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock, Thread, Timer
from typing import Any

import gradio as gr

from sam2kit.ui.memory import give_back_memory
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns

_MOST_KEYS = 10_000
_LATER = 1.0  # seconds after the work is gone


class Visitors:
    """All visitors.

    Args:
        stores: of the tabs.
        jobs: what they wait for.
        seconds_after_leaving: how long the stores keep the work of a visitor who left.
    """

    def __init__(
        self, stores: tuple[SessionStore[Any], ...], jobs: Turns, *, seconds_after_leaving: float = 600.0
    ) -> None:
        self._stores, self._jobs, self._seconds_after_leaving = stores, jobs, seconds_after_leaving
        self.page: gr.Blocks | None = None  # that they visit
        self._keys: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def arrive(self, key: str, request: gr.Request) -> None:
        """A page was loaded."""
        with self._lock:
            self._keys[str(request.session_hash)] = key
            while len(self._keys) > _MOST_KEYS:
                self._keys.popitem(last=False)

    def leave(self, request: gr.Request) -> None:
        """A page was closed, or its connection broke: jobs end, and the work is kept for a while."""
        with self._lock:
            key = self._keys.get(str(request.session_hash))  # it stays: who comes back will leave again
        if key is None:
            return
        self._jobs.leave(key)
        for store in self._stores:
            store.leave(key)
        later = Timer(self._seconds_after_leaving + _LATER, self._forget_page, (str(request.session_hash), key))
        later.daemon = True
        later.start()

    def _forget_page(self, session: str, key: str) -> None:
        """Drop what Gradio keeps of a visitor whose work is gone: one who came back has some again."""
        if any(key in store for store in self._stores):
            return
        with self._lock:
            self._keys.pop(session, None)
        pages = getattr(self.page, "state_holder", None)  # from the launch on
        if pages is not None:
            with pages.lock:
                pages.session_data.pop(session, None)
                pages.time_last_used.pop(session, None)
            give_back_memory()

    def forget(self, key: str) -> None:
        """A visitor will not come back. Gradio says so on the thread that serves everybody, so others do the work."""
        self._jobs.leave(key)
        for store in self._stores:
            Thread(target=store.drop, args=(key,), daemon=True).start()
