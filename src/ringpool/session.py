"""What workers know of an interactive ``__main__``, which they cannot import.

A worker of a session (a REPL, a notebook, ``python -c``, a program read from standard input) has one namespace of
``__main__``: its own. Functions of the session run over it, whichever way they arrive. The parent keeps account of what
each name in it was bound to when workers last heard of it, and a task carries what has changed since.

  parent                                              worker
  ------------------------------------------------    --------------------------------------------------------------
  Session: name -> _Known (object, contents, number)  its own ``__main__``; name -> number of what it was last sent
  number 0: the object of the fork                    number 0: its copy of that object
  f, g changed: pickled together, as group 7      ->
  task: "f, g of group 7, h of the fork"          ->  binds f and g if their number here is not 7, then calls

So a value is pickled once a change, not once a task; each worker decodes it once; and what a worker's initializer or an
earlier task has bound stands until the parent changes the same name. The table in docs/design.md has all the cases.
"""

from __future__ import annotations

import collections
import functools
import itertools
import operator
import os
import sys
import types
import weakref

from ringpool.functions import _ATOMS, _MISSING, Callee, by_reference, fingerprint

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is the largest import a new worker would have
    from collections.abc import Callable, Container, Iterable
    from typing import Any

    # Number of a group, the names of it that a task needs, and what gives its contents. 0 and None: what was forked.
    Need = tuple[int, tuple[str, ...], Any]

# Elements and attributes of one global that are looked at for changes in place, at each submit of a function that
# refers to it. Of a larger one only the identity is compared. Arbitrary: more is seen, but a submit takes longer.
ELEMENTS = 10_000
CONTENT_BYTES = 1 << 16  # of an array or bytearray, likewise
MAX_NAMES = 4096  # codes of which it is remembered what globals they have; arbitrary

