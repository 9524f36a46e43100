"""Coming and going."""

from __future__ import annotations

import time
from types import SimpleNamespace

from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.turns import Turns
from sam2kit.ui.visitors import Visitors


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


def test_a_forgotten_visitor_is_gone_at_once() -> None:
    store, jobs = SessionStore(list), Turns()
    with store.using("key"):
        pass
    jobs.join("key")
    Visitors((store,), jobs).forget("key")
    time.sleep(0.3)
    assert len(store) == jobs.count == 0
