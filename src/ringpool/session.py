"""What workers know of an interactive ``__main__``, which they cannot import.

A worker of a session (a REPL, a notebook, ``python -c``, a program read from standard input) has one namespace of
``__main__``: its own. Functions of the session run over it, however they were sent. For each name the parent remembers
the object that workers were last sent, and a task carries what has changed since.

  parent                                              worker
  ------------------------------------------------    --------------------------------------------------------------
  Session: name -> _Known (object, contents, number)  its own ``__main__``; name -> number of what it was last sent
  number 0: the object of the fork                    number 0: its copy of that object
  f, g changed: pickled together, as group 7      ->
  task: "f, g of group 7, h of the fork"          ->  binds f and g if their number here is not 7, then calls

So a value is pickled once a change, not once a task, and each worker decodes it once. A binding by a worker's
initializer or by an earlier task stays until the parent changes the same name. The table in
docs/architecture/functions.md has all cases. What a worker does with a group is in `replay`; how a change is noticed,
in `contents`.
"""

from __future__ import annotations

import functools
import itertools
import types

from ringpool import replay
from ringpool.contents import ANY, LRU, SEQUENCES, Look, globals_of, is_same, token_of
from ringpool.functions import ATOMS, MISSING, Callee, fingerprint
from ringpool.replay import Scope, main_namespace, name_in

TYPE_CHECKING = False
if TYPE_CHECKING:  # as in all modules that workers may import
    from collections.abc import Callable, Container, Iterable
    from typing import Any

    from ringpool.replay import Need


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
        """A callable that returns the contents in a worker, and a handle that keeps them in memory until then."""
        if self._held is None:
            self._held = store.hold(self._data)
            if self._held is None:  # out of memory: this time the group travels with the task
                return functools.partial(store.load, self._data), None
            self._data = b""
        return self._held


_FORKED = _Sent(0, b"")


class _Known:
    """What workers have been sent for a name, or will be by the tasks that need it.

    Args:
        token, parts: Of the object, as it was then. ANY if its contents are not compared.
        group: The group that it was sent in.
        found: Names that were found only when it was pickled.
    """

    __slots__ = ("found", "group", "parts", "token")

    def __init__(self, token: Any, parts: list[Any] | None, group: _Sent, found: frozenset[str]) -> None:
        self.token = token
        self.parts = parts
        self.group = group
        self.found = found


class Session:
    """What the workers of one pool know of this process's ``__main__``.

    Several threads may use it at a time, and code that pickling runs may call it again. There is no lock: the entry of
    a name is replaced in one step. Two threads that send the same change at a time send it twice, as two groups.
    """

    def __init__(self) -> None:
        self.namespace = main_namespace()
        self._numbers = itertools.count(1)
        self._known: dict[str, _Known] = {}
        self._pinned: set[Any] = set()  # handles
        self._classes: dict[str, type] = {}  # those that workers may name in what they send back

    def fork(self) -> None:
        """The workers will be copies of this process as it is now. (What another thread binds between now and the fork
        is a change, which is sent.)"""
        known = {}
        for name, value in list(self.namespace.items()):
            look = Look(self.namespace, value, name)
            known[name] = _Known(token_of(value), look.parts, _FORKED, frozenset())
            for cls in look.classes:
                self.keep(cls)
        self._known = known

    def close(self) -> None:
        """Forgets what was sent; nothing more will be. (Results may still name classes.)"""
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
        replay.sent_classes.add(number)
        return number

    def reach(self, names: Iterable[str]) -> tuple[dict[str, _Known], dict[str, Look]]:
        """Looks at these globals and all that they refer to.

        Returns:
            By name: the entries of those that have not changed, and new looks at those that have.
        """
        known: dict[str, _Known] = {}
        changed: dict[str, Look] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in known or name in changed:
                continue
            value = self.namespace.get(name, MISSING)
            was = self._known.get(name)
            if was is None and value is MISSING:  # a builtin, or nothing so far
                continue
            if was is not None and was.token is value and type(value) in ATOMS:
                known[name] = was
                continue
            look = Look(self.namespace, value, name)
            todo += look.names
            if was is not None and was.token is token_of(value) and is_same(was.parts, look.parts):
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

    def _send(self, changed: dict[str, Look], store: Store) -> dict[str, _Known]:
        """Pickles globals together, so that what they have in common stays so."""
        number = next(self._numbers)
        stay: dict[str, _Known] = {}
        while True:
            scope = _GroupScope(self, changed)
            values = {name: self.namespace.get(name, MISSING) for name in changed}
            # Functions and classes first: reducers of the others may call them when they are unpickled.
            first = (types.FunctionType, type)
            order = sorted(reversed(values), key=lambda name: not issubclass(type(values[name]), first))
            group = [_Binding(name, values[name], number) for name in order if values[name] is not MISSING]
            gone = [name for name in order if values[name] is MISSING]
            try:
                data = store.encode((group, gone, scope.classes), scope)
            except Exception as error:
                left = {name: changed[name] for name in changed if not self._stays(name, values[name], store)}
                if len(left) == len(changed):
                    error.add_note(
                        f"Raised while pickling globals of __main__ that a task refers to: {', '.join(values)}."
                    )
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
        made = {name: _Known(token_of(values[name]), look.parts, sent, found) for name, look in changed.items()}
        self._known.update(made)
        return {**known, **stay, **made}

    def _stays(self, name: str, value: Any, store: Store) -> bool:
        """Whether workers keep the global that they have: a library's object that cannot be pickled, and that is the
        same object as when they got it. A connection or a pool is such: its attributes change as it is used."""
        was = self._known.get(name)
        of_session = issubclass(type(value), (types.FunctionType, type)) or type(value).__module__ == "__main__"
        if of_session or issubclass(type(value), (dict, *SEQUENCES)) or was is None or was.token is not token_of(value):
            return False
        try:
            store.encode(value, _GroupScope(self, ()))
        except Exception:
            self._known[name] = _Known(was.token, ANY, was.group, was.found)
            return True
        return False


