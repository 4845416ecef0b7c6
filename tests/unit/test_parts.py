"""The parts of the compiled core: floors, private fields, colours of functions, names of attributes, and size.

The rules are those of src/ringpool/_core.pxd. What breaks one today is in a table of debts, with how often. The tables
may only shrink: a debt that is paid fails the test until its line is gone.
"""

from __future__ import annotations

import ast
import collections
import re
from pathlib import Path

import pytest
from core_model import COLOURS, PACKAGE, Core, analyse, core, header_colours, included
from programs import ROOT

pytestmark = pytest.mark.deadline(600)  # Cython analyses the whole core: ten seconds on an idle machine

# (part, the part above it that it names): what it names.
UPWARD_DEBTS: dict[tuple[str, str], set[str]] = {}

# (part, class of another part): how often the part assigns to a field of it.
WRITE_DEBTS: dict[tuple[str, str], int] = {
    ("parent/batch", "FutureBase"): 1,
    ("parent/chunk", "FutureBase"): 1,
    ("parent/outbox", "FutureBase"): 20,
    ("parent/settlement", "FutureBase"): 1,
    ("parent/tasks", "FutureBase"): 2,
}

# What is declared quiet or raw: the open functions that it calls.
COLOUR_DEBTS: dict[str, set[str]] = {}

ACQUIRE, RELEASE = "PoolLock.acquire", "PoolLock.release"

CLASS_LINES = 600
FEWER_LINES = {"Client": 500}  # it says only which part is called when
FILE_LINES = 700
GENERATED = {"_core.c"}


def height(found: Core, part: str) -> int:
    """On which floor a part stands. What is no body, as the declarations in runtime.pxd, stands under all others."""
    return found.parts.index(part) if part in found.parts else -1


def upward_uses(found: Core) -> dict[tuple[str, str], set[str]]:
    upward = collections.defaultdict(set)
    for use in found.uses:
        if height(found, use.owner) > height(found, use.user):
            upward[use.user, use.owner].add(use.name)
    return dict(upward)


def writes(found: Core) -> dict[tuple[str, str], int]:
    return dict(collections.Counter((write.user, write.cls) for write in found.writes))


def calls_of_open(found: Core) -> dict[str, set[str]]:
    """What is quiet or raw, and the open functions of the core that it calls."""
    calls = collections.defaultdict(set)
    for function in found.functions.values():
        if function.effective_colour != "open":
            for name, _ in function.calls:
                if found.functions[name].effective_colour == "open":
                    calls[function.name].add(name)
    return dict(calls)


def wrongly_declared(found: Core) -> list[str]:
    """Functions whose signature is not that of their colour. What returns an object cannot be noexcept."""
    return [
        f"{function.where}: {function.name} is no {function.colour} function"
        for function in found.functions.values()
        if (function.colour == "raw" and (function.raises or function.returns_object or not function.nogil))
        or (function.colour == "quiet" and function.raises)
    ]


def test_headers_and_bodies_are_included_in_one_order():
    bodies, headers = included(PACKAGE, "_core.pyx"), included(PACKAGE, "_core.pxd")
    assert [part for part in bodies if part in headers] == [part for part in headers if part in bodies]
    assert not [part for part in headers if part not in bodies and part != "runtime"]
    on_disk = {
        str(path.relative_to(PACKAGE / "core").with_suffix("")) for path in (PACKAGE / "core").rglob("*.p[yx][xd]")
    }
    assert on_disk == {*bodies, *headers}


def test_a_part_names_only_what_stands_below_it():
    assert upward_uses(core()) == UPWARD_DEBTS


def test_no_part_assigns_to_a_field_of_another_parts_class():
    assert writes(core()) == WRITE_DEBTS


def test_every_function_of_a_header_stands_under_its_colour():
    assert not header_colours(PACKAGE, included(PACKAGE, "_core.pxd"))[1]


def test_a_raw_function_is_noexcept_nogil_and_a_quiet_one_is_noexcept():
    found = core()
    assert {function.colour for function in found.functions.values()} >= {*COLOURS}
    assert not wrongly_declared(found)


