"""What a global of ``__main__`` is made of, so that a change in it is seen, also one in place.

`Look` goes through a value; `is_same` compares what two looks have found. A look goes into containers, functions and
what the session has defined; of a library's object it takes the attributes, and not what is in them. It asks for types
and for what is stored, not for attributes that a property computes.

It does not see everything: of a large value only the identity is compared (`ELEMENTS`, `CONTENT_BYTES`), and the state
that a C extension keeps inside its objects is not seen.
"""

from __future__ import annotations

import collections
import functools
import operator
import sys
import types
import weakref

from ringpool.functions import ATOMS, MISSING, by_reference
from ringpool.replay import NOT_CONTENTS, name_in

TYPE_CHECKING = False
if TYPE_CHECKING:  # as in all modules that workers may import
    from typing import Any

# Elements and attributes of one global that are looked at for changes in place, at each submit of a function that
# refers to it. Of a larger one only the identity is compared. Arbitrary: more is seen, but a submit takes longer.
ELEMENTS = 10_000
CONTENT_BYTES = 1 << 16  # of an array or bytearray, likewise
MAX_NAMES = 4096  # codes of which it is remembered what globals they have; arbitrary

_LAZY_ANNOTATIONS = sys.version_info >= (3, 14)  # to ask for them runs code; that code stands for them

LRU = type(functools.lru_cache(lambda: None))

SEQUENCES: tuple[type, ...] = (list, tuple, set, frozenset, collections.deque)

_names: dict[int, tuple[types.CodeType, tuple[str, ...]]] = {}  # by the address of the code: to hash code takes long


def globals_of(code: types.CodeType) -> tuple[str, ...]:
    """The globals that the code, or code nested in it, looks up or binds."""
    found = _names.get(id(code))
    if found is None:
        from cloudpickle import cloudpickle

        if len(_names) >= MAX_NAMES:
            _names.clear()
        found = _names[id(code)] = code, tuple(cloudpickle._extract_code_globals(code))
    return found[1]


class _Content(bytes):
    """The contents of a buffer, which are compared. (Of everything else, the identity is.)"""


class _TooLarge(Exception):
    pass


def token_of(value: Any) -> Any:
    """A token of an object: the same token for the same object. It keeps the object alive only if that has no weak
    references. While a token exists, a new object at the same address gets another one."""
    if type(value) in ATOMS or value is MISSING:
        return value
    try:
        return weakref.ref(value)
    except TypeError:
        return value


