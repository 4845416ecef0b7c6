"""Which functions travel by name, which by value, and when the bytes of one may be used again.

A function that workers can import is pickled by reference: its module and name. Any other function (a lambda, a
closure, a function of an interactive ``__main__``) is pickled by value, with all that it refers to. Its bytes stay
valid only while none of that is rebound; `fingerprint` tells whether it was.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import sys
import types
from collections.abc import Callable, Mapping
from multiprocessing import process
from multiprocessing.reduction import ForkingPickler

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is the largest import a new worker would have
    from collections.abc import Callable
    from typing import Any

# Types of values that cannot change in place: the same object is the same value.
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), range})

MISSING = object()

_LazyImport: Any = getattr(types, "LazyImportType", None)  # of Python 3.15: what `lazy import` binds until it is used
_start_afresh = False  # whether some worker of this process is not forked


def expect_fresh_workers() -> None:
    """Must be called before anything is pickled for workers that are not forked."""
    global _start_afresh
    _start_afresh = True


def main_is_importable() -> bool:
    """Whether workers find by name what this process's ``__main__`` defines.

    Those that start afresh find what ``multiprocessing.spawn`` runs again: a module by its name, but not the
    ``__main__`` of a package, a folder or an archive; or else a file, which must be there. An interactive session,
    ``python -c``, ``python -`` and a notebook are none of these.
    """
    main = sys.modules.get("__main__")
    if main is None:
        return False
    spec = getattr(main, "__spec__", None)
    name = getattr(spec, "name", None)
    if name is not None:
        return not (_start_afresh and f".{name}".endswith(".__main__"))
    file = getattr(main, "__file__", None)
    if not isinstance(file, str):
        return False
    return _can_be_run(file) if _start_afresh else not file.startswith("<")


@functools.lru_cache
def _can_be_run(file: str) -> bool:
    # In programs of PyInstaller and of Nuitka the file is within the executable, which each worker runs.
    if getattr(sys, "frozen", False) or hasattr(sys.modules["__main__"], "__compiled__"):
        return True
    if os.path.splitext(os.path.basename(file))[0] == "ipython":
        return False
    return os.path.isfile(os.path.join(process.ORIGINAL_DIR or "", file))  # type: ignore[attr-defined]


def explain_missing(error: BaseException) -> None:
    """Adds to the error that a worker's ``__main__`` lacks something why that may be. Such an error names the module as
    multiprocessing does where it has run the program's main file again."""
    text = error.args[0] if type(error) is AttributeError and error.args else None
    if isinstance(text, str) and "'__mp_main__'" in text:
        error.add_note(
            "The workers of this pool run the program's main file again. What is defined there under `if __name__ == "
            '"__main__":`, or by exec(), they do not have: define it at the top level of the file, or in a module, or '
            'use the "fork" start method.'
        )


def by_reference(obj: Any) -> bool:
    """Whether workers can find this function or class by its module and qualified name."""
    module = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return False
    if module == "__main__" and not main_is_importable():
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, MISSING)
    return found is obj


@functools.cache
def by_value_pickler() -> Any:
    """The class of picklers that send by value what cannot be imported: cloudpickle's, with the reducers that
    multiprocessing knows besides, and `reducers`, a dict, before all. A scope, or None, says what becomes of functions
    and classes of a session: see session.py."""
    import cloudpickle

    lazy = {_LazyImport: _reduce_lazy_import} if _LazyImport is not None else {}

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(self, file: Any, reducers: Mapping[type, Any], buffer_callback: Any, scope: Any) -> None:
            self.reducers = reducers
            self.scope = scope
            super().__init__(file, protocol=5, buffer_callback=buffer_callback)

        @property
        def dispatch_table(self) -> dict[Any, Any]:
            own = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
            return {**lazy, **cloudpickle.Pickler.dispatch_table, **own, **self.reducers}

        def reducer_override(self, obj: Any) -> Any:
            reduced = None if self.scope is None else self.scope.reduce(obj)
            if reduced is not None:
                return reduced
            # By the type: isinstance(), which cloudpickle asks, would run a property called __class__.
            if not issubclass(type(obj), (type, types.FunctionType)):
                return NotImplemented
            _import_home(obj)
            return super().reducer_override(obj)

        def _dynamic_function_reduce(self, fn: types.FunctionType) -> Any:
            reduced = super()._dynamic_function_reduce(fn)
            if self.scope is None or fn.__globals__ is not self.scope.namespace:
                return reduced
            return self.scope.function(reduced, fn)

    return Pickler


