"""Packages whose own tests are run while all of the package is traced."""

from __future__ import annotations

import platform
from dataclasses import dataclass

PYTEST = "pytest==9.2.0"


@dataclass(frozen=True)
class Package:
    """A package in the registry, and how its tests are run."""

    name: str
    version: str
    patterns: tuple[str, ...]
    """What is traced."""
    needs: tuple[str, ...] = (PYTEST,)
    """What the tests need besides the package."""
    arguments: tuple[str, ...] = ()
    """For the runner: which tests, and options."""
    exclude: tuple[str, ...] = ()
    """Modules of the package that are not traced, as they are tests."""
    runner: str = "pytest"
    """Or `unittest`, or a module or script of the package that uses unittest."""
    extras: str = ""
    """Of the package, which the tests need."""
    folder: str = "."
    """Where they run, from the top of the sources."""
    leave_out: tuple[str, ...] = ()
    """Files of the sources that would hide what is installed."""
    limit: float = 900
    """Seconds that a run takes at the most."""

    @property
    def is_stdlib(self) -> bool:
        """Whether it comes with Python."""
        return self.name == "CPython"

    @property
    def requirements(self) -> list[str]:
        """What pip installs for it."""
        extras = f"[{self.extras}]" if self.extras else ""
        return [f"{self.name}{extras}=={self.version}", *self.needs]


def _each(form: str, names: str) -> tuple[str, ...]:
    """Return a form filled with each of some names, which have spaces between them."""
    return tuple(form.format(name) for name in names.split())


PLUGGY = Package("pluggy", "1.7.0", ("pluggy.**",), arguments=("testing", "-p", "no:benchmark"))
BOLTONS = Package("boltons", "26.2.0", ("boltons.**",), arguments=("tests",))
TOOLZ = Package(
    "toolz",
    "1.2.0",
    ("toolz.**",),
    arguments=("toolz", "--doctest-modules"),
    exclude=("toolz.tests.**", "toolz.sandbox.tests.**"),
)

SMALL = (PLUGGY, BOLTONS, TOOLZ)
"""Those that run in every test run."""

