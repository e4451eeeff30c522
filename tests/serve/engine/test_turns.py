"""Turns are given in the order in which they were asked for."""

from __future__ import annotations

import threading
import time

from emokernel.serve.engine.turns import Turns


def test_who_takes_turns_again_and_again_lets_others_in():
    """An ordinary lock would be taken by the loop that has just released it."""
    turns, order, waiting = Turns(), [], threading.Event()

    def other():
        waiting.set()
        with turns:
            order.append("other")

    thread = threading.Thread(target=other)
    with turns:
        thread.start()
        waiting.wait()
        time.sleep(0.05)  # until it waits for its turn
    for _ in range(3):
        with turns:
            order.append("loop")
    thread.join()
    assert order[0] == "other"


def test_nobody_is_within_beside_another():
    turns, within, most = Turns(), [], []

    def work():
        for _ in range(50):
            with turns:
                within.append(1)
                most.append(len(within))
                time.sleep(0)
                within.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 300
    assert max(most) == 1


def test_an_error_gives_the_turn_back():
    turns = Turns()
    for _ in range(2):
        try:
            with turns:
                raise ValueError
        except ValueError:
            pass
    with turns:
        pass