def _reduce_lazy_import(lazy: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Sends the module, which is imported here now, and in the worker when the function is decoded."""
    return operator.getitem, ((lazy.resolve(),), 0)


def _import_home(obj: Any) -> None:
    """Imports the module that a class or function names as its own, as pickle does to look the name up. Cloudpickle
    looks only at imported modules, and would send a copy of the class: numpy.rec, for example, is seldom imported."""
    module = getattr(obj, "__module__", None)
    if isinstance(module, str) and module not in sys.modules:
        with contextlib.suppress(Exception):
            __import__(module)


class Callee:
    """A function of a session, as its block holds it: see session.py, which is imported only where there is a session.

    Args:
        resolve: Returns the function of a Callee, at each call.
        name: Where the function is found in ``__main__``; None if `fn` is the function.
        fn: The function, if it has no such name.
        needs: The globals that it refers to.
    """

    def __init__(self, resolve: Callable[[Callee], Any], name: str | None, fn: Any, needs: tuple[Any, ...]) -> None:
        self.resolve = resolve
        self.name = name
        self.fn = fn
        self.needs = needs
        self.settled = -1  # how many changes had been bound in this process when `needs` were last bound


def fingerprint(fn: types.FunctionType, known: dict[str, Any] | None = None) -> list[Any] | None:
    """All objects whose identity decides what a function pickled by value does, in a fixed order.

    Two equal fingerprints (the same objects, compared with ``is``) mean that the pickle would come out the same.

    Args:
        fn: A function that is pickled by value.
        known: Globals that are left out, because the session looks at them itself.

    Returns:
        The objects, or None if the function refers to something that can change in place (a list, an instance, a class
        of ``__main__``): then its pickle must be made anew each time.
    """
    parts: list[Any] = []
    seen: set[int] = set()
    return parts if _visit_function(fn, parts, seen, known) else None


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether two fingerprints hold the same objects."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _visit_function(fn: types.FunctionType, parts: list[Any], seen: set[int], known: dict[str, Any] | None) -> bool:
    if id(fn) in seen:
        return True
    seen.add(id(fn))
    if fn.__dict__ or _annotated(fn):
        return False
    ours = fn.__globals__ is known
    if _keeps_state(fn.__code__, ("ATTR",) if ours else ("GLOBAL", "ATTR")):
        return False
    parts.append(fn.__code__)
    kwdefaults = fn.__kwdefaults__ or {}
    for value in (
        fn.__name__,
        fn.__qualname__,
        fn.__module__,
        fn.__doc__,
        fn.__defaults__ or (),
        *kwdefaults,
        *kwdefaults.values(),
    ):
        if not _visit(value, parts, seen, known):
            return False
    names = _names(fn.__code__)
    try:
        values = [cell.cell_contents for cell in fn.__closure__ or ()]
    except ValueError:  # one is empty so far
        return False
    if not ours:
        values += [fn.__globals__.get(name, MISSING) for name in names]
    for value in values:
        if type(value) is _LazyImport:
            try:
                value = value.resolve()  # as it is sent
            except Exception:  # which the pickler raises, too
                return False
        if isinstance(value, types.ModuleType) and hasattr(value, "__path__"):
            # cloudpickle sends along the submodules that the code may mean, if they are imported by now
            parts += [sys.modules.get(f"{value.__name__}.{name}") for name in names]
        if not _visit(value, parts, seen, known):
            return False
    return True


def _annotated(fn: types.FunctionType) -> bool:
    if hasattr(fn, "__annotate__"):  # 3.14: asking for __annotations__ would run code
        return fn.__annotate__ is not None
    return bool(fn.__annotations__)


def _visit(value: Any, parts: list[Any], seen: set[int], known: dict[str, Any] | None) -> bool:
    kind = type(value)
    if kind is tuple:
        parts.append(value)
        return all(_visit(item, parts, seen, known) for item in value)
    if kind is types.FunctionType and not by_reference(value):
        return _visit_function(value, parts, seen, known)
    if (
        value is not MISSING
        and kind not in ATOMS
        and not (kind is types.ModuleType and sys.modules.get(value.__name__) is value)
        and not (kind in (types.FunctionType, types.BuiltinFunctionType, type) and by_reference(value))
    ):
        return False
    parts.append(value)
    return True


@functools.lru_cache(maxsize=1024)
def _keeps_state(code: types.CodeType, places: tuple[str, ...]) -> bool:
    """Whether the code binds a variable of an enclosing function, or in one of these places: a global, an attribute.
    Then a task may leave something in its function, which the next task must not find, and each task gets a function
    of its own."""
    import dis

    for instruction in dis.get_instructions(code):
        kind, _, what = instruction.opname.partition("_")
        outer = what in places or (what == "DEREF" and instruction.argval in code.co_freevars)
        if outer and kind in ("STORE", "DELETE"):
            return True
    return any(_keeps_state(const, places) for const in code.co_consts if isinstance(const, types.CodeType))


def _names(code: types.CodeType) -> list[str]:
    """Names that the code, or code nested in it, may look up as globals (attribute names are among them)."""
    names = list(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names += _names(const)
    return names