JINJA2 = Package(
    "jinja2", "3.1.6", ("jinja2.**",), needs=(PYTEST, "trio==0.34.0"), arguments=("tests",)
)
WERKZEUG = Package(
    "werkzeug",
    "3.1.9",
    ("werkzeug.**",),
    needs=(
        PYTEST,
        "cffi",
        "cryptography",
        "ephemeral-port-reserve",
        "pytest-timeout",
        "watchdog",
    ),
    arguments=("tests", "-m", "not dev_server"),
)
TORNADO = Package(
    "tornado",
    "6.6.1",
    ("tornado.**",),
    needs=(),
    arguments=_each(
        "tornado.test.{}_test",
        "asyncio concurrent escape gen httpserver httputil ioloop iostream locale locks log"
        " options queues routing simple_httpclient tcpserver template testing util web"
        " websocket wsgi",
    ),
    exclude=("tornado.test.**",),
    runner="tornado.test.runtests",
    leave_out=("tornado",),  # without its compiled part
)
ANYIO = Package(
    "anyio",
    "4.16.0",
    ("anyio.**",),
    needs=(
        PYTEST,
        "blockbuster",
        "hypothesis",
        "psutil",
        "pytest-mock",
        "pytest-timeout",
        "trustme",
        "truststore",
        "uvloop",
    ),
    arguments=(
        "tests/streams",
        *_each(
            "tests/test_{}.py",
            "all_attributes concurrency_utils contextmanagers debugging from_thread functools"
            " futures itertools lazyimport lowlevel synchronization taskgroups to_thread"
            " typedattr",
        ),
        "-k",
        "not uvloop",
    ),
    extras="trio",
)
CLICK = Package("click", "8.5.1", ("click.**",), arguments=("tests",))
FLASK = Package(
    "flask",
    "3.1.3",
    ("flask.**",),
    needs=("pytest==8.4.2", "asgiref", "greenlet", "python-dotenv"),
    arguments=("tests",),
)
MARSHMALLOW = Package(
    "marshmallow",
    "4.4.0",
    ("marshmallow.**",),
    needs=(PYTEST, "simplejson"),
    arguments=("tests", "--ignore=tests/mypy_test_cases"),
)
KOMBU = Package(
    "kombu",
    "5.7.0",
    ("kombu.**",),
    needs=(PYTEST, "Pyro4", "hypothesis<7", "pytest-freezer", "redis"),
    arguments=(
        "t/unit",
        "--ignore=t/unit/asynchronous/aws",
        "--ignore=t/unit/transport/SQS",
        "--ignore=t/unit/transport/test_azurestoragequeues.py",
        "--ignore=t/unit/transport/test_gcpubsub.py",
    ),
)
STARLETTE = Package(
    "starlette",
    "1.10.0",
    ("starlette.**",),
    needs=(PYTEST, "blockbuster", "httpx2[zstd]>=2", "opentelemetry-sdk", "trio"),
    arguments=("tests",),
    extras="full",
)
PACKAGING = Package(
    "packaging",
    "26.4",
    ("packaging.**",),
    needs=(PYTEST, "hypothesis", "pip", "pretend", "tomli_w"),
    arguments=_each(
        "tests/test_{}.py",
        "dependency_groups direct_url elffile errors licenses manylinux markers metadata musllinux"
        " pylock pylock_select requirements tags tokenizer utils",
    ),
)
MORE_ITERTOOLS = Package("more-itertools", "11.2.1", ("more_itertools.**",), arguments=("tests",))
NETWORKX = Package(
    "networkx",
    "3.6.1",
    ("networkx.**",),
    arguments=(
        "networkx/algorithms/tests",
        "networkx/classes",
        "networkx/generators",
        "networkx/utils",
    ),
    exclude=("networkx.**.tests.**",),
)
CATTRS = Package(
    "cattrs",
    "26.2.1",
    ("cattrs.**", "cattr.**"),
    needs=(PYTEST, "hypothesis", "immutables", "pytest-benchmark", "pytest-xdist"),
    arguments=(
        *_each(
            "tests/test_{}.py",
            "any baseconverter cols converter_inheritance copy dataclasses defaultdicts"
            " disambiguators enums errors factory_hooks final function_dispatch gen"
            " gen_dict_563 generics generics_604 generics_nested helpers literals newtypes"
            " optionals recursive self structure tuples tuples_563 unions v validation",
        ),
        "tests/strategies",
        "--hypothesis-seed=1",
    ),
)

TRIED_BEFORE = (
    JINJA2,
    WERKZEUG,
    PLUGGY,
    BOLTONS,
    TORNADO,
    ANYIO,
    CLICK,
    FLASK,
    MARSHMALLOW,
    KOMBU,
    STARLETTE,
    PACKAGING,
    MORE_ITERTOOLS,
    TOOLZ,
    NETWORKX,
    CATTRS,
)