class Look:
    """What a global is made of.

    Attributes:
        parts: Tokens of all that decides what it does, in a fixed order; None if that is too much to look at.
        names: The globals of ``__main__`` that it refers to.
        classes: The classes of ``__main__`` that were looked at, without those that are other globals.
    """

    parts: list[Any] | None

    def __init__(self, namespace: dict[str, Any], value: Any, name: str | None) -> None:
        self.names: set[str] = set()
        self.classes: list[type] = []
        self._namespace = namespace
        self._name = name
        self._seen: set[int] = set()
        self._left = ELEMENTS
        self._parts: list[Any] = []
        try:
            self._visit(value)
            self.parts = self._parts
        except (_TooLarge, RecursionError):
            self.parts = None

    def _visit(self, value: Any) -> None:
        kind = type(value)
        if kind is list or kind is tuple or kind is dict:
            return self._plain(value)
        self._parts.append(token_of(value))
        if kind in ATOMS or value is MISSING or kind is types.ModuleType or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._count(1)
        if kind is types.FunctionType:
            self._function(value)
        elif issubclass(kind, type):
            self._class(value)
        elif issubclass(kind, dict):
            self._items(list(dict.keys(value)))
            self._items(list(dict.values(value)))
            self._instance(value)
        elif issubclass(kind, SEQUENCES):
            base: Any = next(base for base in SEQUENCES if issubclass(kind, base))
            self._count(base.__len__(value))
            self._items(list(base.__iter__(value)))
            if kind is not base:
                self._instance(value)
        elif kind in (bytearray, memoryview) or kind in (_loaded("array", "array"), _loaded("numpy", "ndarray")):
            self._buffer(value)
        elif kind is types.MethodType:
            self._visit(value.__func__)
            self._visit(value.__self__)
        elif kind in (staticmethod, classmethod):
            self._visit(value.__func__)
        elif kind is property:
            for each in (value.fget, value.fset, value.fdel):
                self._visit(each)
        elif kind is functools.partial:
            for each in (value.func, value.args, value.keywords):
                self._visit(each)
        elif kind is LRU:
            self._named(value)
            self._visit(value.__wrapped__)
        else:
            self._instance(value)

    def _count(self, n: int) -> None:
        self._left -= n
        if self._left < 0:
            raise _TooLarge

    def _plain(self, value: Any) -> None:
        """A list, tuple or dict, with those in it: in one loop, since there may be thousands of them."""
        parts, seen, todo = self._parts, self._seen, [value]
        while todo:
            value = todo.pop()
            parts.append(value)
            if id(value) in seen:
                continue
            seen.add(id(value))
            self._left -= 1 + len(value)
            if self._left < 0:
                raise _TooLarge
            for items in (list(value), list(value.values())) if type(value) is dict else (list(value),):
                if ATOMS.issuperset(map(type, items)):
                    parts += items
                    continue
                for item in items:
                    kind = type(item)
                    if kind in ATOMS:
                        parts.append(item)
                    elif kind is list or kind is tuple or kind is dict:
                        todo.append(item)
                    else:
                        self._visit(item)

    def _items(self, items: list[Any]) -> None:
        if set(map(type, items)) <= ATOMS:
            self._parts += items
        else:
            for item in items:
                self._visit(item)

    def _named(self, value: Any) -> bool:
        """Whether it belongs to another global than this one, which has a look of its own."""
        name = name_in(self._namespace, value)
        root = name and name.partition(".")[0]
        if not root or root == self._name:
            return False
        self.names.add(root)
        return True

    def _function(self, fn: types.FunctionType) -> None:
        self._named(fn)  # yet it is looked at: if it changes in place, all that holds it must be sent again
        ours = fn.__globals__ is self._namespace
        if not ours and by_reference(fn):
            return
        # One by one, without attributes that are mostly absent: this is most of the cost of submitting a function.
        annotations = getattr(fn, "__annotate__", None) if _LAZY_ANNOTATIONS else fn.__annotations__
        self._parts += (fn.__code__, fn.__name__, fn.__qualname__, fn.__module__, fn.__doc__, annotations or None)
        if annotations:
            self._visit(annotations)
        if fn.__defaults__:
            self._visit(fn.__defaults__)
        for attributes in (fn.__kwdefaults__, fn.__dict__):
            if attributes:
                self._items(list(attributes))
                self._items(list(attributes.values()))
        for cell in fn.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # it is empty so far
                value = MISSING
            self._visit(value)
        names = globals_of(fn.__code__)
        if ours:
            self.names.update(names)
        for name in names:
            value = fn.__globals__.get(name, MISSING)
            if issubclass(type(value), types.ModuleType) and "__path__" in vars(value):
                # Submodules that the code may mean go along, if they are imported by now.
                self._parts += [token_of(sys.modules.get(f"{value.__name__}.{each}")) for each in fn.__code__.co_names]
            if not ours:
                self._visit(value)

    def _class(self, cls: type) -> None:
        if self._named(cls) or cls.__module__ != "__main__":
            return
        self.classes.append(cls)
        self._visit(type(cls))
        for base in cls.__bases__:
            self._visit(base)
        for name, value in list(vars(cls).items()):
            if name not in NOT_CONTENTS:
                self._parts.append(name)
                self._visit(value)

    def _buffer(self, value: Any) -> None:
        try:
            view = memoryview(value)
            if view.nbytes <= CONTENT_BYTES and "O" not in view.format:
                self._parts.append(_Content(view.tobytes()))
        except (TypeError, ValueError, NotImplementedError):  # of a format that is none of Python's
            pass

    def _instance(self, value: Any) -> None:
        """The attributes; if the class is of the session, also their contents. In the attributes of a library's object
        caches may come and go, and there may be any number of them."""
        kind = type(value)
        self._visit(kind)
        deep = kind.__module__ == "__main__"
        try:
            attributes = object.__getattribute__(value, "__dict__")
        except AttributeError:
            attributes = {}
        if type(attributes) is dict:
            self._count(len(attributes))
            for name, each in list(attributes.items()):
                self._parts.append(name)
                self._visit(each) if deep else self._parts.append(token_of(each))
        if deep:
            for base in kind.__mro__:
                for slot in list(vars(base).values()):
                    if type(slot) is types.MemberDescriptorType:
                        self._visit(_slot(slot, value))


def _loaded(module: str, name: str) -> Any:
    """An attribute of a module, if the program has imported it."""
    return getattr(sys.modules.get(module), name, None)


def _slot(slot: types.MemberDescriptorType, value: Any) -> Any:
    try:
        return slot.__get__(value)
    except AttributeError:
        return MISSING


ANY: list[Any] = []  # parts that equal all others


def is_same(one: list[Any] | None, other: list[Any] | None) -> bool:
    if one is ANY:
        return True
    if one is None or other is None:
        return one is other
    if len(one) != len(other):
        return False
    return all(map(operator.is_, one, other)) or all(
        a is b or (type(a) is type(b) is _Content and a == b) for a, b in zip(one, other, strict=True)
    )
