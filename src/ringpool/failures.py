"""What a pool raises when it takes no more tasks, and what its pending futures raise when it breaks.

Guarantees: each future gets an exception of its own, since a traceback grows wherever its exception is raised. Texts
begin with the stdlib's own words, for programs that look for them. Does not: import `errors`, which takes long, before
there is something to say.
"""

from __future__ import annotations

from ringpool import pickling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ringpool.errors import BrokenProcessPool

# How the stdlib begins to say that a pool is broken: to pending futures, and to later submits.
_LOST = "A process in the process pool was terminated abruptly while the future was running or pending."
_UNUSABLE = "A child process terminated abruptly, the process pool is not usable anymore"


class Breakage:
    """Why a pool is broken.

    Args:
        why: The beginning of a sentence.
        cause: The exception that says more. (It may be the user's.)

    Attributes:
        text: What the pool says of itself.
    """

    def __init__(self, why: str, cause: BaseException) -> None:
        from ringpool.errors import BrokenProcessPool

        self._kind = BrokenProcessPool
        self._why = f"{why}: {pickling.text_of(cause)}"
        self._cause = cause
        self.text = f"{_UNUSABLE}. {self._why}"

    def loss(self) -> BrokenProcessPool:
        """Makes what a pending future raises."""
        return self._error(_LOST)

    def refusal(self) -> BrokenProcessPool:
        """Makes what a later submit raises."""
        return self._error(f"{_UNUSABLE}.")

    def _error(self, words: str) -> BrokenProcessPool:
        error = self._kind(f"{words} {self._why}")
        error.__cause__ = self._cause
        return error


def explained(error: Exception, call: str | None = None) -> Exception:
    """See `refusals.explained`."""
    try:
        from ringpool import refusals
    except (ImportError, OSError):  # no descriptor is left, and then that is what the error says
        return error
    return refusals.explained(error, call)


def refuse() -> RuntimeError:
    return RuntimeError("cannot schedule new futures after shutdown")


def another(error: BaseException) -> BaseException:
    """An exception like this one, for a future of its own."""
    try:
        import copy

        again = copy.copy(error)
    except Exception:  # of the user's class
        return error
    if type(again) is not type(error):
        return error
    again.__cause__ = error
    return again


def refuse_ended(how: str) -> BrokenProcessPool:
    from ringpool.errors import BrokenProcessPool

    return BrokenProcessPool(f"{_UNUSABLE}: {how}() has ended its workers")


def refuse_at_exit() -> RuntimeError:
    return RuntimeError("cannot schedule new futures after interpreter shutdown")
