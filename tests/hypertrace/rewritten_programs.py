"""Programs of one function each, which run once as they are and once with their code rewritten.

Each takes nothing and returns what can be compared, with the lines and columns of its tracebacks.
The module is compiled twice, so nothing here holds state.
"""

# mypy: ignore-errors
# The programs do what types reject, and drive generators by all of their methods.

import asyncio
import contextlib
import dis
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any


def positions(error: BaseException | None) -> list[Any]:
    """List an exception, with all that it was raised from, and where each of their frames was."""
    found: list[Any] = []
    while error is not None:
        traceback = error.__traceback__
        found.append(repr(error))
        while traceback is not None:
            code, frame = traceback.tb_frame.f_code, traceback.tb_frame
            places = [
                instruction.positions
                for instruction in dis.get_instructions(code)
                if instruction.offset == traceback.tb_lasti
            ]
            found.append((code.co_name, traceback.tb_lineno, frame.f_lineno, places))
            traceback = traceback.tb_next
        error = error.__cause__ or error.__context__
    return found


def caught(function: Callable[..., object], *args: object) -> object:
    """Return the result of a call, or its exception with all positions."""
    try:
        return function(*args)
    except BaseException as error:
        return positions(error)


class Manager:
    def __init__(self, log: list[object], *, swallow: bool) -> None:
        self.log, self.swallow = log, swallow

    def __repr__(self) -> str:
        return "Manager()"

    def __enter__(self) -> "Manager":
        self.log.append("enter")
        return self

    def __exit__(self, *error: object) -> bool:
        self.log.append(("exit", repr(error[1])))
        return self.swallow

    async def __aenter__(self) -> "Manager":
        await asyncio.sleep(0)
        return self.__enter__()

    async def __aexit__(self, *error: object) -> bool:
        await asyncio.sleep(0)
        return self.__exit__(*error)


def branches_and_loops() -> object:
    found: list[object] = []
    for i in range(12):
        if i % 5 == 4:
            continue
        if (i and i % 7 == 0) or i == 9:
            found.append(-i)
            break
        found.append(i if i % 2 else None)
    else:
        found.append("else")
    while found:
        if found.pop() is None:
            break
    return found, [x * y for x in range(3) if x for y in (1, x)], {k: k for k in "ab"}


def finally_with_returns() -> object:
    def inner(kind: int) -> object:
        log: list[object] = []
        for i in range(3):
            try:
                if kind == i:
                    return log
                if kind == 3:
                    raise ValueError(i)
                log.append(i)
            except ValueError as error:
                log.append(repr(error))
                if i == 1:
                    return log
                continue
            finally:
                log.append("finally")
                if kind == 4 and i == 1:
                    break
        return log

    return [inner(kind) for kind in range(6)]


def exceptions_in_handlers() -> object:
    def inner(kind: int) -> object:
        try:
            try:
                return 1 / kind
            except ZeroDivisionError:
                if kind == 0:
                    raise KeyError(
                        "in the handler",
                    )
        finally:
            if sys.exc_info()[0] is None:
                raise OSError("in finally")

    return [caught(inner, kind) for kind in (0, 1)], sys.exc_info()


def raised_again() -> object:
    def by_name() -> None:
        try:
            [].pop()
        except IndexError as error:
            raise error

    def bare() -> None:
        try:
            {}["missing"]
        except KeyError:
            raise

    def caused() -> None:
        try:
            bare()
        except KeyError as error:
            raise ValueError("caused") from error

    def unmatched() -> None:
        try:
            caused()
        except (TypeError, IndexError):
            pass

    def through_with() -> None:
        with Manager([], swallow=False):
            unmatched()

    return [caught(f) for f in (by_name, bare, caused, unmatched, through_with)]


def exception_groups() -> object:
    log: list[object] = []

    def inner() -> None:
        try:
            raise ExceptionGroup("all", [ValueError(1), KeyError(2), OSError(3)])
        except* ValueError as group:
            log.append(repr(group))
        except* KeyError:
            raise

    return caught(inner), log


