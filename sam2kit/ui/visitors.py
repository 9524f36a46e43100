"""Who is there: what a visitor's going means for the stores, the queue and Gradio's own memory of the page.

Gradio tells of a visitor who leaves by the session's hash alone; the key, which opens the work, is in what it keeps of
that session's page. It would keep that, a megabyte or more that grows with each answer, until many others have come;
here it goes together with the work.

A page that is loaded again gets another key, and so does another tab. Its browser holds a secret token, which it shows;
then the work is moved to the new key, and the old one opens nothing any more. Whoever shows a token that is unknown
gets nothing.

Surprise: a State that is set anew is deleted as soon as a connection breaks that is older than an hour, even if the
visitor is back a second later. The key is therefore made where it is first needed, and never set again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr

from sam2kit.ui.memory import give_back_memory
from sam2kit.ui.networks import Networks
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns

_MOST_TOKENS = 10_000  # of all visitors; who has not shown theirs for longest loses it
_SHOWN_TOKENS = 8  # at a time, as keeper.js sends them
_LONGEST_TOKEN = 100  # letters; ours have 32
_LATER = timedelta(seconds=1)  # than the leaving itself; a later sign of a visitor says that they are back


def key_of_visitor() -> gr.State:
    """The component that holds a visitor's key."""
    key = gr.State(SessionStore.new_key)
    key.load_event_to_attach = None  # it would set another key when the page has loaded
    return key


def keeper() -> gr.HTML:
    """Holds the token in the browser; the events `keep` and `claim` ask for one and show some."""
    return gr.HTML(value=None, html_template="<i></i>", js_on_load=_keeper_script(), elem_id="keeper", visible="hidden")


@cache
def _keeper_script() -> str:
    return (Path(__file__).parent / "keeper.js").read_text()


class Visitors:
    """All visitors of a page.

    Args:
        page: that they visit.
        key: holds each visitor's key.
        stores: of the tabs.
        jobs: what they wait for.
        networks: which model each has chosen.
        seconds_after_leaving: how long the stores keep the work of a visitor who left.
    """

    def __init__(
        self,
        page: gr.Blocks,
        key: gr.State,
        stores: tuple[SessionStore[Any], ...],
        jobs: Turns,
        networks: Networks | None = None,
        *,
        seconds_after_leaving: float = 600.0,
    ) -> None:
        self._page, self._key, self._stores, self._jobs, self._networks = page, key, stores, jobs, networks
        self._seconds_after_leaving = seconds_after_leaving
        self._goodbyes: dict[str, asyncio.TimerHandle] = {}  # by session; only touched by Gradio's event loop
        self._keys: OrderedDict[str, str] = OrderedDict()  # by token
        self._tokens: dict[str, str] = {}  # by key
        self._lock = Lock()

    def keep(self, key: str) -> dict[str, Any]:
        """A page has work that should outlive it: the token that brings it back, for the keeper."""
        with self._lock:
            token = self._tokens.get(key) or secrets.token_urlsafe(24)
            self._bind(token, key)
        return {"token": token}

    def claim(self, key: str, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """A page shows the tokens of earlier ones: the first that has work brings it back.

        Returns:
            for the keeper: "token", the one that is this page's from now on, or None; "came_back"; and "gone", those
            that bring nothing back any more.
        """
        sent = event._data.get("tokens") if isinstance(event._data, dict) else None
        gone: list[str] = []
        for token in sent[:_SHOWN_TOKENS] if isinstance(sent, list) else ():
            if not isinstance(token, str) or len(token) > _LONGEST_TOKEN:
                continue
            if self._come_back(key, token):
                page = self._page.state_holder.session_data.get(str(request.session_hash))
                if page is not None and page.is_closed:  # gone again meanwhile
                    self._leave_stores(key)
                return {"token": token, "came_back": True, "gone": gone}
            gone.append(token)
        return {"token": None, "came_back": False, "gone": gone}

    def _come_back(self, key: str, token: str) -> bool:
        with self._lock:
            before = self._keys.get(token)
            if before is None or before == key:
                return before is not None
            moved = [store.move(before, key) for store in self._stores]
            if not any(moved):
                return False
            self._bind(token, key)
        self._jobs.leave(before)
        if self._networks is not None:
            self._networks.move(before, key)
        return True

    def _bind(self, token: str, key: str) -> None:
        for old in {self._keys.get(token, key), key}:
            self._forget_token(old)
        self._keys[token], self._tokens[key] = key, token
        while len(self._keys) > _MOST_TOKENS:
            self._tokens.pop(self._keys.popitem(last=False)[1], None)

    def _forget_token(self, key: str) -> None:
        self._keys.pop(self._tokens.pop(key, ""), None)

    async def leave(self, request: gr.Request) -> None:
        """A page was closed, or its connection broke: jobs end, and the work is kept for a while."""
        session = str(request.session_hash)
        known = self._page.state_holder.session_data.get(session)
        key = None if known is None else known.state_data.get(self._key._id)
        if key is None:
            return
        self._leave_stores(key)
        if session in self._goodbyes:
            self._goodbyes[session].cancel()
        seconds, left = self._seconds_after_leaving + _LATER.total_seconds(), datetime.now() + _LATER
        self._goodbyes[session] = asyncio.get_running_loop().call_later(seconds, self._forget_page, session, left, key)

    def _leave_stores(self, key: str) -> None:
        self._jobs.leave(key)
        for store in self._stores:
            store.leave(key)

    def _forget_page(self, session: str, left: datetime, key: str = "") -> None:
        """Drop what Gradio keeps of a page, unless its visitor gave a sign since they left."""
        del self._goodbyes[session]
        pages = self._page.state_holder
        if pages.time_last_used.get(session, datetime.max) > left:
            return
        with pages.lock:
            pages.session_data.pop(session, None)
            pages.time_last_used.pop(session, None)
        with self._lock:
            self._forget_token(key)
        asyncio.get_running_loop().run_in_executor(None, give_back_memory)
