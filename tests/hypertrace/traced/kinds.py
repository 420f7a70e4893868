"""Kinds of callables, each in a program, and the spans that a call of each is."""

from __future__ import annotations

FUNCTIONS = '''
import abc, asyncio, contextlib, dataclasses, enum, functools, types, typing

def act(ending):
    """Do what the test wants in the middle of a call, and end it."""
    meanwhile()
    if ending == "returns":
        return "value"
    if ending == "returns wrong":
        return "wrong"
    raise ERRORS[ending]("text")

def meanwhile():
    pass

ERRORS = {"raises": LookupError, "expected": KeyError, "cancelled": asyncio.CancelledError,
          "interrupted": KeyboardInterrupt, "exits": lambda _: SystemExit(0),
          "stops": StopIteration}

def passes(decorator):
    return decorator

@traced
def function(ending): return act(ending)

@traced
def many(a, /, ending, *rest, b=1, **more): return act(ending)

named_lambda = lambda ending: act(ending)
named_lambda.__qualname__ = named_lambda.__name__ = "named_lambda"
named_lambda = traced(named_lambda)

@traced
def cell(ending):
    inner = lambda: act(ending)
    return inner()

@traced
def tries(ending):
    try:
        with contextlib.nullcontext():
            return act(ending)
    finally:
        len("")

def wraps(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

@traced
@wraps
def wrapped(ending): return act(ending)

@wraps
@wraps
@traced
def below(ending): return act(ending)

def factory():
    @traced
    def closure(ending): return act(ending)
    return closure
closure, sibling = factory(), factory()

@functools.lru_cache
@traced
def cached(ending): return act(ending)

@functools.singledispatch
@traced
def generic(ending): return act(ending)

@contextlib.contextmanager
def manager():
    yield

@manager()
@traced
def managed(ending): return act(ending)

class Base:
    @traced
    def inherited(self, ending): return act(ending)
    @traced
    def overridden(self, ending): return act(ending)
    def __init_subclass__(cls): pass

class Job(Base):
    @traced
    def method(self, ending): return act(ending)
    @staticmethod
    @traced
    def static(ending): return act(ending)
    @classmethod
    @traced
    def of_class(cls, ending): return act(ending)
    @property
    @traced
    def size(self): return act(self.ending)
    @size.setter
    @traced
    def size(self, ending): act(ending)
    @size.deleter
    @traced
    def size(self): act(self.ending)
    @functools.cached_property
    @traced
    def computed(self): return act(self.ending)
    @traced
    def overridden(self, ending): return super().overridden(ending)
    @traced
    def __call__(self, ending): return act(ending)
    @traced
    def __enter__(self): return act(self.ending)
    def __exit__(self, *_): pass
    @traced
    def __getitem__(self, ending): return act(ending)
    @traced
    def __add__(self, ending): return act(ending)
    @traced
    def __bool__(self): return bool(act(self.ending))
    @traced
    def __iter__(self): return iter([act(self.ending)])
    @traced
    def __getattr__(self, name):
        if name.startswith("_"): raise AttributeError(name)
        return act(name.replace("_", " "))
    partial = functools.partialmethod(lambda self, ending: self.method(ending))
    def with_ending(self, ending):
        self.ending = ending
        return self

class Made:
    @traced
    def __init__(self, ending): act(ending)

class New:
    @traced
    def __new__(cls, ending):
        return act(ending)

class Meta(type):
    @traced
    def of_meta(cls, ending): return act(ending)
    @traced
    def __call__(cls, ending): return act(ending)

class OfMeta(metaclass=Meta): pass

class Slots:
    __slots__ = ("a", "tracer")
    @traced
    def slotted(self, ending): return act(ending)

@dataclasses.dataclass(frozen=True, slots=True)
class Data:
    a: int = 1
    @traced
    def of_data(self, ending): return act(ending)

@dataclasses.dataclass
class Post:
    ending: str
    @traced
    def __post_init__(self): act(self.ending)

class Pair(typing.NamedTuple):
    a: int = 1
    @traced
    def of_tuple(self, ending): return act(ending)

class Color(enum.Enum):
    RED = 1
    @traced
    def of_enum(self, ending): return act(ending)
    @classmethod
    @traced
    def of_enum_class(cls, ending): return act(ending)

class Abstract(abc.ABC):
    @abc.abstractmethod
    @traced
    def abstract(self, ending): return act(ending)

class Concrete(Abstract):
    def abstract(self, ending): return super().abstract(ending)

@typing.runtime_checkable
class Runs(typing.Protocol):
    @traced
    def of_protocol(self, ending): return act(ending)

class Running(Runs): pass

class Generic(typing.Generic[typing.TypeVar("T")]):
    @traced
    def of_generic(self, ending): return act(ending)

class Reader:
    @traced
    def __get__(self, instance, owner=None):
        return act(owner.ending)
    @traced
    def __set__(self, instance, ending): act(ending)

class Read:
    reader = Reader()

def read(ending):
    Read.ending = ending
    return Read.reader

def write(ending):
    Read().reader = ending

def deleted(job):
    del job.size

def written(job, ending):
    job.size = ending

bound = Job().method
unbound = Job.method
half = functools.partial(many, 1, b=2)

CALLS = {
    "function": (lambda e: function(e), "shop"),
    "many": (lambda e: many(0, e, 1, 2, b=3, c=4), "shop"),
    "named_lambda": (lambda e: named_lambda(e), "shop"),
    "cell": (lambda e: cell(e), "shop"),
    "tries": (lambda e: tries(e), "shop"),
    "wrapped": (lambda e: wrapped(e), "shop"),
    "below": (lambda e: below(e), "shop"),
    "closure": (lambda e: closure(e), "shop"),
    "generic": (lambda e: generic(e), "shop"),
    "managed": (lambda e: managed(e), "shop"),
    "many, by a partial": (lambda e: half(e), "shop"),
    "function, by map": (lambda e: next(map(function, [e])), "shop"),
    "function, by star": (lambda e: function(*[e], **{}), "shop"),
    "function, by sorted": (lambda e: sorted([e], key=function)[0], "shop"),
    "method": (lambda e: Job().method(e), "Job"),
    "method, of the class": (lambda e: Job.method(Job(), e), "Job"),
    "method, bound before": (lambda e: bound(e), "Job"),
    "method, by a partial": (lambda e: Job().partial(e), "Job"),
    "method, by map": (lambda e: next(map(bound, [e])), "Job"),
    "static": (lambda e: Job.static(e), "Job"),
    "of_class": (lambda e: Job().of_class(e), "Job"),
    "size": (lambda e: Job().with_ending(e).size, "Job"),
    "size, set": (lambda e: written(Job(), e), "Job"),
    "size, deleted": (lambda e: deleted(Job().with_ending(e)), "Job"),
    "computed": (lambda e: Job().with_ending(e).computed, "Job"),
    "inherited": (lambda e: Job().inherited(e), "Job"),
    "__call__": (lambda e: Job()(e), "Job"),
    "__enter__": (lambda e: Job().with_ending(e).__class__.__enter__(Job().with_ending(e)), "Job"),
    "__getitem__": (lambda e: Job()[e], "Job"),
    "__add__": (lambda e: Job() + e, "Job"),
    "__bool__": (lambda e: bool(Job().with_ending(e)), "Job"),
    "__iter__": (lambda e: list(Job().with_ending(e)), "Job"),
    "__getattr__": (lambda e: getattr(Job(), e.replace(" ", "_")), "Job"),
    "__init__": (lambda e: Made(e), "Made"),
    "__new__": (lambda e: New(e), "New"),
    "of_meta": (lambda e: OfMeta.of_meta(e), "Meta"),
    "__call__, of a metaclass": (lambda e: OfMeta(e), "Meta"),
    "slotted": (lambda e: Slots().slotted(e), "Slots"),
    "of_data": (lambda e: Data().of_data(e), "Data"),
    "__post_init__": (lambda e: Post(e), "Post"),
    "of_tuple": (lambda e: Pair().of_tuple(e), "Pair"),
    "of_enum": (lambda e: Color.RED.of_enum(e), "Color"),
    "of_enum_class": (lambda e: Color.of_enum_class(e), "Color"),
    "abstract": (lambda e: Concrete().abstract(e), "Concrete"),
    "of_protocol": (lambda e: Running().of_protocol(e), "Running"),
    "of_generic": (lambda e: Generic[int]().of_generic(e), "Generic"),
    "__get__": (lambda e: read(e), "Reader"),
    "__set__": (lambda e: write(e), "Reader"),
}

def call(kind, ending):
    return CALLS[kind][0](ending)
'''