def test_what_is_quiet_calls_nothing_that_is_open():
    assert calls_of_open(core()) == COLOUR_DEBTS


def misuses_of_the_lock(found: Core) -> list[str]:
    """Calls with the lock of the pool where there must be none, or without where it must be held: see core/lock.pxd.

    What takes it releases it at one place.
    """
    takes = {ACQUIRE}
    while more := {f.name for f in found.functions.values() if any(name in takes for name, _ in f.calls)} - takes:
        takes |= more
    misuses = []
    for function in [*found.functions.values(), *found.defs]:
        held = function.with_lock
        for name, where in function.calls:
            called = found.functions.get(name)
            if called is None:  # a field is called
                continue
            if name == RELEASE:
                held = False
            elif name == ACQUIRE and not held:
                held = True
            elif called.with_lock and not held:
                misuses.append(f"{where}: {function.name} calls {name} without the lock")
            elif held and name in takes:
                misuses.append(f"{where}: {function.name} holds the lock and calls {name}, which takes it")
            elif held and called.effective_colour == "open":
                misuses.append(f"{where}: {function.name} holds the lock and calls {name}, which is open")
        if held != function.with_lock:
            misuses.append(f"{function.where}: {function.name} does not leave the lock as it was")
    return misuses


def test_the_lock_is_held_where_it_must_be_and_nowhere_else():
    found = core()
    assert {"TaskTable.enter", "TaskTable.release"} <= {f.name for f in found.functions.values() if f.with_lock}
    assert not misuses_of_the_lock(found)


def test_every_attribute_of_a_typed_object_is_declared():
    """Cython looks a misspelt one up in the object's type, which fails when the line runs."""
    assert not core().unknown_attributes


def class_lengths(path: Path) -> dict[str, int]:
    """How many lines each class of a Python or Cython file has."""
    text = path.read_text()
    if path.suffix == ".py":
        classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
        return {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in classes}
    lengths: collections.Counter[str] = collections.Counter()
    cls = None
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            found = re.match(r"(?:cdef )?class (\w+)", line)
            cls = found[1] if found else None
        if cls:
            lengths[cls] += 1
    return dict(lengths)


def sources() -> list[Path]:
    return sorted(
        path
        for folder in (ROOT / "src", ROOT / "csrc")
        for path in folder.rglob("*")
        if path.suffix in {".py", ".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h"} and path.name not in GENERATED
    )


def test_no_class_and_no_file_is_too_long_to_know():
    files = sources()
    assert len(files) > 100
    assert not [f"{path.name}: {n}" for path in files if (n := len(path.read_text().splitlines())) > FILE_LINES]
    lengths = {
        (path.name, name): n
        for path in files
        if path.suffix in {".py", ".pyx"}
        for name, n in class_lengths(path).items()
    }
    assert {name for _, name in lengths} >= {*FEWER_LINES}
    assert not {each: n for each, n in lengths.items() if n > FEWER_LINES.get(each[1], CLASS_LINES)}


def test_the_core_has_no_pieces_without_a_header():
    assert not [path.name for path in sources() if path.suffix == ".pxi"]


# ---- what the tests above look for is found when it is there ----

LOW_HEADER = """
cdef class Low:
    cdef int n
    cdef Low next
    # raw:
    cdef int fine(self) noexcept nogil
    # quiet:
    cdef int calls_open(self) noexcept
    cdef int raises(self) except -1
    # open:
    cdef object anything(self)
cdef void uncoloured() noexcept
"""

LOW_BODY = """
cdef class Low:
    cdef int fine(self) noexcept nogil:
        return 1
    cdef int calls_open(self) noexcept:
        self.anything()
        return self.next.fine()
    cdef int raises(self) except -1:
        self.next.nxt
        return 0
    cdef object anything(self):
        cdef High high = None
        return high_function()
cdef void uncoloured() noexcept:
    pass
"""

HIGH_HEADER = """
cdef class High:
    cdef Low low
    # open:
    cdef object change(self, Low other)
"""

