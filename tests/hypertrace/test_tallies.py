"""Tallies: counts of this process, their followers, and forks."""

from __future__ import annotations

import os

import pytest

from hypertrace import tallies
from hypertrace.tallies import Tally

from ..running import in_threads


def test_followers_count_what_came_before_and_after() -> None:
    """Each of them; one that left counts no more."""
    tally, one, other = Tally(), list[int](), list[int]()

    def follow_one() -> None:
        one.append(1)

    tally.increment()
    tally.follow(follow_one)
    tally.increment()
    tally.follow(lambda: other.append(1))
    tally.increment()
    assert (tally.value, len(one), len(other)) == (3, 3, 3)
    tally.unfollow(follow_one)
    tally.unfollow(follow_one)
    tally.increment()
    assert (tally.value, len(one), len(other)) == (4, 3, 4)


def test_methods_of_one_object_are_one_follower() -> None:
    """A bound method is found again by another one that is equal."""
    tally, found = Tally(), list[int]()
    tally.follow(found.__len__)
    tally.unfollow(found.__len__)
    assert tally._followers == []


def test_what_a_follower_raises_reaches_the_caller() -> None:
    """It is counted all the same."""
    tally = Tally()

    def fail() -> None:
        raise ZeroDivisionError

    tally.follow(fail)
    with pytest.raises(ZeroDivisionError):
        tally.increment()
    assert tally.value == 1


def test_threads_lose_nothing() -> None:
    """Increments of several threads are all counted."""
    tally = Tally()

    def work() -> None:
        for _ in range(5_000):
            tally.increment()

    in_threads(work, work, work, work)
    assert tally.value == 20_000


def test_a_reset_keeps_the_followers() -> None:
    """It counts from 0 again, and they go on."""
    tally, found = Tally(), list[int]()
    tally.follow(lambda: found.append(1))
    tally.increment()
    tally.reset()
    assert tally.value == 0
    tally.increment()
    assert (tally.value, len(found)) == (1, 2)


def test_a_forked_child_counts_from_zero() -> None:
    """Both tallies of the process; the parent's stay."""
    tallies.swallowed.increment()
    tallies.dropped.increment()
    child = os.fork()
    if child == 0:
        os._exit(tallies.swallowed.value + tallies.dropped.value)
    assert os.waitpid(child, 0)[1] == 0
    assert (tallies.swallowed.value, tallies.dropped.value) == (1, 1)
