"""Visitors who come, reload and leave: what that means for the store, the queue and Gradio's own memory of the page.

Gradio tells of a visitor who leaves by the session's hash alone; the key, which opens the work, is in what it keeps of
that session's page. It would keep that, a megabyte or more that grows with each answer, until many others have come;
here it goes together with the work.

A page that is loaded again gets another key, and so does another tab. Its browser holds a secret token (page.js), which
it shows; then the work is moved to the new key, and the old one opens nothing any more.

Surprise: a State that is set anew is deleted as soon as a connection breaks that is older than an hour, even if the
visitor is back a second later. The key is therefore made where it is first needed, and never set again.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import gradio as gr

from sam2kit.app.components import sent_with
from sam2kit.app.queue import FairQueue
from sam2kit.app.store import VisitorStore, give_back_memory

_SHOWN_TOKENS = 8  # at a time, as page.js sends them
_LATER = timedelta(seconds=1)  # than the leaving itself, which Gradio takes for a use of the page


def key_of_visitor() -> gr.State:
    """The component that holds a visitor's key."""
    key = gr.State(VisitorStore.new_key)
    key.load_event_to_attach = None  # it would set another key when the page has loaded
    return key


def page_script() -> str:
    """What the component that holds the token runs in the browser; it also takes what is pasted or dropped."""
    return (Path(__file__).parent / "page.js").read_text()


class Visitors:
    """All visitors of a page; `key` holds each visitor's, and `jobs` is what they wait for."""

    def __init__(self, page: gr.Blocks, key: gr.State, store: VisitorStore, jobs: FairQueue) -> None:
        self._page, self._key, self._store, self._jobs = page, key, store, jobs
        self._goodbyes: dict[str, asyncio.TimerHandle] = {}  # by session; only touched by Gradio's event loop

    def keep(self, key: str) -> dict[str, Any]:
        """A page has work that should outlive it, or lives on: the token that brings it back, for page.js.

        Where the work was put away, nothing is sent: idle pages must not take the place of those who work.
        """
        return {"token": self._store.token(key)} if self._store.knows(key) else gr.skip()

    def claim(self, key: str, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """A page shows the tokens of earlier ones: the first that has work brings it back.

        Returns:
            for page.js: "token", the one that is this page's from now on, or None; "came_back"; and "gone", those
            that bring nothing back any more.
        """
        sent = sent_with(event).get("tokens")
        tokens = [t for t in sent[:_SHOWN_TOKENS] if isinstance(t, str)] if isinstance(sent, list) else []
        for number, token in enumerate(tokens):
            if self._come_back(key, token):
                page = self._page.state_holder.session_data.get(str(request.session_hash))
                if page is not None and page.is_closed:  # gone again meanwhile
                    self._stop(key)
                return {"token": token, "came_back": True, "gone": tokens[:number]}
        return {"token": None, "came_back": False, "gone": tokens}

    def _come_back(self, key: str, token: str) -> bool:
        before = self._store.key_of(token)
        if before is None or before == key:
            return before is not None
        if not self._store.move(before, key):
            return False
        self._jobs.leave(before)
        return True

    async def leave(self, request: gr.Request) -> None:
        """A page was closed, or its connection broke: jobs end, and the work is kept for a while."""
        session = str(request.session_hash)
        known = self._page.state_holder.session_data.get(session)
        key = None if known is None else known.state_data.get(self._key._id)
        if key is None:
            return
        self._stop(key)
        if session in self._goodbyes:
            self._goodbyes[session].cancel()
        self._wait(session, datetime.now() + _LATER)

    def _stop(self, key: str) -> None:
        self._jobs.leave(key)
        self._store.leave(key)

    def _wait(self, session: str, since: datetime) -> None:
        seconds = (since - datetime.now()).total_seconds() + self._store.seconds_after_leaving
        self._goodbyes[session] = asyncio.get_running_loop().call_later(seconds, self._forget_page, session, since)

    def _forget_page(self, session: str, since: datetime) -> None:
        """Drop what Gradio keeps of a page, unless its visitor gave a sign since then: as long after that."""
        del self._goodbyes[session]
        pages = self._page.state_holder
        used = pages.time_last_used.get(session, since)
        if used > since:
            self._wait(session, used)
            return
        with pages.lock:
            pages.session_data.pop(session, None)
            pages.time_last_used.pop(session, None)
        asyncio.get_running_loop().run_in_executor(None, give_back_memory)