HIGH_BODY = """
cdef class High:
    cdef object change(self, Low other):
        self.low.n = 1
        other.next.n += 1
        other.next = self.low.next = None
def high_function():
    return None
"""


LOCK_HEADER = """
cdef class PoolLock:
    # raw:
    cdef void acquire(self) noexcept nogil
    cdef void release(self) noexcept nogil
    # raw, with the lock:
    cdef void guarded(self) noexcept nogil
    cdef void takes_it_again(self) noexcept nogil
    # quiet:
    cdef void right(self, bint room) noexcept
    cdef void forgets_it(self) noexcept
    cdef void forgets_it_later(self) noexcept
    cdef void calls_open(self) noexcept
    cdef void calls_what_takes_it(self) noexcept
    cdef void keeps_it(self) noexcept
    # open:
    cdef object anything(self)
"""

LOCK_BODY = """
cdef class PoolLock:
    cdef void acquire(self) noexcept nogil:
        pass
    cdef void release(self) noexcept nogil:
        pass
    cdef void guarded(self) noexcept nogil:
        pass
    cdef void takes_it_again(self) noexcept nogil:
        self.acquire()
    cdef void right(self, bint room) noexcept:
        self.acquire()
        if room:
            self.guarded()
        self.release()
        self.anything()
    cdef void forgets_it(self) noexcept:
        self.guarded()
    cdef void forgets_it_later(self) noexcept:
        self.acquire()
        self.release()
        self.guarded()
    cdef void calls_open(self) noexcept:
        self.acquire()
        self.anything()
        self.release()
    cdef void calls_what_takes_it(self) noexcept:
        self.acquire()
        self.right(True)
        self.release()
    cdef void keeps_it(self) noexcept:
        self.acquire()
    cdef object anything(self):
        return None
    def from_python(self):
        self.guarded()
"""


@pytest.fixture
def make_core(tmp_path, monkeypatch):
    """Writes a core of parts, each with its header and its body."""

    def make(**parts: tuple[str, str]) -> Path:
        package = tmp_path / "broken"
        (package / "core").mkdir(parents=True)
        (package / "__init__.py").write_text("")
        for part, (header, body) in parts.items():
            (package / "core" / f"{part}.pxd").write_text(header)
            (package / "core" / f"{part}.pyx").write_text(body)
        for module, first in (("_core.pxd", ""), ("_core.pyx", "# cython: language_level=3\n")):
            lines = [f'include "core/{part}{module[-4:]}"\n' for part in parts]
            (package / module).write_text(first + "".join(lines))
        return package

    monkeypatch.chdir(tmp_path)
    return make


def test_a_core_that_breaks_the_rules_is_found_out(make_core):
    broken = make_core(low=(LOW_HEADER, LOW_BODY), high=(HIGH_HEADER, HIGH_BODY))
    found = analyse(broken)
    assert upward_uses(found) == {("low", "high"): {"High", "high_function"}}
    assert writes(found) == {("high", "Low"): 4}
    assert header_colours(broken, ["low", "high"])[1] == ["low.pxd:12: uncoloured"]
    assert [text.partition(": ")[2] for text in wrongly_declared(found)] == ["Low.raises is no quiet function"]
    assert calls_of_open(found) == {"Low.calls_open": {"Low.anything"}}
    assert found.unknown_attributes == ["low.pyx:9: Low has no nxt"]


def test_a_function_that_forgets_the_lock_or_keeps_it_is_found_out(make_core):
    found = analyse(make_core(lock=(LOCK_HEADER, LOCK_BODY)))
    assert sorted(text.partition(": ")[2].replace("PoolLock.", "") for text in misuses_of_the_lock(found)) == [
        "calls_open holds the lock and calls anything, which is open",
        "calls_what_takes_it holds the lock and calls right, which takes it",
        "forgets_it calls guarded without the lock",
        "forgets_it_later calls guarded without the lock",
        "keeps_it does not leave the lock as it was",
        "lock.pyx:35 calls guarded without the lock",
        "takes_it_again holds the lock and calls acquire, which takes it",
    ]
