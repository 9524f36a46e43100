"""First come, first served."""

from __future__ import annotations

import time
from threading import Thread

from sam2kit.model.sam2 import SAM2
from sam2kit.ui.networks import Network, Networks
from sam2kit.ui.turns import Turns, waiting_text


def test_places_move_up_in_order() -> None:
    turns = Turns()
    first, second, third = turns.join(), turns.join(), turns.join()
    assert [t.before for t in (first, second, third)] == [0, 1, 2]
    assert first.wait(0)
    assert not second.wait(0.01)
    second.leave()  # gave up while waiting
    assert third.before == 1
    first.leave()
    first.leave()
    assert third.wait(0)
    assert "2 jobs before" in waiting_text(2)
    assert "1 job before" in waiting_text(1)


def test_whoever_is_gone_holds_up_nobody() -> None:
    turns = Turns()
    gone, again, other = turns.join("a"), turns.join("a"), turns.join("b")
    turns.leave("a")
    assert other.wait(0)
    assert not gone.wait(0)
    assert not again.wait(0)
    other.leave()
    assert turns.count == 0


def test_as_a_lock_it_is_fair() -> None:
    """One who asks again and again does not keep another waiting, as a plain lock may."""
    turns, order = Turns(), []

    def greedy() -> None:
        for _ in range(20):
            with turns:
                order.append("greedy")
                time.sleep(0.005)

    def modest() -> None:
        for _ in range(5):
            with turns:
                order.append("modest")
                time.sleep(0.005)

    threads = [Thread(target=greedy), Thread(target=modest)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert turns.count == 0
    assert max(i for i, who in enumerate(order) if who == "modest") < 14, order


def test_a_waiting_thread_is_woken() -> None:
    turns, came = Turns(), []
    holder = turns.join()
    waiter = turns.join()
    thread = Thread(target=lambda: came.append(waiter.wait(20)))
    thread.start()
    holder.leave()
    thread.join(20)
    assert came == [True]


def test_every_pass_of_the_app_takes_its_turn(nano: SAM2) -> None:
    passes = Turns()
    network = Network.of(nano, "nano", passes)
    networks = Networks(network, passes)
    assert network.videos is not None
    assert network.images.lock is passes, "an empty queue counts as a lock"
    assert network.videos.predictor().lock is passes
    assert not networks.are_busy
    with passes:
        assert networks.are_busy
