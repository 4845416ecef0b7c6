"""How a worker binds what it was sent of its parent's interactive ``__main__``, and finds it again.

Pickles for workers name functions of this module, and results of workers go by `ResultScope`. So of the three modules
that know sessions a worker imports this one only; `session` decides what is sent, and when.

It guarantees that each global of a task is bound, when the task starts, to what it was in the parent at the submit,
unless an earlier task has rebound it since the worker got it. It does not keep tasks apart: all tasks of a worker share
its ``__main__``.
"""

from __future__ import annotations

import functools
import os
import sys
import types

from ringpool.functions import MISSING, Callee

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is the largest import a new worker would have
    from typing import Any

    # Number of a group, the names of it that a task needs, and what gives its contents. 0 and None: what was forked.
    Need = tuple[int, tuple[str, ...], Any]

# Of a class: what Python stores there by itself, at times that mean nothing.
NOT_CONTENTS = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__slotnames__",
        "__abstractmethods__",
        "_abc_impl",
        "__annotate_func__",
        "__annotations_cache__",
        "__static_attributes__",
        "__firstlineno__",
        "_value2member_map_",
    }
)

_STAY = NOT_CONTENTS | {"__module__", "__doc__"}  # these cannot be deleted


def main_namespace() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


def name_in(namespace: dict[str, Any], obj: Any) -> str | None:
    """The dotted name by which the object is found in ``__main__``, or None."""
    if getattr(obj, "__module__", None) != "__main__":
        return None
    name = getattr(obj, "__qualname__", None)
    if type(name) is not str or "<" in name:
        return None
    root, *rest = name.split(".")
    found = namespace.get(root, MISSING)
    for part in rest:
        found = getattr(found, part, MISSING)
    return name if found is obj else None


class Scope:
    """How a pickle treats what belongs to ``__main__``."""

    def __init__(self) -> None:
        self.namespace = main_namespace()

    def reduce(self, obj: Any) -> tuple[Any, ...] | None:
        """How to reduce a function or class; None if it goes by value. Asks for the type of each object, since
        isinstance() would run a property called __class__."""
        raise NotImplementedError

    def needs(self, fn: types.FunctionType) -> tuple[Need, ...]:
        """The globals that a function needs if it goes by value."""
        return ()

    def function(self, reduced: tuple[Any, ...], fn: types.FunctionType) -> tuple[Any, ...]:
        """Makes a function by value as cloudpickle does, but over the receiver's ``__main__``."""
        _, (code, _, _, _, closure), (state, slots), *_ = reduced
        slots["__globals__"] = {}
        return _function_here, (code, closure, self.needs(fn)), (state, slots), None, None, _set_function


class ResultScope(Scope):
    """The scope of results: classes that the worker has from its parent are sent as the parent's."""

    def reduce(self, obj: Any) -> tuple[Any, ...] | None:
        if issubclass(type(obj), type) and _classes:
            from cloudpickle import cloudpickle

            number = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(obj)
            if number in _classes:
                return _class_here, (number,)
        return None


sent_classes: set[str] = set()  # numbers, as cloudpickle has them, of classes that workers of this process have from it
_classes: set[str] = set()  # of those that this process has from its parent
_applied: dict[str, int] = {}  # name -> the group of what it was last bound to for the parent
_of_fork: dict[str, Any] = {}  # name -> what it was before the first of these
_changes = 0


def _forget() -> None:
    """In a forked process: if it becomes a worker, its parent has sent it nothing yet."""
    _classes.update(sent_classes)
    _applied.clear()
    _of_fork.clear()


os.register_at_fork(after_in_child=_forget)


def settle(needs: tuple[Need, ...]) -> None:
    """Binds the globals that a task needs as they were in the parent at its submit. Globals that this process has in
    that version stay as its tasks have left them."""
    global _wanted
    for number, names, load in needs:
        wanted = {name for name in names if _applied.get(name, 0) != number}
        if not wanted:
            continue
        if number == 0:
            for name in wanted:
                _bind(name, _of_fork[name], 0)
            continue
        before, _wanted = _wanted, wanted
        try:
            _, gone, classes = load()  # which binds
            _classes.update(classes)
            for name in gone:
                bind_here(name, MISSING, number)
        finally:
            _wanted = before


_wanted: set[str] = set()  # names that the group must bind that is being unpickled


def bind_here(name: str, value: Any, number: int) -> None:
    # Names that are not needed now are bound too if they are older: they may share objects with those that are.
    if name in _wanted or _applied.get(name, 0) < number:
        _bind(name, value, number)


def _bind(name: str, value: Any, number: int) -> None:
    global _changes
    namespace = main_namespace()
    _of_fork.setdefault(name, namespace.get(name, MISSING))
    if value is MISSING:
        namespace.pop(name, None)
    else:
        namespace[name] = value
    _applied[name] = number
    _changes += 1


def resolve(callee: Callee) -> Any:
    """The function, ready to be called."""
    if callee.settled != _changes:
        settle(callee.needs)
        callee.settled = _changes
    return callee.fn if callee.name is None else _find(callee.name)


def _find(name: str) -> Any:
    found: Any = sys.modules["__main__"]
    for part in name.split("."):
        found = getattr(found, part)
    return found


def bound_here(name: str, needs: tuple[Need, ...]) -> Any:
    """In a pickle: an object that is found by its name."""
    settle(needs)
    return _find(name)


def _class_here(number: str) -> type:
    """In a result: a class that the worker has from this process."""
    from cloudpickle import cloudpickle

    cls: type | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(number)
    if cls is None:
        raise RuntimeError(
            "the class of a result has been redefined in this program, and the pool that the old class was sent to has "
            "been deleted"
        )
    return cls


def _function_here(
    code: types.CodeType, closure: tuple[types.CellType, ...] | None, needs: tuple[Need, ...]
) -> types.FunctionType:
    """In a pickle: a function by value, over this process's ``__main__``."""
    settle(needs)
    return types.FunctionType(code, main_namespace(), None, None, closure)


def _set_function(fn: types.FunctionType, state: Any) -> None:
    from cloudpickle import cloudpickle

    builtins = fn.__globals__.get("__builtins__")
    cloudpickle._function_setstate(fn, state)
    if builtins is not None:
        fn.__globals__["__builtins__"] = builtins


def cached(fn: Any, parameters: dict[str, Any]) -> Any:
    """In a pickle: what `functools.lru_cache` makes of a function."""
    return functools.lru_cache(**parameters)(fn)


def cached_property(fn: Any, name: str | None) -> Any:
    """In a pickle: what `functools.cached_property` makes of a function."""
    made: functools.cached_property[Any] = functools.cached_property(fn)
    made.attrname = name
    return made


def set_class(cls: type, state: Any) -> None:
    from cloudpickle import cloudpickle

    if not isinstance(vars(cls).get("_member_map_"), dict):  # an enumeration makes its attributes from its members
        for name, value in list(vars(cls).items()):
            if name not in state[0] and name not in _STAY and type(value) is not types.MemberDescriptorType:
                delattr(cls, name)
    cloudpickle._class_setstate(cls, state)