if TYPE_CHECKING:

    class Store:
        """Where groups are kept: a pool's client."""

        def encode(self, obj: Any, scope: Any) -> bytes: ...
        def hold(self, data: bytes) -> tuple[Callable[[], Any], Any] | None: ...
        @staticmethod
        def load(data: bytes) -> Any: ...


class TaskScope(Scope):
    """The scope of what goes to workers.

    Args:
        session: The pool's.
        store: The pool's client.
    """

    def __init__(self, session: Session, store: Store) -> None:
        self.namespace = session.namespace
        self.handles: list[Any] = []  # keep the groups that the receiver will read in memory
        self._session = session
        self._store = store

    def reduce(self, obj: Any) -> tuple[Any, ...] | None:
        if not issubclass(type(obj), (types.FunctionType, type, LRU)):
            return None
        name = name_in(self.namespace, obj)
        return None if name is None else (replay.bound_here, (name, self._list(self._of_name(name))))

    def needs(self, fn: types.FunctionType) -> tuple[Need, ...]:
        return self._list(self._of_function(fn))

    def find(self, fn: Any) -> tuple[list[Any] | None, str | None, dict[str, _Known]] | None:
        """How workers find a function, if it belongs to the session.

        Returns:
            Its fingerprint, or None if it must go with each task; its name, if it has one; and the globals that it
            refers to. None if it does not belong to the session.
        """
        name = name_in(self.namespace, fn)
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
        """What the block of a function holds, by the name and the globals that `find` has returned."""
        return Callee(replay.resolve, name, None if name else fn, self._list(known))

    def _of_name(self, name: str) -> dict[str, _Known]:
        return self._session.needs([name.partition(".")[0]], self._store)

    def _of_function(self, fn: types.FunctionType) -> dict[str, _Known]:
        return self._session.needs(globals_of(fn.__code__), self._store)

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


class _GroupScope(Scope):
    """The scope of a group: its own names go by value, others by name."""

    def __init__(self, session: Session, names: Container[str]) -> None:
        self.namespace = session.namespace
        self.found: set[str] = set()  # other names that must be bound too
        self.classes: list[str] = []  # numbers of the classes that went by value
        self._session = session
        self._names = names

    def reduce(self, obj: Any) -> tuple[Any, ...] | None:
        if not issubclass(type(obj), (types.FunctionType, type, LRU)):
            if type(obj) is functools.cached_property:  # that of 3.11 has a lock
                return replay.cached_property, (obj.func, obj.attrname)
            return None
        name = name_in(self.namespace, obj)
        if name is not None and (root := name.partition(".")[0]) not in self._names:
            self.found.add(root)
            _, changed = self._session.reach([root])
            if not changed:
                return replay.bound_here, (name, ())  # a task that needs the group needs that name too
            # Else the group will be made again, with that name in it.
        if issubclass(type(obj), type):
            if obj.__module__ == "__main__":
                self.classes.append(self._session.keep(obj))
                return _class_by_value(obj)
        elif type(obj) is LRU:
            return replay.cached, (obj.__wrapped__, obj.cache_parameters())
        return None

    def needs(self, fn: types.FunctionType) -> tuple[Need, ...]:
        self.found.update(name for name in globals_of(fn.__code__) if name not in self._names)
        return ()


class _Binding:
    """A global in a group: its name is bound as soon as it is unpickled, because what follows may call it."""

    def __init__(self, name: str, value: Any, number: int) -> None:
        self.name = name
        self.value = value
        self.number = number

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str, Any, int]]:
        return replay.bind_here, (self.name, self.value, self.number)


def _class_by_value(cls: type) -> tuple[Any, ...]:
    """What cloudpickle makes of a class, but with its slots; a class that the receiver has is made equal to it."""
    from cloudpickle import cloudpickle

    make, args, state, *_ = cloudpickle._dynamic_class_reduce(cls)
    slots = vars(cls).get("__slots__")
    if make is cloudpickle._make_skeleton_class and slots:  # typing.NamedTuple has none, and takes none
        args[3]["__slots__"] = slots
    return make, args, state, None, None, replay.set_class