def context_managers() -> object:
    log: list[object] = []

    def inner(swallow: bool) -> object:
        with Manager(log, swallow=swallow) as manager, Manager(log, swallow=False):
            if swallow:
                raise ValueError(manager.swallow)
            return "returned"
        return "swallowed"

    return inner(True), inner(False), log


def matching() -> object:
    def kind(value: object) -> object:
        match value:
            case {"a": a, **rest}:
                return "mapping", a, rest
            case [first, *others] if first:
                return "sequence", first, others
            case int() | float():
                return "number"
            case str(text):
                return text
        return None

    return [kind(value) for value in ({"a": 1, "b": 2}, [1, 2], [0], 3, 4.5, "text", None)]


def cells_and_free_variables() -> object:
    def outer(a: int, *args: int, b: int = 2, **kwargs: int) -> object:
        total = a

        def inner(c: int) -> int:
            nonlocal total, a
            total += c + a + b
            a = 7
            return total

        class Local:
            value = a

            def method(self) -> object:
                return __class__, total

        return inner(1), inner(2), Local().method()[1], args, kwargs, locals().get("a")

    return outer(1, 2, 3, b=4, c=5), caught(outer)


def super_without_arguments() -> object:
    class Base:
        def method(self, x: int) -> int:
            return x

    class Derived(Base):
        def method(self, x: int) -> int:
            return super().method(x) + (lambda: x)()

    return Derived().method(4)


def deleted_and_unbound() -> object:
    def inner(a: object) -> object:
        del a
        return a  # noqa: F821 -- that is the error

    return caught(inner, 1)


def counting() -> Iterator[Any]:
    try:
        received = yield 1
        while True:
            try:
                received = yield received
            except ValueError as error:
                received = yield repr(error)
            finally:
                if received == "stop":
                    return
    finally:
        with contextlib.suppress(StopIteration):
            raise StopIteration


def generators() -> object:
    made = counting()
    found: list[object] = [next(made), made.send(2), made.throw(ValueError("a")), made.send(3)]
    found.append(caught(made.send, "stop"))
    found.append(caught(next, made))
    closed = counting()
    found.append((next(closed), closed.close(), caught(next, closed)))
    unstarted = counting()
    found.append((caught(unstarted.throw, KeyError("early")), caught(next, unstarted)))
    thrown = counting()
    found.append((next(thrown), caught(thrown.throw, KeyError("late")), thrown.close()))
    return found


def generators_that_fail() -> object:
    def raising() -> Iterator[int]:
        yield 1
        raise StopIteration(2)

    def not_closing() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    first, second = raising(), not_closing()
    return next(first), caught(next, first), next(second), caught(second.close)


def delegation() -> object:
    def inner(log: list[object]) -> Iterator[Any]:
        try:
            while True:
                try:
                    log.append((yield "inner"))
                except KeyError as error:
                    log.append(repr(error))
                    return "returned"
        finally:
            log.append("inner closed")

    def outer(log: list[object], source: Any) -> Iterator[Any]:
        try:
            log.append((yield from source))
            yield "after"
        except OSError as error:
            log.append(positions(error))
            yield "handled"
        return (yield from [3, 4])

    found: list[object] = []
    log: list[object] = []
    made = outer(log, inner(log))
    found += [next(made), made.send(5), made.throw(KeyError), made.send(None), list(made)]
    made = outer(log, inner(log))
    found += [next(made), made.throw(OSError("passed on")), list(made)]
    made = outer(log, inner(log))
    found += [next(made), caught(made.throw, ZeroDivisionError("passed on"))]
    made = outer(log, inner(log))
    found += [next(made), made.close(), caught(next, made)]
    made = outer(log, iter([1, 2]))
    found += [next(made), caught(made.send, 7)]
    made = outer(log, iter([1, 2]))
    found += [next(made), made.throw(OSError), list(made), log]
    return found


def deep_delegation() -> object:
    def nested(depth: int) -> Iterator[int]:
        if depth:
            return (yield from nested(depth - 1)) + 1
        received = yield depth
        return received

    made = nested(300)
    return next(made), caught(made.send, 5)