STEPPED = '''
import asyncio, contextlib, functools, sys, types

ERRORS = {"raises": LookupError, "expected": KeyError, "cancelled": asyncio.CancelledError}
started = 0

def begin():
    global started
    started += 1

def finish(ending):
    if ending in ERRORS:
        raise ERRORS[ending]("text")
    return "value"

@types.coroutine
def pause():
    yield "paused"

@traced
def generator(ending):
    begin()
    yield 1
    yield 2
    return finish(ending)

@traced
def guarded(ending):
    begin()
    try:
        yield 1
        yield 2
        return finish(ending)
    finally:
        len("")

@traced
def managed(ending):
    begin()
    with contextlib.nullcontext():
        yield 1
        yield 2
    return finish(ending)

@traced
def delegating(ending):
    begin()
    return (yield from plain(ending))

def plain(ending):
    yield 1
    yield 2
    return finish(ending)

@traced
def of_lists(ending):
    begin()
    yield from [1, 2]
    return finish(ending)

@traced
def looping(ending):
    begin()
    for number in range(1, 3):
        yield number
    return finish(ending)

steps_lambda = lambda ending: [begin(), (yield 1), (yield 2), finish(ending)][3]
steps_lambda.__qualname__ = steps_lambda.__name__ = "steps_lambda"
steps_lambda = traced(steps_lambda)

@types.coroutine
@traced
def old_style(ending):
    begin()
    yield 1
    yield 2
    return finish(ending)

class Job:
    @traced
    def method(self, ending):
        begin()
        yield 1
        yield 2
        return finish(ending)

    @staticmethod
    @traced
    def static(ending):
        begin()
        yield 1
        yield 2
        return finish(ending)

    @classmethod
    @traced
    def of_class(cls, ending):
        begin()
        yield 1
        yield 2
        return finish(ending)

    @traced
    def __iter__(self):
        begin()
        yield 1
        yield 2
        return finish(self.ending)

    @traced
    def __await__(self):
        begin()
        yield 1
        yield 2
        return finish(self.ending)

    @traced
    async def waits(self, ending):
        begin()
        await pause()
        await pause()
        return finish(ending)

    @classmethod
    @traced
    async def waits_of_class(cls, ending):
        begin()
        await pause()
        await pause()
        return finish(ending)

    @staticmethod
    @traced
    async def waits_static(ending):
        begin()
        await pause()
        await pause()
        return finish(ending)

    @traced
    async def __aenter__(self):
        begin()
        await pause()
        await pause()
        return finish(self.ending)

    @traced
    async def asteps(self, ending):
        begin()
        yield 1
        await pause()
        yield 2
        finish(ending)

    def with_ending(self, ending):
        self.ending = ending
        return self

@traced
async def coroutine(ending):
    begin()
    await pause()
    await pause()
    return finish(ending)

@traced
async def guarded_coroutine(ending):
    begin()
    try:
        async with contextlib.nullcontext():
            await pause()
            await pause()
        return finish(ending)
    finally:
        len("")

@traced
async def awaiting(ending):
    begin()
    return await untraced(ending)

async def untraced(ending):
    await pause()
    await pause()
    return finish(ending)

@traced
async def agenerator(ending):
    begin()
    yield 1
    yield 2
    finish(ending)

@traced
async def apausing(ending):
    begin()
    await pause()
    yield 1
    await pause()
    yield 2
    await pause()
    finish(ending)

@traced
async def aguarded(ending):
    begin()
    try:
        yield 1
        await pause()
        yield 2
        finish(ending)
    finally:
        len("")

CALLS = {
    "generator": (lambda e: generator(e), "shop"),
    "guarded": (lambda e: guarded(e), "shop"),
    "managed": (lambda e: managed(e), "shop"),
    "delegating": (lambda e: delegating(e), "shop"),
    "of_lists": (lambda e: of_lists(e), "shop"),
    "looping": (lambda e: looping(e), "shop"),
    "steps_lambda": (lambda e: steps_lambda(e), "shop"),
    "old_style": (lambda e: old_style(e), "shop"),
    "method": (lambda e: Job().method(e), "Job"),
    "static": (lambda e: Job.static(e), "Job"),
    "of_class": (lambda e: Job.of_class(e), "Job"),
    "__iter__": (lambda e: iter(Job().with_ending(e)), "Job"),
    "__await__": (lambda e: Job().with_ending(e).__await__(), "Job"),
    "coroutine": (lambda e: coroutine(e), "shop"),
    "guarded_coroutine": (lambda e: guarded_coroutine(e), "shop"),
    "awaiting": (lambda e: awaiting(e), "shop"),
    "waits": (lambda e: Job().waits(e), "Job"),
    "waits_of_class": (lambda e: Job.waits_of_class(e), "Job"),
    "waits_static": (lambda e: Job.waits_static(e), "Job"),
    "__aenter__": (lambda e: Job().with_ending(e).__aenter__(), "Job"),
    "asteps": (lambda e: Job().asteps(e), "Job"),
    "agenerator": (lambda e: agenerator(e), "shop"),
    "apausing": (lambda e: apausing(e), "shop"),
    "aguarded": (lambda e: aguarded(e), "shop"),
}

class Steps:
    """Steps of a generator, coroutine or asynchronous generator, driven alike."""

    def __init__(self, running):
        self.running = running
        self.prefix = "a" if hasattr(running, "asend") else ""

    def _do(self, name, *args):
        result = getattr(self.running, self.prefix + name)(*args)
        if not self.prefix:
            return result
        while True:
            try:
                result.send(None)
            except StopIteration as stop:
                return stop.value

    def step(self):
        try:
            return self._do("send", None)
        except (StopIteration, StopAsyncIteration):
            return None

    def throw(self, error):
        return self._do("throw", error)

    def close(self):
        if self.running is not None:
            self._do("close")
        # This one sends no event of some generators that are closed: they end as they are freed.
        if sys.version_info[:2] == (3, 13):
            self.running = None

    def exhaust(self):
        while self.step() in (1, 2, "paused"):
            pass

def call(kind, ending):
    return Steps(CALLS[kind][0](ending))
'''
