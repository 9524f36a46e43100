"""Who is there: what a visitor's coming and going mean for the stores and the queue.

Gradio tells of a visitor who leaves by the session's hash alone; the key, which opens the work, is known for it from
the time when the page was loaded.
"""

from __future__ import annotations

from threading import Lock

import gradio as gr

from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns


class Visitors:
    """All visitors.

    Args:
        stores: of the tabs.
        jobs: what they wait for.
    """

    def __init__(self, stores: tuple[SessionStore, ...], jobs: Turns) -> None:
        self._stores, self._jobs = stores, jobs
        self._keys: dict[str, str] = {}
        self._lock = Lock()

    def arrive(self, key: str, request: gr.Request) -> None:
        """A page was loaded."""
        with self._lock:
            self._keys[str(request.session_hash)] = key

    def leave(self, request: gr.Request) -> None:
        """A page was closed, or its connection broke: jobs end, and the work is kept for a while."""
        with self._lock:
            key = self._keys.pop(str(request.session_hash), None)
        if key is None:
            return
        self._jobs.leave(key)
        for store in self._stores:
            store.leave(key)

    def forget(self, key: str) -> None:
        """A visitor will not come back."""
        self._jobs.leave(key)
        for store in self._stores:
            store.drop(key)