# Of a class: what Python stores there by itself, at times that mean nothing.
_NOT_CONTENTS = frozenset(
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

_STAY = _NOT_CONTENTS | {"__module__", "__doc__"}  # these cannot be deleted

_LAZY_ANNOTATIONS = sys.version_info >= (3, 14)  # to ask for them runs code; that code stands for them

_LRU = type(functools.lru_cache(lambda: None))

_SEQUENCES: tuple[type, ...] = (list, tuple, set, frozenset, collections.deque)


def _namespace() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


def _name_in(namespace: dict[str, Any], obj: Any) -> str | None:
    """The dotted name by which the object is found in ``__main__``, or None."""
    if getattr(obj, "__module__", None) != "__main__":
        return None
    name = getattr(obj, "__qualname__", None)
    if type(name) is not str or "<" in name:
        return None
    root, *rest = name.split(".")
    found = namespace.get(root, _MISSING)
    for part in rest:
        found = getattr(found, part, _MISSING)
    return name if found is obj else None


_names: dict[int, tuple[types.CodeType, tuple[str, ...]]] = {}  # by the address of the code: to hash code takes long


def _globals_of(code: types.CodeType) -> tuple[str, ...]:
    """The globals that the code, or code nested in it, looks up or binds."""
    found = _names.get(id(code))
    if found is None:
        from cloudpickle import cloudpickle  # type: ignore[import-untyped, unused-ignore]

        if len(_names) >= MAX_NAMES:
            _names.clear()
        found = _names[id(code)] = code, tuple(cloudpickle._extract_code_globals(code))
    return found[1]


# ---- what has changed ----


class _Content(bytes):
    """The contents of a buffer, which are compared. (Of all else, the identity is.)"""


class _TooLarge(Exception):
    pass


def _token(value: Any) -> Any:
    """Stands for an object: the same one for the same object. Keeps it alive only if there is no weak reference to it;
    while the old reference is there, a new object at the same address has another one."""
    if type(value) in _ATOMS or value is _MISSING:
        return value
    try:
        return weakref.ref(value)
    except TypeError:
        return value


class _Look:
    """What a global is made of.

    Attributes:
        parts: Stand for all that decides what it does, in a fixed order; None if that is too much to look at.
        names: The globals of ``__main__`` that it refers to.
        classes: Those of ``__main__`` that were looked at: not those that are other globals.
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
        self._parts.append(_token(value))
        if kind in _ATOMS or value is _MISSING or kind is types.ModuleType or id(value) in self._seen:
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
        elif issubclass(kind, _SEQUENCES):
            base: Any = next(base for base in _SEQUENCES if issubclass(kind, base))
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
        elif kind is _LRU:
            self._named(value)
            self._visit(value.__wrapped__)
        else:
            self._instance(value)

    def _count(self, n: int) -> None:
        self._left -= n
        if self._left < 0:
            raise _TooLarge

    def _plain(self, value: Any) -> None:
        """A list, tuple or dict, with those in it: in one loop, since there may be thousands."""
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
                if _ATOMS.issuperset(map(type, items)):
                    parts += items
                    continue
                for item in items:
                    kind = type(item)
                    if kind in _ATOMS:
                        parts.append(item)
                    elif kind is list or kind is tuple or kind is dict:
                        todo.append(item)
                    else:
                        self._visit(item)

    def _items(self, items: list[Any]) -> None:
        if set(map(type, items)) <= _ATOMS:
            self._parts += items
        else:
            for item in items:
                self._visit(item)

    def _named(self, value: Any) -> bool:
        """Whether it belongs to another global than this, which is looked at for itself."""
        name = _name_in(self._namespace, value)
        root = name and name.partition(".")[0]
        if not root or root == self._name:
            return False
        self.names.add(root)
        return True

    def _function(self, fn: types.FunctionType) -> None:
        self._named(fn)  # and yet it is looked at: what changes in place there must be sent anew with all that holds it
        ours = fn.__globals__ is self._namespace
        if not ours and by_reference(fn):
            return
        # One by one, without what is mostly not there: this is most of what the submit of a function costs.
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
                value = _MISSING
            self._visit(value)
        names = _globals_of(fn.__code__)
        if ours:
            self.names.update(names)
        for name in names:
            value = fn.__globals__.get(name, _MISSING)
            if issubclass(type(value), types.ModuleType) and "__path__" in vars(value):
                # Submodules that the code may mean go along, if they are imported by now.
                self._parts += [_token(sys.modules.get(f"{value.__name__}.{each}")) for each in fn.__code__.co_names]
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
            if name not in _NOT_CONTENTS:
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
        """The attributes; if the class is of the session, also what is in them. In those of a library's object, caches
        may come and go, and there may be any amount."""
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
                self._visit(each) if deep else self._parts.append(_token(each))
        if deep:
            for base in kind.__mro__:
                for slot in list(vars(base).values()):
                    if type(slot) is types.MemberDescriptorType:
                        self._visit(_slot(slot, value))


def _loaded(module: str, name: str) -> Any:
    """What a module has, if the program uses it."""
    return getattr(sys.modules.get(module), name, None)


def _slot(slot: types.MemberDescriptorType, value: Any) -> Any:
    try:
        return slot.__get__(value)
    except AttributeError:
        return _MISSING


_ANY: list[Any] = []  # parts that are the same as all others


def _same(one: list[Any] | None, other: list[Any] | None) -> bool:
    if one is _ANY:
        return True
    if one is None or other is None:
        return one is other
    if len(one) != len(other):
        return False
    return all(map(operator.is_, one, other)) or all(
        a is b or (type(a) is type(b) is _Content and a == b) for a, b in zip(one, other, strict=True)
    )


# ---- the parent's side ----


class _Sent:
    """A group, as the parent has it.

    Args:
        number: Its number.
        data: Its pickle.
    """

    def __init__(self, number: int, data: bytes) -> None:
        self.number = number
        self._data = data
        self._held: tuple[Any, Any] | None = None

    def load(self, store: Store) -> tuple[Any, Any]:
        """What gives its contents in a worker, and what keeps them where they are as long as that."""
        if self._held is None:
            self._held = store.hold(self._data)
            if self._held is None:  # there is no room now: this once, it goes with the task
                return functools.partial(store.load, self._data), None
            self._data = b""
        return self._held


_FORKED = _Sent(0, b"")


class _Known:
    """What workers have been told of a name, or will be by the tasks that need it.

    Args:
        token, parts: Of the object, as it was then. _ANY if it counts as the same whatever is in it.
        group: The one that it was sent in.
        found: Names that only the pickling of it came upon.
    """

    __slots__ = ("found", "group", "parts", "token")

    def __init__(self, token: Any, parts: list[Any] | None, group: _Sent, found: frozenset[str]) -> None:
        self.token = token
        self.parts = parts
        self.group = group
        self.found = found


class Session:
    """What the workers of one pool know of this process's ``__main__``.

    Several threads may be in it, and code that pickling runs may come here again: there is no lock, and what is known
    of a name is replaced in one step. Two threads that send the same change at a time send it twice, as two groups.
    """

    def __init__(self) -> None:
        self.namespace = _namespace()
        self._numbers = itertools.count(1)
        self._known: dict[str, _Known] = {}
        self._pinned: set[Any] = set()  # handles
        self._classes: dict[str, type] = {}  # those that workers may name in what they send back

    def fork(self) -> None:
        """The workers will be copies of this process as it is now. (What another thread binds between now and the fork
        is a change, which is sent.)"""
        known = {}
        for name, value in list(self.namespace.items()):
            look = _Look(self.namespace, value, name)
            known[name] = _Known(_token(value), look.parts, _FORKED, frozenset())
            for cls in look.classes:
                self.keep(cls)
        self._known = known

    def close(self) -> None:
        """No more is sent. (Results may still name classes.)"""
        self._known = {}
        self._pinned = set()

    def pin(self, handles: list[Any]) -> None:
        """Keeps groups in memory."""
        self._pinned.update(handles)

    def keep(self, cls: type) -> str:
        """Keeps a class that workers have, so that those of its instances that they send back are of this very class.

        Returns:
            Its number, by which results name it.
        """
        from cloudpickle import cloudpickle

        number: str = cloudpickle._get_or_create_tracker_id(cls)
        self._classes[number] = cls
        _sent.add(number)
        return number

    def reach(self, names: Iterable[str]) -> tuple[dict[str, _Known], dict[str, _Look]]:
        """All globals that these refer to, and they themselves: what is known of those that have not changed, and what
        is to be seen of those that have."""
        known: dict[str, _Known] = {}
        changed: dict[str, _Look] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in known or name in changed:
                continue
            value = self.namespace.get(name, _MISSING)
            was = self._known.get(name)
            if was is None and value is _MISSING:  # a builtin, or nothing so far
                continue
            if was is not None and was.token is value and type(value) in _ATOMS:
                known[name] = was
                continue
            look = _Look(self.namespace, value, name)
            todo += look.names
            if was is not None and was.token is _token(value) and _same(was.parts, look.parts):
                known[name] = was
                todo += was.found
            else:
                changed[name] = look
        return known, changed

    def needs(self, names: Iterable[str], store: Store) -> dict[str, _Known]:
        """What a worker must have so that it can use these globals. Sends what it may not have.

        Args:
            names: Of the globals.
            store: Makes the groups.
        """
        known, changed = self.reach(names)
        if changed:
            known |= self._send(changed, store)
        return known

    def _send(self, changed: dict[str, _Look], store: Store) -> dict[str, _Known]:
        """Pickles globals together, so that what they have in common stays so."""
        number = next(self._numbers)
        stay: dict[str, _Known] = {}
        while True:
            scope = _GroupScope(self, changed)
            values = {name: self.namespace.get(name, _MISSING) for name in changed}
            # First what the reducers of the others may call when they are unpickled.
            first = (types.FunctionType, type)
            order = sorted(reversed(values), key=lambda name: not issubclass(type(values[name]), first))
            group = [_Binding(name, values[name], number) for name in order if values[name] is not _MISSING]
            gone = [name for name in order if values[name] is _MISSING]
            try:
                data = store.encode((group, gone, scope.classes), scope)
            except Exception as error:
                left = {name: changed[name] for name in changed if not self._stays(name, values[name], store)}
                if len(left) == len(changed):
                    error.add_note(f"This is of the globals of __main__ that a task refers to: {', '.join(values)}.")
                    raise
                stay |= {name: self._known[name] for name in changed.keys() - left.keys()}
                if not left:
                    return stay
                changed = left
                continue
            known, more = self.reach(scope.found)
            if more.keys() <= changed.keys():
                break
            changed = {**more, **changed}
        sent = _Sent(number, data)
        found = frozenset(scope.found)
        made = {name: _Known(_token(values[name]), look.parts, sent, found) for name, look in changed.items()}
        self._known.update(made)
        return {**known, **stay, **made}

    def _stays(self, name: str, value: Any, store: Store) -> bool:
        """Whether a global goes on as workers have it: a library's object that cannot be pickled, the same as when they
        got it. So it is with a connection or a pool, whose attributes change as it is used."""
        was = self._known.get(name)
        of_session = issubclass(type(value), (types.FunctionType, type)) or type(value).__module__ == "__main__"
        if of_session or issubclass(type(value), (dict, *_SEQUENCES)) or was is None or was.token is not _token(value):
            return False
        try:
            store.encode(value, _GroupScope(self, ()))
        except Exception:
            self._known[name] = _Known(was.token, _ANY, was.group, was.found)
            return True
        return False


if TYPE_CHECKING:

    class Store:
        """Where groups are kept: the functions of a pool."""

        def encode(self, obj: Any, scope: Any) -> bytes: ...
        def hold(self, data: bytes) -> tuple[Callable[[], Any], Any] | None: ...
        @staticmethod
        def load(data: bytes) -> Any: ...


class _Scope:
    """How a pickle treats what belongs to ``__main__``."""

    def __init__(self) -> None:
        self.namespace = _namespace()

    def reduce(self, obj: Any) -> tuple[Any, ...] | None:
        """What is to stand for a function or class; None if it goes by value. Asks for the type of any object: to ask
        isinstance() would run a property called __class__."""
        raise NotImplementedError

    def needs(self, fn: types.FunctionType) -> tuple[Need, ...]:
        """What a function needs that goes by value."""
        return ()

    def function(self, reduced: tuple[Any, ...], fn: types.FunctionType) -> tuple[Any, ...]:
        """What cloudpickle makes of a function by value, but over the receiver's ``__main__``."""
        _, (code, _, _, _, closure), (state, slots), *_ = reduced
        slots["__globals__"] = {}
        return _function_here, (code, closure, self.needs(fn)), (state, slots), None, None, _set_function


class TaskScope(_Scope):
    """Of what goes to workers.

    Args:
        session: The pool's.
        store: Its table of functions.
    """

    def __init__(self, session: Session, store: Store) -> None:
        self.namespace = session.namespace
        self.handles: list[Any] = []  # what the receiver will read: they keep it in memory
        self._session = session
        self._store = store

    def reduce(self, obj: Any) -> tuple[Any, ...] | None:
        if not issubclass(type(obj), (types.FunctionType, type, _LRU)):
            return None
        name = _name_in(self.namespace, obj)
        return None if name is None else (_bound_here, (name, self._list(self._of_name(name))))

    def needs(self, fn: types.FunctionType) -> tuple[Need, ...]:
        return self._list(self._of_function(fn))

    def find(self, fn: Any) -> tuple[list[Any] | None, str | None, dict[str, _Known]] | None:
        """How workers are to find a function, if it is of the session.

        Returns:
            Its fingerprint, or None if it must go with each task; its name, if it has one; and what it refers to.
        """
        name = _name_in(self.namespace, fn)
        parts: list[Any] | None = []
        if name is not None:
            known = self._of_name(name)
        elif type(fn) is types.FunctionType and fn.__globals__ is self.namespace:
            parts = fingerprint(fn, self.namespace)
            known = {} if parts is None else self._of_function(fn)
        else:
            return None
        if parts is not None:
            parts += [known[each] for each in sorted(known)]
        return parts, name, known

    def callee(self, fn: Any, name: str | None, known: dict[str, _Known]) -> Callee:
        """What the block of a function is to hold, of which `find` has said the rest."""
        return Callee(_resolve, name, None if name else fn, self._list(known))

    def _of_name(self, name: str) -> dict[str, _Known]:
        return self._session.needs([name.partition(".")[0]], self._store)

    def _of_function(self, fn: types.FunctionType) -> dict[str, _Known]:
        return self._session.needs(_globals_of(fn.__code__), self._store)

    def _list(self, known: dict[str, _Known]) -> tuple[Need, ...]:
        groups: dict[_Sent, list[str]] = {}
        for name, each in known.items():
            groups.setdefault(each.group, []).append(name)
        needs = []
        for group, names in sorted(groups.items(), key=lambda item: item[0].number):
            load, handle = (None, None) if group is _FORKED else group.load(self._store)
            if handle is not None:
                self.handles.append(handle)
            needs.append((group.number, tuple(names), load))
        return tuple(needs)


class _GroupScope(_Scope):
    """Of a group: its own names go by value, others by name."""

    def __init__(self, session: Session, names: Container[str]) -> None:
        self.namespace = session.namespace
        self.found: set[str] = set()  # names that must be there besides
        self.classes: list[str] = []  # numbers of the classes that went by value
        self._session = session
        self._names = names

    def reduce(self, obj: Any) -> tuple[Any, ...] | None:
        if not issubclass(type(obj), (types.FunctionType, type, _LRU)):
            # That of 3.11 has a lock.
            return (_property, (obj.func, obj.attrname)) if type(obj) is functools.cached_property else None
        name = _name_in(self.namespace, obj)
        if name is not None and (root := name.partition(".")[0]) not in self._names:
            self.found.add(root)
            _, changed = self._session.reach([root])
            if not changed:
                return _bound_here, (name, ())  # whoever needs the group needs that as well
            # Else the group will be made again, with it.
        if issubclass(type(obj), type):
            if obj.__module__ == "__main__":
                self.classes.append(self._session.keep(obj))
                return _class_by_value(obj)
        elif type(obj) is _LRU:
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        return None

    def needs(self, fn: types.FunctionType) -> tuple[Need, ...]:
        self.found.update(name for name in _globals_of(fn.__code__) if name not in self._names)
        return ()


class ResultScope(_Scope):
    """Of what a worker sends back: classes that it has from the parent mean the parent's."""

    def reduce(self, obj: Any) -> tuple[Any, ...] | None:
        if issubclass(type(obj), type) and _classes:
            from cloudpickle import cloudpickle

            number = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(obj)
            if number in _classes:
                return _class_here, (number,)
        return None


# ---- the receiver's side ----

_sent: set[str] = set()  # numbers, as cloudpickle has them, of classes that workers of this process have from it
_classes: set[str] = set()  # of those that this process has from its parent
_applied: dict[str, int] = {}  # name -> the group of what it was last bound to for the parent
_of_fork: dict[str, Any] = {}  # name -> what it was before the first of these
_changes = 0


def _forget() -> None:
    """In a forked process: if it is to be a worker, its parent has sent nothing yet."""
    _classes.update(_sent)
    _applied.clear()
    _of_fork.clear()


os.register_at_fork(after_in_child=_forget)


def settle(needs: tuple[Need, ...]) -> None:
    """Binds the globals that a task needs as they were in the parent at its submit, unless they are those that the
    parent has sent last: then they are as this process has left them."""
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
                _bind_here(name, _MISSING, number)
        finally:
            _wanted = before


_wanted: set[str] = set()  # names that the group must bind that is being unpickled


class _Binding:
    """Of a group: has its name bound as soon as it is unpickled, because what follows may call it."""

    def __init__(self, name: str, value: Any, number: int) -> None:
        self.name = name
        self.value = value
        self.number = number

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str, Any, int]]:
        return _bind_here, (self.name, self.value, self.number)


