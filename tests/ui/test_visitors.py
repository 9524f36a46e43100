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


def shown(*tokens: Any) -> SimpleNamespace:
    """The event of a page that shows tokens."""
    return SimpleNamespace(_data={"tokens": list(tokens)})


def visit(session: str) -> SimpleNamespace:
    return SimpleNamespace(session_hash=session)


def test_a_page_that_is_loaded_again_gets_the_work_of_the_one_before(page: gr.Blocks) -> None:
    store = SessionStore(list, seconds_after_leaving=1000)
    networks = SimpleNamespace(moved=[], move=lambda *keys: networks.moved.append(keys))
    visitors = Visitors(page, page.key, (store,), Turns(), networks, seconds_after_leaving=1000)
    before, after, third = (key_in(page, session) for session in "abc")
    with store.using(before) as work:
        work.append("a mask")
    job = store.cancelled(before)
    token = visitors.keep(before)["token"]
    assert visitors.keep(before)["token"] == token != before
    assert visitors.claim(after, shown("unknown", token), visit("b")) == {
        "token": token, "came_back": True, "gone": ["unknown"],
    }  # fmt: skip
    assert job.is_set(), "what the old page watched ends"
    assert not store.cancelled(after).is_set(), "and the next page's jobs do not"
    assert networks.moved == [(before, after)]
    with store.still(after) as work, store.still(before) as old:
        assert (work, old) == (["a mask"], None), "the old key opens nothing"
    with store.newest(after, 1) as work:
        assert work == ["a mask"], "requests are counted from the beginning"
    # the answer was lost, because that page was loaded again at once: the token still holds
    assert visitors.claim(third, shown(token), visit("c"))["came_back"]
    with store.still(third) as work:
        assert work == ["a mask"]


def test_a_foreign_or_expired_token_gets_nothing(page: gr.Blocks) -> None:
    store = SessionStore(list, seconds_after_leaving=1000)
    visitors = visitors_of(page, store, seconds=1000)
    mine, other = key_in(page, "a"), key_in(page, "b")
    with store.using(mine) as work:
        work.append("private")
    token = visitors.keep(mine)["token"]
    wrong = [token[:-1], token.lower(), mine, other, "", None, 7, ["x"], {"a": 1}, "x" * 10_000]
    for sent in (*[[one] for one in wrong], wrong * 50, None, "tokens", {"0": token}):
        told = visitors.claim(other, SimpleNamespace(_data={"tokens": sent}), visit("b"))
        assert (told["token"], told["came_back"]) == (None, False)
    assert not visitors.claim(other, SimpleNamespace(_data=None), visit("b"))["came_back"]
    with store.still(other) as work:
        assert work is None
    store.drop(mine)
    assert visitors.claim(other, shown(token), visit("b")) == {"token": None, "came_back": False, "gone": [token]}


def test_a_page_with_work_of_its_own_keeps_it(page: gr.Blocks) -> None:
    store = SessionStore(list, seconds_after_leaving=1000)
    visitors = visitors_of(page, store, seconds=1000)
    one, two = key_in(page, "a"), key_in(page, "b")
    for key in (one, two):
        with store.using(key) as work:
            work.append(key)
    token = visitors.keep(one)["token"]
    assert not visitors.claim(two, shown(token), visit("b"))["came_back"]
    assert visitors.claim(one, shown(token), visit("a"))["came_back"], "and so does the other"
    for key in (one, two):
        with store.still(key) as work:
            assert work == [key]


def test_who_came_back_and_left_at_once_is_forgotten_like_others(page: gr.Blocks) -> None:
    store = SessionStore(list, seconds_after_leaving=0.1)
    visitors = visitors_of(page, store, seconds=0.1)

    async def come_and_go() -> None:
        before, after = key_in(page, "a"), key_in(page, "b")
        with store.using(before) as work:
            work.append("something")
        token = visitors.keep(before)["token"]
        page.state_holder.session_data["b"].is_closed = True  # gone before the answer
        assert visitors.claim(after, shown(token), visit("b"))["came_back"]
        await until(lambda: not store)
        await visitors.leave(visit("b"))
        await until(lambda: not visitors._keys and not visitors._tokens)

    asyncio.run(come_and_go())


def test_tokens_do_not_pile_up(page: gr.Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam2kit.ui.visitors._MOST_TOKENS", 5)
    visitors = visitors_of(page, SessionStore(list), seconds=1000)
    tokens = [visitors.keep(f"key {i}")["token"] for i in range(20)]
    assert len(set(tokens)) == 20
    assert min(map(len, tokens)) >= 32, "nobody guesses them"
    assert list(visitors._keys) == tokens[-5:]
    assert len(visitors._tokens) == 5
