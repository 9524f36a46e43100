"""Coming and going."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import StateHolder

from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns
from sam2kit.ui.visitors import Visitors, key_of_visitor

LEFT = SimpleNamespace(session_hash="abc")


@pytest.fixture
def page() -> gr.Blocks:
    with gr.Blocks() as page:
        page.key = key_of_visitor()
    StateHolder().set_blocks(page)
    return page


def visitors_of(page: gr.Blocks, *stores: SessionStore[Any], jobs: Turns | None = None, seconds: float) -> Visitors:
    return Visitors(page, page.key, stores, jobs or Turns(), seconds_after_leaving=seconds)


def key_in(page: gr.Blocks, session: str = "abc") -> str:
    """As an event of the page would get it."""
    return page.state_holder[session][page.key._id]


async def until(reached: Callable[[], bool]) -> None:
    for _ in range(400):
        if reached():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not happen within 20 seconds")


def test_the_key_is_made_once_and_not_by_the_loading_page(page: gr.Blocks) -> None:
    assert key_in(page) == key_in(page) != key_in(page, "another")
    assert not page.fns, "nothing runs when the page has loaded"
    page.state_holder.session_data["abc"].is_closed = True  # a connection broke; Gradio tidies up each second
    assert list(page.state_holder.session_data["abc"].state_components) == [], "after an hour it would be deleted"


def test_who_leaves_stops_waits_and_is_forgotten_with_their_page(page: gr.Blocks) -> None:
    jobs = Turns()
    stores = tuple(SessionStore(list, seconds_after_leaving=0.1) for _ in range(2))
    visitors = visitors_of(page, *stores, jobs=jobs, seconds=0.1)

    async def come_and_go() -> None:
        await visitors.leave(LEFT)  # nobody who is known
        key = key_in(page)
        for store in stores:
            with store.using(key):
                pass
        jobs.join(key)
        await visitors.leave(LEFT)
        await visitors.leave(LEFT)  # the connection flickers
        assert jobs.count == 0
        assert len(visitors._goodbyes) == 1
        await until(lambda: not stores[0] and not stores[1])
        await until(lambda: "abc" not in page.state_holder)
        assert not page.state_holder.time_last_used

    asyncio.run(come_and_go())


def test_one_who_came_back_keeps_work_and_page(page: gr.Blocks) -> None:
    store = SessionStore(list, seconds_after_leaving=1000)
    visitors = visitors_of(page, store, seconds=1000)

    async def come_back() -> None:
        key = key_in(page)
        with store.using(key) as work:
            work.append("something")
        await visitors.leave(LEFT)
        visitors._goodbyes["abc"].cancel()
        page.state_holder.time_last_used["abc"] += timedelta(seconds=5)  # a sign after the leaving
        with store.using(key) as work:
            assert work == ["something"]
        visitors._forget_page("abc", datetime.now() + timedelta(seconds=1))
        assert key_in(page) == key
        await visitors.leave(LEFT)  # and leaves again
        visitors._forget_page("abc", datetime.now() + timedelta(seconds=9))
        assert "abc" not in page.state_holder

    asyncio.run(come_back())