def _bind_here(name: str, value: Any, number: int) -> None:
    # Of what is not needed now, what is older goes along: it may have something in common with what is.
    if name in _wanted or _applied.get(name, 0) < number:
        _bind(name, value, number)


def _bind(name: str, value: Any, number: int) -> None:
    global _changes
    namespace = _namespace()
    _of_fork.setdefault(name, namespace.get(name, _MISSING))
    if value is _MISSING:
        namespace.pop(name, None)
    else:
        namespace[name] = value
    _applied[name] = number
    _changes += 1


def _resolve(callee: Callee) -> Any:
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


def _bound_here(name: str, needs: tuple[Need, ...]) -> Any:
    """In a pickle: what is found by name."""
    settle(needs)
    return _find(name)


def _class_here(number: str) -> type:
    """In a result: a class that the worker has from this process."""
    from cloudpickle import cloudpickle

    cls: type | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(number)
    if cls is None:
        raise RuntimeError("a result is of a class that has been redefined since, and whose pool is gone")
    return cls


def _function_here(
    code: types.CodeType, closure: tuple[types.CellType, ...] | None, needs: tuple[Need, ...]
) -> types.FunctionType:
    """In a pickle: a function by value, over this process's ``__main__``."""
    settle(needs)
    return types.FunctionType(code, _namespace(), None, None, closure)


