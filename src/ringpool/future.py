"""The future of a task: the stdlib's class by inheritance, the core's by method."""

from __future__ import annotations

import concurrent.futures

from ringpool import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")
else:
    _T = object  # what stands in brackets means nothing at run time


class Future(_core.FutureBase, concurrent.futures.Future[_T]):
    """The future of a task of ringpool: a concurrent.futures.Future whose state is kept in C.

    It is made by ``submit``. Everything that works with the stdlib's futures works with it: ``concurrent.futures.wait``
    and ``as_completed``, ``asyncio.wrap_future``, callbacks.
    """

    __module__ = "ringpool"


_core.set_future_type(Future)
