"""Who is there: what a visitor's coming and going mean for the stores and the queue.

Gradio tells of a visitor who leaves by the session's hash alone; the key, which opens the work, is known for it from
the time when the page was loaded.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock, Thread
from typing import Any

import gradio as gr

from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns

_MOST_KEYS = 10_000


class Visitors:
    """All visitors.

    Args:
        stores: of the tabs.
        jobs: what they wait for.
    """

    def __init__(self, stores: tuple[SessionStore[Any], ...], jobs: Turns) -> None:
        self._stores, self._jobs = stores, jobs
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

    def forget(self, key: str) -> None:
        """A visitor will not come back. Gradio says so on the thread that serves everybody, so others do the work."""
        self._jobs.leave(key)
        for store in self._stores:
            Thread(target=store.drop, args=(key,), daemon=True).start()