SQLALCHEMY = Package(
    "sqlalchemy",
    "2.1.9",
    ("sqlalchemy.**",),
    arguments=(
        "test/base",
        "test/engine",
        "test/orm/test_query.py",
        "test/orm/test_session.py",
        "test/sql/test_compiler.py",
        "test/sql/test_selectable.py",
        "--maxfail=0",
        "-q",
    ),
    exclude=("sqlalchemy.testing.**",),
    extras="asyncio,aiosqlite",
)
DJANGO = Package(
    "django",
    "5.2.19",
    ("django.**",),
    needs=("jinja2", "tblib", "tzdata"),
    arguments=(
        "--parallel=1",
        *_each(
            "{}",
            "admin_utils aggregation basic cache contenttypes_tests dispatch expressions"
            " forms_tests generic_views handlers i18n logging_tests lookup many_to_many middleware"
            " migrations model_fields model_forms ordering queries requests_tests responses"
            " serializers sessions_tests signals template_tests test_client urlpatterns"
            " urlpatterns_reverse user_commands utils_tests validation view_tests",
        ),
    ),
    runner="runtests.py",
    folder="tests",
    limit=1_800,
)
PYDANTIC = Package(
    "pydantic",
    "2.14.4",
    ("pydantic.**",),
    needs=(
        PYTEST,
        "dirty-equals",
        "faker",
        "jsonschema",
        "pytest-benchmark",
        "pytest-examples",
        "pytest-mock",
        "pytest-run-parallel",
        "pytz",
    ),
    arguments=_each(
        "tests/test_{}.py",
        "aliases annotated callable computed_fields config construction create_model dataclasses"
        " edge_cases errors fields forward_ref generics internal main model_signature"
        " model_validator plugins private_attributes rich_repr root_model serialize type_adapter"
        " typing utils validate_call validators warnings",
    ),
    extras="email",
)
AIOHTTP = Package(
    "aiohttp",
    "3.14.5",
    ("aiohttp.**",),
    needs=(
        PYTEST,
        "blockbuster",
        "coverage",
        "freezegun",
        "isal; python_version < '3.14'",
        "proxy.py>=2.4.4rc5",
        "pytest-mock",
        "pytest-timeout",
        "pytest-xdist",
        "pytest_codspeed",
        "python-on-whales",
        "trustme",
        "zlib_ng",
    ),
    arguments=(
        *_each(
            "tests/test_{}.py",
            "client_request client_response client_session connector cookiejar formdata helpers"
            " http_parser http_writer multipart payload resolver streams tracing urldispatch"
            " web_app web_exceptions web_functional web_middleware web_protocol web_request"
            " web_response web_runner web_server web_urldispatcher web_websocket"
            " websocket_handshake",
        ),
        "-o",
        "addopts=",
        "-m",
        "not dev_mode and not autobahn and not internal",
    ),
    leave_out=("aiohttp",),  # without its compiled part
)
HTTPX = Package(
    "httpx",
    "0.28.1",
    ("httpx.**",),
    needs=("chardet==5.2.0", "pytest==8.3.4", "trio", "trustme", "uvicorn"),
    arguments=("tests", "-W", "default"),
    extras="brotli,cli,http2,socks,zstd",
)
ATTRS = Package(
    "attrs",
    "26.1.0",
    ("attr.**", "attrs.**"),
    needs=(PYTEST, "cloudpickle", "hypothesis", "pympler", "pytest-xdist"),
    arguments=("tests", "--hypothesis-seed=1"),
)
STRUCTLOG = Package(
    "structlog",
    "26.1.0",
    ("structlog.**",),
    needs=(PYTEST, "freezegun", "pretend", "pytest-asyncio", "time-machine"),
    arguments=("tests",),
)
PYTEST_ITSELF = Package(
    "pytest",
    "9.2.0",
    ("_pytest.**", "pytest.**"),
    needs=("attrs", "hypothesis", "mock", "requests", "setuptools", "xmlschema"),
    arguments=(
        "testing/_py",
        "testing/code",
        "testing/io",
        *_each("testing/python/{}.py", "approx metafunc raises"),
        *_each(
            "testing/test_{}.py",
            "assertion compat mark monkeypatch nodes parseopt pathlib recwarn reports runner"
            " skipping stash warnings",
        ),
    ),
    limit=1_800,
)

MORE = (SQLALCHEMY, DJANGO, PYDANTIC, AIOHTTP, HTTPX, ATTRS, STRUCTLOG, PYTEST_ITSELF)

CPYTHON = Package(
    "CPython",
    platform.python_version(),
    _each(
        "{}",
        "argparse collections configparser contextlib copy csv dataclasses difflib enum fnmatch"
        " fractions functools graphlib json.** optparse pprint reprlib shlex string textwrap"
        " urllib.parse",
    ),
    needs=(),
    arguments=_each(
        "test.test_{}",
        "argparse collections configparser contextlib contextlib_async copy csv dataclasses"
        " difflib enum fnmatch fractions functools graphlib json optparse pprint reprlib shlex"
        " string textwrap urlparse",
    ),
    runner="unittest",
)
"""Modules of the standard library, with the tests of CPython where they are installed."""

EVERY = (CPYTHON, *TRIED_BEFORE, *MORE)