def _set_function(fn: types.FunctionType, state: Any) -> None:
    from cloudpickle import cloudpickle

    builtins = fn.__globals__.get("__builtins__")
    cloudpickle._function_setstate(fn, state)
    if builtins is not None:
        fn.__globals__["__builtins__"] = builtins


def _cached(fn: Any, parameters: dict[str, Any]) -> Any:
    """In a pickle: what `functools.lru_cache` makes of a function."""
    return functools.lru_cache(**parameters)(fn)


def _property(fn: Any, name: str | None) -> Any:
    """In a pickle: what `functools.cached_property` makes of a function."""
    made: functools.cached_property[Any] = functools.cached_property(fn)
    made.attrname = name
    return made


def _class_by_value(cls: type) -> tuple[Any, ...]:
    """What cloudpickle makes of a class, but that it has slots if this has, and is in all as this is if it is there."""
    from cloudpickle import cloudpickle

    make, args, state, *_ = cloudpickle._dynamic_class_reduce(cls)
    slots = vars(cls).get("__slots__")
    if make is cloudpickle._make_skeleton_class and slots:  # typing.NamedTuple has none, and takes none
        args[3]["__slots__"] = slots
    return make, args, state, None, None, _set_class


def _set_class(cls: type, state: Any) -> None:
    from cloudpickle import cloudpickle

    if not isinstance(vars(cls).get("_member_map_"), dict):  # an enumeration makes its attributes from its members
        for name, value in list(vars(cls).items()):
            if name not in state[0] and name not in _STAY and type(value) is not types.MemberDescriptorType:
                delattr(cls, name)
    cloudpickle._class_setstate(cls, state)
