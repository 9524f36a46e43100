"""Visitors: whose turn it is, whose work is whose, how long it is kept, and how it comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import StateHolder

from sam2kit.app.models import LoadedModel, Models
from sam2kit.app.queue import FairQueue
from sam2kit.app.store import TabStore, VisitorStore
from sam2kit.app.visitors import Visitors, key_of_visitor
from sam2kit.model.sam2 import SAM2


def noted(store: TabStore[list], key: str, *things: Any) -> list:
    """Add to a visitor's work; a copy of it."""
    with store.using(key) as work:
        work.extend(things)
        return list(work)


def until(reached: Callable[[], Any]) -> None:
    for _ in range(400):
        if reached():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen within 8 seconds")


def test_places_move_up_in_order_and_each_reads_its_own() -> None:
    queue, stop = FairQueue(), Event()
    first, second, third = queue.join(), queue.join(), queue.join()
    assert next(third.wait_texts(stop)) == "Waiting for the model: 2 jobs before yours."
    assert first.wait(0) and not second.wait(0.01)
    second.leave()  # gave up while waiting
    assert next(third.wait_texts(stop)) == "Waiting for the model: 1 job before yours."
    stop.set()
    assert not list(third.wait_texts(stop))
    first.leave()
    first.leave()
    assert third.wait(0)


