"""Who is there: what a visitor's going means for the stores, the queue and Gradio's own memory of the page.

Gradio tells of a visitor who leaves by the session's hash alone; the key, which opens the work, is in what it keeps of
that session's page. It would keep that, a megabyte or more that grows with each answer, until many others have come;
here it goes together with the work.

Surprise: a State that is set anew is deleted as soon as a connection breaks that is older than an hour, even if the
visitor is back a second later. The key is therefore made where it is first needed, and never set again.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import gradio as gr

from sam2kit.ui.memory import give_back_memory
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns

_LATER = timedelta(seconds=1)  # than the leaving itself; a later sign of a visitor says that they are back


def key_of_visitor() -> gr.State:
    """The component that holds a visitor's key."""
    key = gr.State(SessionStore.new_key)
    key.load_event_to_attach = None  # it would set another key when the page has loaded
    return key


class Visitors:
    """All visitors of a page.

    Args:
        page: that they visit.
        key: holds each visitor's key.
        stores: of the tabs.
        jobs: what they wait for.
        seconds_after_leaving: how long the stores keep the work of a visitor who left.
    """

    def __init__(
        self,
        page: gr.Blocks,
        key: gr.State,
        stores: tuple[SessionStore[Any], ...],
        jobs: Turns,
        *,
        seconds_after_leaving: float = 600.0,
    ) -> None:
        self._page, self._key, self._stores, self._jobs = page, key, stores, jobs
        self._seconds_after_leaving = seconds_after_leaving
        self._goodbyes: dict[str, asyncio.TimerHandle] = {}  # by session; only touched by Gradio's event loop

    async def leave(self, request: gr.Request) -> None:
        """A page was closed, or its connection broke: jobs end, and the work is kept for a while."""
        session = str(request.session_hash)
        known = self._page.state_holder.session_data.get(session)
        key = None if known is None else known.state_data.get(self._key._id)
        if key is None:
            return
        self._jobs.leave(key)
        for store in self._stores:
            store.leave(key)
        if session in self._goodbyes:
            self._goodbyes[session].cancel()
        self._goodbyes[session] = asyncio.get_running_loop().call_later(
            self._seconds_after_leaving + _LATER.total_seconds(), self._forget_page, session, datetime.now() + _LATER
        )

    def _forget_page(self, session: str, left: datetime) -> None:
        """Drop what Gradio keeps of a page, unless its visitor gave a sign since they left."""
        del self._goodbyes[session]
        pages = self._page.state_holder
        if pages.time_last_used.get(session, datetime.max) > left:
            return
        with pages.lock:
            pages.session_data.pop(session, None)
            pages.time_last_used.pop(session, None)
        asyncio.get_running_loop().run_in_executor(None, give_back_memory)
