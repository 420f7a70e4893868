"""Identity of functions: a traced function is the object it was, wherever it is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import instrument

from .programs import ENGINE, capture_spans, in_place, names_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .programs import Program

    Same = Callable[..., Any]

pytestmark = in_place

HELD = """
import functools, operator, pickle, types

@traced
def upper(text):
    return text.upper()

@traced
def lower(text):
    return text.lower()

@traced
async def waits(text):
    return text

@traced
def steps(text):
    yield text

class Job:
    @traced
    def run(self, text):
        return text

    @traced
    async def waits(self, text):
        return text

    @traced
    def steps(self, text):
        yield text

    @classmethod
    @traced
    def of_class(cls, text):
        return text

    @staticmethod
    @traced
    def static(text):
        return text

    handler = run
    handlers = {"run": run}

FILTERS = {"upper": upper, "lower": lower}
copied = upper
default = lambda text, function=upper: function(text)
half = functools.partial(lower, "ABC")
module = types.ModuleType("views")
exec("from shop import upper, Job\\nrun = Job.run", module.__dict__)
bound = Job().run
cell = (lambda function: lambda text: function(text))(lower)
"""


def test_functions_that_are_held_elsewhere_are_traced(program: Program) -> None:
    """In a dictionary, a default, a partial, another module, a bound method: all are counted."""
    shop = program.load(HELD)
    names = dict.fromkeys(shop._names)
    handles = [instrument(f"shop:{name}") for name in names]
    with capture_spans() as events:
        held = [shop.FILTERS["upper"], shop.copied, shop.default, shop.module.upper]
        assert [call("a") for call in held] == ["A"] * 4
        assert [shop.FILTERS["lower"]("A"), shop.half(), shop.cell("A")] == ["a", "abc", "a"]
        job = shop.Job()
        called = [job.handler("r"), shop.Job.handlers["run"](job, "r"), shop.bound("r")]
        assert [*called, shop.module.run(job, "r"), shop.module.Job.run(job, "r")] == ["r"] * 5
        assert names_of(events) == {"upper": 4, "lower": 3, "run": 5}
        for handle in handles:
            handle.undo()
        assert [call("a") for call in held] == ["A"] * 4
        assert len(events) == 12


def test_what_holds_them_holds_the_same_objects(program: Program) -> None:
    """No attribute of a module or class changes when it is traced, and none when that ends."""
    shop = program.load(HELD)
    before, of_class = dict(vars(shop)), dict(vars(shop.Job))
    handles = [instrument(f"shop:{name}") for name in dict.fromkeys(shop._names)]
    for _ in range(2):
        assert vars(shop) == before
        assert all(vars(shop)[name] is value for name, value in before.items())
        assert all(vars(shop.Job)[name] is value for name, value in of_class.items())
        for handle in handles:
            handle.undo()


def test_what_is_held_elsewhere_is_pickled_while_it_is_traced(how: str, program: Program) -> None:
    """Functions, methods of classes and objects come out of a pickle as the same, or equal."""
    source = (
        HELD
        + """
import copy

def main():
    functions = [*FILTERS.values(), copied, waits, steps, module.upper, *Job.handlers.values()]
    functions += [Job.run, Job.waits, Job.steps, Job.static, Job.of_class, Job.handler]
    for it in functions:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(it, protocol)) == it
        assert copy.copy(it) is it or it == Job.of_class
        assert copy.deepcopy(it) == it
    jobs = pickle.loads(pickle.dumps([Job().run, Job().waits, half, FILTERS]))
    assert [type(it.__self__) for it in jobs[:2]] == [Job] * 2
    assert jobs[2]() == "abc" and jobs[3]["upper"] is upper
    texts = [pickle.dumps(it) for it in functions]
    return [text.hex() for text in texts], [repr(it).partition(" at ")[0] for it in functions]
"""
    )
    plain = program.load(source).main()
    result, events = program.run(source, how)
    assert result == plain
    assert names_of(events) == {"lower": 1}


def test_methods_have_an_identity(same: Same) -> None:
    """Methods of each kind are one object, with weak references that live as long as it does."""
    source = """
import gc, weakref

class Job:
    @traced
    def run(self): return "run"
    @traced
    def steps(self): yield "steps"
    @traced
    async def waits(self): return "waits"
    @traced
    async def asteps(self): yield "asteps"
    @staticmethod
    @traced
    async def static(): return "static"
    @classmethod
    @traced
    def of_class(cls): yield "of_class"

def main():
    found = []
    for name in ("run", "steps", "waits", "asteps", "static"):
        found.append(getattr(Job, name) is getattr(Job, name) is vars(Job)[name] or name)
        reference = weakref.ref(getattr(Job, name))
        gc.collect(0)
        found.append(reference() is getattr(Job, name))
        found.append(type(getattr(Job, name)).__name__)
    job = Job()
    for name in ("run", "steps", "waits", "asteps", "of_class"):
        method = getattr(job, name)
        weak = weakref.WeakMethod(method)
        gc.collect(0)
        found.append(weak() == method)
        found += [type(method).__name__, method.__self__ in (job, Job), method.__name__]
        found.append(method.__func__ is getattr(type(job), name) or method.__self__ is Job)
        found.append({method: 1}[getattr(job, name)])
    callbacks = weakref.WeakKeyDictionary({Job.run: 1, Job.waits: 2})
    gc.collect()
    found += [len(callbacks), len(weakref.WeakSet([Job.steps, Job.asteps]))]
    found += [job.run(), *job.steps(), list(Job.of_class())]
    found.append(Job.waits in {Job.run, Job.waits})
    return found
