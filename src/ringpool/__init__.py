"""A process pool whose tasks and results travel through shared memory.

`ProcessPoolExecutor` stands in for `concurrent.futures.ProcessPoolExecutor`: the same names, defaults and behaviour, at
about a hundredth of the cost a task.
"""

import sys

try:
    from ringpool._core import Future
except ModuleNotFoundError as error:
    if error.name != "ringpool._core":
        raise
    raise ImportError(
        "ringpool has no compiled core here: it serves CPython 3.11 and later on Linux (x86-64 and aarch64), "
        f"and this is {sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor} on {sys.platform}"
    ) from error

from ringpool.errors import WorkerDied
from ringpool.executor import ProcessPoolExecutor

__version__ = "0.1.0"
__all__ = ["Future", "ProcessPoolExecutor", "WorkerDied", "__version__"]