def coroutines() -> object:
    log: list[object] = []

    async def leaf(value: object) -> object:
        await asyncio.sleep(0)
        if isinstance(value, BaseException):
            raise value
        return value

    async def middle(value: object) -> object:
        async with Manager(log, swallow=False):
            try:
                return await leaf(value)
            except KeyError as error:
                log.append(positions(error))
                return await leaf("after")

    async def main() -> object:
        return await asyncio.gather(
            middle(1), middle(KeyError(2)), middle(OSError(3)), return_exceptions=True
        )

    *results, error = asyncio.run(main())
    return results, positions(error), log


def cancelled_tasks() -> object:
    log: list[object] = []

    async def waiting() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            log.append(repr(error))
            await asyncio.sleep(0)
            raise

    async def main() -> object:
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        task.cancel("message")
        return repr((await asyncio.gather(task, return_exceptions=True))[0])

    return asyncio.run(main()), log


def coroutines_driven_by_hand() -> object:
    class Twice:
        def __await__(self) -> Iterator[int]:
            received = yield 1
            try:
                yield received
            except ValueError:
                return 9
            return 10

    async def inner() -> int:
        return await Twice()

    async def outer() -> object:
        return await inner(), await Twice()

    made = outer()
    found: list[object] = [made.send(None), made.send(2), made.throw(ValueError), made.cr_await]
    found[-1] = type(found[-1]).__name__
    found.append((made.send(3), caught(made.send, None)))
    closed = outer()
    found.append((closed.send(None), closed.close(), caught(closed.send, None)))
    return found


def asynchronous_generators() -> object:
    log: list[object] = []

    async def numbers(stop: int) -> AsyncIterator[Any]:
        try:
            for i in range(stop):
                await asyncio.sleep(0)
                try:
                    log.append((yield i))
                except ValueError as error:
                    log.append(repr(error))
                    yield "handled"
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    async def consuming() -> object:
        found = []
        async for i in numbers(3):
            found.append(i)
        else:
            found.append("else")
        async for i in numbers(9):
            if i == 2:
                break
        return found, [i async for i in numbers(3) if i], [await asyncio.sleep(0, i) for i in "ab"]

    async def driving() -> object:
        made: Any = numbers(5)
        found = [await made.asend(None), await made.asend("sent"), await made.athrow(ValueError)]
        await made.aclose()
        try:
            await made.asend(None)
        except StopAsyncIteration:
            found.append("ended")
        return found

    async def main() -> object:
        return await consuming(), await driving()

    return asyncio.run(main()), log


def looking_at_itself() -> object:
    def inner(a: int, b: int = 2) -> object:
        frame = sys._getframe()
        return (
            frame.f_lineno,
            frame.f_code.co_name,
            sorted(frame.f_locals),
            sys._getframe(1).f_lineno,
        )

    return inner(1), inner.__code__.co_varnames, inner.__code__.co_argcount, inner.__defaults__


def generator_expressions() -> object:
    made = (x + y for x in range(3) for y in range(x))
    return next(made), made.gi_running, made.gi_yieldfrom, list(made), sum(x for x in range(300))


def suspended_generators() -> object:
    def inner() -> Iterator[int]:
        yield 1

    def outer() -> Iterator[int]:
        yield from inner()
        yield 2

    made: Any = outer()
    found = [made.gi_yieldfrom, next(made), made.gi_yieldfrom.gi_code.co_name, made.gi_suspended]
    found += [made.gi_frame.f_lineno, next(made), made.gi_yieldfrom, made.gi_frame.f_lineno]
    return found, list(made), made.gi_frame


PROGRAMS = [
    branches_and_loops,
    finally_with_returns,
    exceptions_in_handlers,
    raised_again,
    exception_groups,
    context_managers,
    matching,
    cells_and_free_variables,
    super_without_arguments,
    deleted_and_unbound,
    generators,
    generators_that_fail,
    delegation,
    deep_delegation,
    coroutines,
    cancelled_tasks,
    coroutines_driven_by_hand,
    asynchronous_generators,
    looking_at_itself,
    generator_expressions,
    suspended_generators,
]
