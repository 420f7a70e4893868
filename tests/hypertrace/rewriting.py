"""Rewriting of whole modules, records that log what rewritten code does, and comparison of code."""

from __future__ import annotations

import dis
from functools import partial
from inspect import CO_OPTIMIZED
from itertools import count, repeat
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from hypertrace import _compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

speedups: Any = _compiled.speedups

OPERATORS = {
    "__pos__": "start",
    "__delitem__": "end",
    "__neg__": "out",
    "__invert__": "in",
    "__getitem__": "thrown",
    "__contains__": "fail",
}


def record_of(operators: Mapping[str, Iterator[Any]]) -> Any:
    """Make a record whose operators take the next of iterators, which no debugger sees."""
    methods: dict[str, Callable[..., Any]] = {
        # An operand is what next() would return at the end, so that it is not kept.
        name: partial(next, operators[OPERATORS[name]])
        for name in OPERATORS
    }
    return type("Record", (), methods)()


def logging_record(log: list[str]) -> Any:
    """Make a record that logs the name of each operator."""
    names = OPERATORS.values()
    return record_of({name: map(log.append, repeat(name)) for name in names})


class Counts:
    """Counts of what a record sees."""

    def __init__(self) -> None:
        self._counters = {name: count() for name in OPERATORS.values()}
        self.record = record_of(self._counters)

    def values(self) -> dict[str, int]:
        """Return how often each operator was used; once only."""
        return {name: next(counter) for name, counter in self._counters.items()}


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Find a code object and all that it holds."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


def functions_rewritten(code: CodeType, record: Any) -> CodeType:
    """Return a module's code in which all functions are rewritten."""
    constants = tuple(
        functions_rewritten(constant, record) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    if constants != code.co_consts:
        code = code.replace(co_consts=constants)
    return speedups.rewrite(code, record) if code.co_flags & CO_OPTIMIZED else code


class _Place(NamedTuple):
    """An instruction: what it does, where it comes from, and what handles its exceptions.

    Instructions are named by their numbers in the code as it was.
    """

    name: str
    argument: Any
    positions: Any
    handler: Any


def places_of(code: CodeType, record: object = None) -> list[_Place]:
    """List the instructions of a code object, without those that were inserted for a record."""
    instructions = list(dis.get_instructions(code))
    inserted = _inserted(instructions, record)
    entries = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    numbers: dict[int, int] = {}
    kept: list[dis.Instruction] = []
    for instruction in instructions:
        numbers[instruction.offset] = len(kept)
        if instruction.offset not in inserted and instruction.opname != "EXTENDED_ARG":
            kept.append(instruction)
    places = []
    for instruction in kept:
        argument = instruction.argval
        if instruction.opcode in dis.hasjrel:
            argument = numbers[argument]
        handler = _covering(entries, instruction.offset)
        if handler and handler.target in inserted:  # steps in and raises again
            handler = _covering(entries, handler.target)
        found = handler and (numbers[handler.target], handler.depth, handler.lasti)
        places.append(_Place(instruction.opname, argument, instruction.positions, found))
    return places


def _covering(entries: list[Any], offset: int) -> Any:
    return next((entry for entry in entries if entry.start <= offset < entry.end), None)


def _inserted(instructions: list[dis.Instruction], record: object) -> set[int]:
    """Find the offsets of what was inserted, from each place where the record is loaded."""
    found: set[int] = set()
    for i, loading in enumerate(instructions):
        if record is None or loading.opname != "LOAD_CONST" or loading.argval is not record:
            continue
        first, last = i, i + 2
        while instructions[first - 1].opname == "EXTENDED_ARG":
            first -= 1
        names = [instruction.opname for instruction in instructions[i : i + 6]]
        if names[1] == "CONTAINS_OP":
            first, last = first - 1, i + 3
        elif names[2] == "BINARY_SUBSCR" or names[3:] == ["JUMP_FORWARD", "SEND", "YIELD_VALUE"]:
            last = i + 4
        found.update(instruction.offset for instruction in instructions[first : last + 1])
    return found


def operators_in(code: CodeType, record: object) -> list[tuple[str, str, str]]:
    """List what is done with the record, with what stands before and behind it."""
    instructions = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]
    names = ["", *(instruction.opname for instruction in instructions), "", "", ""]
    return [
        (names[i], "-".join(names[i + 2 : i + 4]), names[i + 4])
        for i, loading in enumerate(instructions)
        if loading.opname == "LOAD_CONST" and loading.argval is record
    ]
