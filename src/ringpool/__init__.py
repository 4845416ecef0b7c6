"""A process pool whose tasks and results travel through shared memory.

`ProcessPoolExecutor` stands in for `concurrent.futures.ProcessPoolExecutor`: the same names, defaults and behaviour, at
about a hundredth of the cost a task.
"""

import sys

try:
    # What the core imports is named here too, for tools that look for imports and cannot see those of compiled code.
    from ringpool import _core, functions  # noqa: F401
except ImportError as error:
    # CPython says the one, Cython the other.
    if "subinterpreters" in str(error) or "Interpreter change" in str(error):
        raise ImportError(
            "ringpool cannot be imported here: its compiled core serves one interpreter of a process, and this is a "
            "subinterpreter, or a subinterpreter has imported it before. Import it in the main interpreter alone"
        ) from error
    if error.name != "ringpool._core" and "_core" not in str(error):
        raise
    raise ImportError(
        "ringpool has no compiled core here: it serves CPython 3.11 and later on Linux (x86-64 and aarch64), "
        f"and this is {sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor} on {sys.platform}"
    ) from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ringpool import pickling, session  # noqa: F401  # by the core, seldom: so that tools that freeze programs see them
    from ringpool._core import Shared
    from ringpool.errors import RemoteError, TaskTimeout, WorkerDied
    from ringpool.executor import ProcessPoolExecutor
    from ringpool.future import Future

__version__ = "0.1.0"
__all__ = ["Future", "ProcessPoolExecutor", "RemoteError", "Shared", "TaskTimeout", "WorkerDied", "__version__"]

# Imported when first asked for: a worker that starts afresh imports this package too, and needs none of them.
_HOMES = {
    "Future": "future",
    "ProcessPoolExecutor": "executor",
    "RemoteError": "errors",
    "Shared": "_core",
    "TaskTimeout": "errors",
    "WorkerDied": "errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(__import__(f"ringpool.{_HOMES[name]}", fromlist=[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
