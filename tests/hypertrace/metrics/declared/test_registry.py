"""Registry: metrics that are declared for every `Metrics` of the process."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import swallowed_errors
from hypertrace.metrics import Counter, Distribution, LastValue, Metrics, Sum, declare
from hypertrace.metrics.declared.registry import additions, equip_all, family_name, listen

from ....running import in_threads

if TYPE_CHECKING:
    from hypertrace.metrics.declared.kinds import DeclaredMetric

ONE = Counter("one_total", tags=["a"])
TWO = Sum("two_total", value="size")


class Listening:
    """Takes metrics as `Metrics` does."""

    def __init__(self, *own: DeclaredMetric) -> None:
        self.known = {family_name(one.name): one for one in own}
        listen(self)

    def declare(self, *metrics: DeclaredMetric) -> None:
        self.known.update({family_name(o.name): o for o in additions(self.known, metrics)})

    @property
    def names(self) -> list[str]:
        return sorted(self.known)


def test_a_metric_is_declared_for_all_now_and_later() -> None:
    """Those that exist get it, and those that are made after it."""
    before = Listening()
    declare(ONE, TWO)
    after = Listening()
    assert before.names == after.names == ["one", "two"]


def test_an_equal_metric_may_be_declared_again() -> None:
    """It is declared once."""
    declare(ONE)
    declare(ONE, Counter("one_total", tags={"a": "a"}))
    assert Listening().names == ["one"]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (Counter("one_total", tags=["b"]), r"tags was \('a',\), and is now \('b',\)"),
        (Counter("one_total"), r"tags was \('a',\), and is now not given"),
        (Counter("one_total", tags=["a"], of="A.*"), r"of was not given, and is now 'A\.\*'"),
        (Sum("one_total", tags=["a"], value="v"), "it was Counter.*, and is now Sum"),
        (LastValue("one", value="v"), r"one is declared already.*LastValue\('one'"),
    ],
)
def test_another_metric_of_the_name_is_refused(other: Any, difference: str) -> None:
    """The error shows the difference; nothing of the call is declared."""
    declare(ONE)
    with pytest.raises(ValueError, match=difference):
        declare(TWO, other)
    assert Listening().names == ["one"]
    with pytest.raises(ValueError, match="differs"):
        declare(TWO, Sum("two_total", value="other"))


def test_what_is_no_declared_metric_is_refused() -> None:
    """The error shows it."""
    wrong: Any
    for wrong in ("one_total", Counter, None):
        with pytest.raises(TypeError, match=r"declare takes Counter, Sum, .*, not"):
            declare(wrong)
    wrong = [ONE]
    with pytest.raises(TypeError, match=r"write declare\(\*metrics\)"):
        declare(wrong)


def test_one_that_has_another_metric_of_the_name_keeps_it() -> None:
    """The others record the new one, and the caller gets the error."""
    own = Listening(Counter("one_total"))
    other = Listening()
    with pytest.raises(ValueError, match="one_total is declared already"):
        declare(ONE)
    assert own.known["one"] == Counter("one_total")
    assert other.known["one"] == ONE


def test_those_that_listen_are_held_weakly() -> None:
    """One that is gone gets nothing, and no error comes of it."""
    taken: list[str] = []

    class Noting(Listening):
        def declare(self, *metrics: DeclaredMetric) -> None:
            taken.extend(one.name for one in metrics)

    listening = Noting()
    declare(ONE)
    assert taken == ["one_total"]
    del listening
    gc.collect()
    declare(TWO)
    assert taken == ["one_total"]


def test_all_get_all_that_threads_declare() -> None:
    """It makes no difference which is first."""
    found: list[Listening] = []

    def work(number: int) -> None:
        for n in range(20):
            declare(Distribution(f"x_{number}_{n}"))
            found.append(Listening())

    in_threads(*[lambda n=n: work(n) for n in range(4)])
    assert {len(one.known) for one in found} == {80}


def test_all_are_equipped_now_and_later() -> None:
    """Those that exist are given to the function, and those that are made until its end."""
    found: list[object] = []
    before = Metrics(workers=False)
    end = equip_all(found.append)
    after = Metrics(workers=False)
    end()
    end()
    Metrics(workers=False)
    assert found == [before, after]


def test_equipment_that_fails_costs_nothing_else() -> None:
    """The `Metrics` is made, and the others are called."""
    found: list[object] = []
    before = swallowed_errors()
    equip_all(lambda _: 1 / 0)
    equip_all(found.append)
    metrics = Metrics(workers=False)
    assert found == [metrics]
    assert swallowed_errors() - before == 1


def test_threads_that_make_metrics_are_equipped() -> None:
    """Whichever is first, each is given to the function at least once."""
    made: list[Metrics] = []
    found: set[int] = set()

    def make() -> None:
        made.extend(Metrics(workers=False) for _ in range(20))

    in_threads(make, lambda: equip_all(lambda one: found.add(id(one))), make)
    assert {id(one) for one in made} <= found