"""
    result = same(source, {"run": 1, "steps": 1, "of_class": 1})
    assert False not in result


INSPECTED = """
import asyncio, dis, inspect, types, typing

def decorator(function):
    @traced
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    wrapper.__wrapped__ = function
    return wrapper

@traced
def function(a, /, b: "int", *rest, c=3, d: float = 4.0, **more) -> str:
    "Do something."
    local = a
    return f"{local}{b}{c}"

@traced
def simple(a, b=2):
    yield a

@traced
async def waits(a, *, b=2):
    return a

@traced
async def asteps(a, *, b=2):
    yield a

@decorator
def decorated(x, y=1): pass

def closing(free):
    @traced
    def closure(a=1):
        return free
    return closure

closure = closing("free")

ATTRIBUTES = [
    "__annotations__", "__defaults__", "__kwdefaults__", "__doc__", "__module__", "__name__",
    "__qualname__", "__dict__",
]
CODE = [
    "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_varnames", "co_cellvars",
    "co_freevars", "co_flags", "co_name", "co_qualname", "co_firstlineno", "co_filename",
    "co_names", "co_nlocals",
]

def described(it):
    return (
        str(inspect.getfullargspec(it)), str(inspect.signature(it)),
        inspect.getsource(it), inspect.getsourcelines(it)[1], inspect.getfile(it),
        inspect.getdoc(it),
        str(typing.get_type_hints(it)),
        [str(getattr(it, name)) for name in ATTRIBUTES if name != "__dict__"],
        sorted(set(vars(it)) - {"__wrapped__"}),
        [getattr(it.__code__, name) for name in CODE],
        it.__globals__ is globals(), it.__builtins__ is __builtins__,
        [cell.cell_contents for cell in it.__closure__ or () if it is closure],
        str(inspect.getclosurevars(it).nonlocals) if it is closure else None,
        [is_kind(it) for is_kind in (
            inspect.isfunction, inspect.isgeneratorfunction, inspect.iscoroutinefunction,
            inspect.isasyncgenfunction, inspect.isroutine, inspect.ismethod, callable)],
        type(it) is types.FunctionType, inspect.unwrap(it) is it or it is decorated,
        sorted(set(line for _, _, line in it.__code__.co_lines() if line)),
    )

def main():
    return [described(it) for it in (function, simple, waits, asteps, decorated, closure)]
"""


def test_a_function_describes_itself_as_before(same: Same) -> None:
    """Everything of `inspect`, and the attributes of the function and of its code, are equal."""
    same(INSPECTED, {})


@pytest.mark.skipif(ENGINE == "bytecode", reason="its code is another object")
def test_the_code_of_a_function_stays_the_same_object(program: Program) -> None:
    """A function that is traced by events of its code keeps that code."""
    shop = program.load(INSPECTED)
    functions = [shop.function, shop.simple, shop.waits, shop.asteps]
    before = [(it.__code__, it.__code__.co_code) for it in functions]
    handles = [instrument(f"shop:{it.__name__}") for it in functions]
    assert [(it.__code__, it.__code__.co_code) for it in functions] == before
    assert all(it.__code__ is code for it, (code, _) in zip(functions, before, strict=True))
    for handle in handles:
        handle.undo()


def test_the_code_of_a_function_is_back_after_the_end(program: Program) -> None:
    """The end of the tracing gives a function the code object that it had."""
    shop = program.load(INSPECTED)
    functions = [shop.function, shop.simple, shop.waits, shop.asteps]
    before = [it.__code__ for it in functions]
    handles = [instrument(f"shop:{it.__name__}") for it in functions]
    for handle in handles:
        handle.undo()
    assert all(it.__code__ is code for it, code in zip(functions, before, strict=True))


def test_what_is_set_on_a_traced_function_takes_effect(same: Same) -> None:
    """Defaults, keyword defaults and attributes that are set later are those of its calls."""
    source = """
@traced
def function(a=1, *, b=2):
    return a, b

@traced
def steps(a=1, *, b=2):
    yield a, b

def main():
    found = []
    for it in (function, steps):
        call = lambda: next(iter(it())) if it is steps else it()
        found.append(call())
        it.__defaults__, it.__kwdefaults__ = (10,), {"b": 20}
        found.append(call())
        it.__defaults__ = None
        try:
            call()
        except TypeError as error:
            found.append(str(error))
        it.__defaults__ = (1,)
        it.marker, it.__name__, it.__doc__ = 1, "renamed", "documented"
        found += [vars(it).get("marker"), it.__name__, it.__doc__, call()]
    return found
"""
    same(source, {"function": 3, "steps": 3})
