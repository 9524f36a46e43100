"""Coming and going."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.state_holder import StateHolder

from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns
from sam2kit.ui.visitors import Visitors


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_leaves_stops_waits_and_is_forgotten_twice_if_they_come_back() -> None:
    jobs = Turns()
    stores = tuple(SessionStore(list, seconds_after_leaving=0.2) for _ in range(2))
    visitors = Visitors(stores, jobs)
    request = SimpleNamespace(session_hash="abc")
    visitors.leave(request)  # nobody who is known
    visitors.arrive("key", request)
    for store in stores:
        with store.using("key") as work:
            work.append("something")
    jobs.join("key")
    visitors.leave(request)
    assert jobs.count == 0
    with stores[0].using("key") as work:  # the connection only broke
        assert work == ["something"]
    time.sleep(0.6)
    assert [len(store) for store in stores] == [1, 0]
    visitors.leave(request)
    time.sleep(0.6)
    assert len(stores[0]) == 0


def test_the_page_goes_with_the_work_and_stays_with_one_who_came_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam2kit.ui.visitors._LATER", 0.1)
    store = SessionStore(list, seconds_after_leaving=0.2)
    visitors = Visitors((store,), Turns(), seconds_after_leaving=0.2)
    with gr.Blocks() as visitors.page:
        gr.Markdown("page")
    pages = StateHolder()
    pages.set_blocks(visitors.page)
    for name in ("gone", "back"):
        assert pages[name] is not None
        request = SimpleNamespace(session_hash=name)
        visitors.arrive(name, request)
        with store.using(name):
            pass
        visitors.leave(request)
    with store.using("back"):  # the connection only broke
        pass
    time.sleep(0.6)
    wait_for(lambda: "gone" not in pages)
    assert list(pages.session_data) == list(pages.time_last_used) == ["back"]
    visitors.leave(SimpleNamespace(session_hash="back"))
    wait_for(lambda: "back" not in pages)


def test_a_forgotten_visitor_is_gone_at_once() -> None:
    store, jobs = SessionStore(list), Turns()
    with store.using("key"):
        pass
    jobs.join("key")
    Visitors((store,), jobs).forget("key")
    time.sleep(0.3)
    assert len(store) == jobs.count == 0
