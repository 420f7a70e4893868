"""Object ids: a sequence for each class name."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from hypertrace import _object_ids
from hypertrace._object_ids import sequence_for


@pytest.fixture(autouse=True)
def _fresh() -> None:
    _object_ids.reset()


def test_each_class_name_has_a_sequence_from_one() -> None:
    """Numbers start at 1 for each class name and go up by one."""
    assert [next(sequence_for(name)) for name in ("a", "b", "a", "a", "b")] == [1, 1, 2, 3, 2]


def test_past_the_bound_names_share_a_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names past the bound are not remembered, and their numbers are still all different."""
    monkeypatch.setattr(_object_ids, "MAX_NAMES", 2)
    taken = [(name, next(sequence_for(name))) for name in ("a", "b", "c", "d", "c", "a", "e")]
    assert taken[:2] == [("a", 1), ("b", 1)]
    assert taken[5] == ("a", 2)
    others = [number for name, number in taken if name in "cde"]
    assert len(set(others)) == 4
    assert set(_object_ids.sequences) == {"a", "b"}


def test_reset_numbers_from_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reset all sequences start again from 1, also the shared one."""
    monkeypatch.setattr(_object_ids, "MAX_NAMES", 1)
    for name in ("a", "b"):
        assert [next(sequence_for(name)) for _ in range(2)] == [1, 2]
    _object_ids.reset()
    assert [next(sequence_for(name)) for name in ("a", "b")] == [1, 1]


def test_threads_get_different_numbers() -> None:
    """No two threads get the same number, also for names that are new."""

    def take(_: int) -> list[int]:
        return [next(sequence_for(str(i % 7))) for i in range(700)]

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(8)))
    for i in range(7):
        own = [number for numbers in taken for number in numbers[i::7]]
        assert sorted(own) == list(range(1, 801))