def test_as_a_lock_it_is_fair() -> None:
    """A thread that asks again and again does not keep another waiting, as a plain lock may."""
    queue, order = FairQueue(), []

    def use(name: str, times: int) -> None:
        for _ in range(times):
            with queue:
                order.append(name)
                time.sleep(0.005)

    threads = [Thread(target=use, args=("greedy", 20)), Thread(target=use, args=("modest", 5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert queue.count == 0
    assert max(i for i, who in enumerate(order) if who == "modest") < 14, order


def test_every_pass_of_the_app_takes_its_turn(nano: SAM2) -> None:
    passes = FairQueue()
    model = LoadedModel.of(nano, "nano", passes)
    models = Models(model)
    assert model.images.lock is passes, "an empty queue counts as a lock"
    assert model.predictor.lock is passes
    assert not models.are_busy
    with passes:
        assert models.are_busy


class TestStore:
    def test_each_key_and_each_tab_has_its_own_work(self) -> None:
        images: TabStore[list] = TabStore(list)
        videos: TabStore[list] = TabStore(list, visitors=images.visitors)
        assert noted(images, "a", 1) == [1]
        assert noted(images, "b") == noted(videos, "a") == []
        assert noted(images, "a") == [1]
        assert images.cancelled("a") is not videos.cancelled("a"), "Stop in one tab stops nothing in another"
        assert images.peek("a") == [1] and images.peek("nobody") is None

        def add(_: int) -> None:
            with images.using("c") as work:
                before = list(work)
                work[:] = [*before, 1]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(200)))
        assert len(noted(images, "c")) == 200, "one thread at a time"

    def test_the_least_recently_used_goes_first_and_is_let_go_of(self) -> None:
        gone: list[list] = []
        store: TabStore[list] = TabStore(list, gone.append, visitors=VisitorStore(capacity=2))
        for key in ("a", "b"):
            noted(store, key, key)
        stopped = store.cancelled("b")
        for key in ("a", "c"):
            noted(store, key, key)
        until(lambda: gone == [["b"]])
        assert stopped.is_set()
        assert len(store.visitors) == 2
        assert (noted(store, "a"), noted(store, "b")) == (["a", "a"], [])
        images: TabStore[list] = TabStore(list)
        videos: TabStore[list] = TabStore(list, gone.append, visitors=images.visitors, capacity=1)
        for key in "ab":
            noted(images, key, key)
            noted(videos, key, f"clip of {key}")
        until(lambda: gone[-1] == ["clip of a"])
        assert noted(images, "a") == ["a"], "a tab may keep less than the others"

    def test_dropped_work_starts_anew_for_those_who_waited_too(self) -> None:
        store: TabStore[list] = TabStore(list)
        got: list[list] = []
        with store.using("a") as old:
            old.append(1)
            thread = Thread(target=lambda: got.append(noted(store, "a")))
            thread.start()
            time.sleep(0.05)
            store.visitors.drop("a")
            store.visitors.drop("a")
        thread.join(10)
        assert got == [[]]

    def test_who_leaves_is_forgotten_after_a_while_without_signs(self) -> None:
        gone: list[list] = []
        store: TabStore[list] = TabStore(list, gone.append, visitors=VisitorStore(seconds_after_leaving=3))
        for key in ("stays", "leaves"):
            noted(store, key, key)
        stopped = store.cancelled("leaves")
        for key in ("stays", "leaves", "never was there"):
            store.visitors.leave(key)
        assert stopped.is_set(), "a job that nobody watches ends"
        with store.still("leaves") as work:
            assert work == ["leaves"], "the end of a job is no sign of its visitor"
        until(lambda: noted(store, "stays") != ["stays"] or gone)  # of one, only the connection broke
        assert noted(store, "stays") == ["stays"]
        assert gone == [["leaves"]]
        assert len(store.visitors) == 1
        with store.still("leaves") as work:
            assert work is None
        until(lambda: not len(store.visitors))  # the last sign may have come late from a closed page
        assert gone == [["leaves"], ["stays"]]

    def test_the_page_s_sign_keeps_work_but_does_not_use_it(self) -> None:
        visitors = VisitorStore(capacity=2)
        store: TabStore[list] = TabStore(list, visitors=visitors)
        for key in ("idle", "works"):
            noted(store, key, key)
        visitors.token("idle")
        noted(store, "new")
        until(lambda: store.peek("idle") is None)
        assert store.peek("works") == ["works"]


@pytest.fixture
def store() -> TabStore[list]:
    return TabStore(list, visitors=VisitorStore(seconds_after_leaving=0.1))


@pytest.fixture
def visitors(store: TabStore[list]) -> Visitors:
    with gr.Blocks() as page:
        page.key = key_of_visitor()
    StateHolder().set_blocks(page)
    return Visitors(page, page.key, store.visitors, FairQueue())


def key_in(visitors: Visitors, session: str = "abc") -> str:
    """As an event of the page would get it."""
    return visitors._page.state_holder[session][visitors._page.key._id]


def visit(session: str) -> Any:
    return SimpleNamespace(session_hash=session)


def shown(*tokens: Any) -> Any:
    """The event of a page that shows tokens."""
    return SimpleNamespace(_data={"tokens": list(tokens)})


async def until_gone(*things: Any) -> None:
    for _ in range(400):
        if not any(map(len, things)):
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not happen within 20 seconds")


class TestComingAndGoing:
    def test_the_key_is_made_once_and_not_by_the_loading_page(self, visitors: Visitors) -> None:
        assert key_in(visitors) == key_in(visitors) != key_in(visitors, "another")
        assert not visitors._page.fns, "nothing runs when the page has loaded"
        visitors._page.state_holder.session_data[
            "abc"
        ].is_closed = True  # a connection broke; Gradio tidies up each second
        assert list(visitors._page.state_holder.session_data["abc"].state_components) == [], (
            "after an hour it would be deleted"
        )

    def test_who_leaves_stops_waits_and_is_forgotten_with_their_page(
        self, store: TabStore[list], visitors: Visitors
    ) -> None:
        async def come_and_go() -> None:
            await visitors.leave(visit("abc"))  # nobody who is known
            key = key_in(visitors)
            noted(store, key)
            visitors._jobs.join(key)
            await visitors.leave(visit("abc"))
            await visitors.leave(visit("abc"))  # the connection flickers
            assert visitors._jobs.count == 0
            assert len(visitors._goodbyes) == 1
            await until_gone(
                store.visitors, visitors._page.state_holder.session_data, visitors._page.state_holder.time_last_used
            )

        asyncio.run(come_and_go())

    def test_a_visitor_who_came_back_keeps_work_and_page(self, store: TabStore[list], visitors: Visitors) -> None:
        store.visitors.seconds_after_leaving = 1000

        async def come_back() -> None:
            key = key_in(visitors)
            noted(store, key, "something")
            await visitors.leave(visit("abc"))
            visitors._goodbyes["abc"].cancel()
            used = datetime.now() + timedelta(seconds=5)  # a sign after the leaving
            visitors._page.state_holder.time_last_used["abc"] = used
            assert noted(store, key) == ["something"]
            visitors._forget_page("abc", datetime.now() + timedelta(seconds=1))
            assert key_in(visitors) == key
            assert visitors._goodbyes["abc"].when() > asyncio.get_running_loop().time() + 1000, "it waits anew"
            visitors._page.state_holder.time_last_used["abc"] = used
            visitors._goodbyes["abc"].cancel()
            visitors._forget_page("abc", used)  # no other sign
            assert "abc" not in visitors._page.state_holder

        asyncio.run(come_back())

    def test_who_came_back_and_left_at_once_is_forgotten_like_others(
        self, store: TabStore[list], visitors: Visitors
    ) -> None:
        before, after = key_in(visitors, "a"), key_in(visitors, "b")
        noted(store, before, "something")
        token = visitors.keep(before)["token"]
        visitors._page.state_holder.session_data["b"].is_closed = True  # gone before the answer
        assert visitors.claim(after, shown(token), visit("b"))["came_back"]
        until(lambda: not len(store.visitors))


class TestTokens:
    def test_a_page_whose_work_was_put_away_takes_no_place(self, store: TabStore[list], visitors: Visitors) -> None:
        key = key_in(visitors)
        assert visitors.keep(key) == gr.skip() and not len(store.visitors)
        noted(store, key)
        assert visitors.keep(key)["token"]

    def test_a_page_that_is_loaded_again_gets_the_work_of_the_one_before(
        self, store: TabStore[list], visitors: Visitors
    ) -> None:
        before, after, third = (key_in(visitors, session) for session in "abc")
        noted(store, before, "a mask")
        job = store.cancelled(before)
        token = visitors.keep(before)["token"]
        assert visitors.keep(before)["token"] == token != before
        assert visitors.claim(after, shown("unknown", token), visit("b")) == {
            "token": token, "came_back": True, "gone": ["unknown"],
        }  # fmt: skip
        assert job.is_set(), "what the old page watched ends"
        assert not store.cancelled(after).is_set(), "and the next page's jobs do not"
        assert (store.peek(after), store.peek(before)) == (["a mask"], None), "the old key opens nothing"
        with store.newest(after, 1) as work:
            assert work == ["a mask"], "requests are counted from the beginning"
        # the answer was lost, because that page was loaded again at once: the token still holds
        assert visitors.claim(third, shown(token), visit("c"))["came_back"]
        assert store.peek(third) == ["a mask"]

    def test_a_foreign_or_expired_token_gets_nothing(self, store: TabStore[list], visitors: Visitors) -> None:
        mine, other = key_in(visitors, "a"), key_in(visitors, "b")
        noted(store, mine, "private")
        token = visitors.keep(mine)["token"]
        wrong = [token[:-1], token.lower(), mine, other, "", None, 7, ["x"], {"a": 1}, "x" * 10_000]
        for sent in (*[[one] for one in wrong], wrong * 50, None, "tokens", {"0": token}):
            told = visitors.claim(other, SimpleNamespace(_data={"tokens": sent}), visit("b"))
            assert (told["token"], told["came_back"]) == (None, False)
        assert not visitors.claim(other, SimpleNamespace(_data=None), visit("b"))["came_back"]
        assert store.peek(other) is None
        store.visitors.drop(mine)
        assert visitors.claim(other, shown(token), visit("b")) == {"token": None, "came_back": False, "gone": [token]}

    def test_a_page_with_work_of_its_own_keeps_it(self, store: TabStore[list], visitors: Visitors) -> None:
        one, two = key_in(visitors, "a"), key_in(visitors, "b")
        for key in (one, two):
            noted(store, key, key)
        token = visitors.keep(one)["token"]
        assert not visitors.claim(two, shown(token), visit("b"))["came_back"]
        assert visitors.claim(one, shown(token), visit("a"))["came_back"], "and so does the other"
        assert (store.peek(one), store.peek(two)) == ([one], [two])

    def test_keys_and_tokens_cannot_be_guessed_and_do_not_pile_up(self) -> None:
        visitors = VisitorStore(capacity=5)
        tokens = [visitors.token(f"key {i}") for i in range(20)]
        for secrets in (tokens, [visitors.new_key() for _ in range(20)]):
            assert len(set(secrets)) == 20
            assert min(map(len, secrets)) >= 32
        assert [visitors.key_of(token) for token in tokens[-6:]] == [None, *(f"key {i}" for i in range(15, 20))]
