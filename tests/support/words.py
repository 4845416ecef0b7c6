"""The shared words of a pool, seen from outside: for a test that waits for one, or makes a task older than it is, and
for the report of one that hangs.

Where each lies is what words.c says, which is compiled with the headers of csrc; test_storm.py checks it against a pool
that runs.
"""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import NamedTuple

from programs import SUPPORT


class _Place(ctypes.Structure):
    """struct words_place"""

    _fields_ = (
        ("part", ctypes.c_char_p),
        ("word", ctypes.c_char_p),
        ("at", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
    )


class _Part(ctypes.Structure):
    """struct words_part"""

    _fields_ = (("part", ctypes.c_char_p), *((name, ctypes.c_uint64) for name in ("at", "bytes", "count")))


class Field(NamedTuple):
    at: int  # from the beginning of its part
    bytes: int


@cache
def _library() -> ctypes.CDLL:
    from compiling import CSRC, shared_library  # which imports pytest: not in a worker that only imports this

    sources = [path for path in sorted(CSRC.glob("*.c")) if path.name != "map.c"]  # words.c includes it
    library = ctypes.CDLL(str(shared_library("words", [SUPPORT / "words.c", *sources])))
    library.words_part.argtypes = ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.POINTER(_Part)
    return library


@cache
def fields(part: str) -> dict[str, Field]:
    """The words of a part, by their names in words.c."""
    found: dict[str, Field] = {}
    first = _Place.in_dll(_library(), "words_places")
    i = 0
    while (each := _Place.from_address(ctypes.addressof(first) + i * ctypes.sizeof(_Place))).part:
        if each.part.decode() == part:
            found[each.word.decode()] = Field(each.at, each.bytes)
        i += 1
    assert found, f"words.c knows no words of a part {part!r}"
    return found


class Map:
    """The map of a pool: where its parts begin in the segment.

    Args:
        n: How many places for workers it has.
        arena_bytes: The size of an arena; needed for nothing but arenas.
    """

    def __init__(self, n: int, arena_bytes: int = 0) -> None:
        self._n, self._arena_bytes = n, arena_bytes
        self._parts: dict[str, _Part] = {}

    def part(self, name: str) -> _Part:
        if name not in self._parts:
            found = _Part()
            known = _library().words_part(name.encode(), self._n, self._arena_bytes, ctypes.byref(found))
            assert known, f"words.c knows no part {name!r}"
            self._parts[name] = found
        return self._parts[name]

    def at(self, name: str, i: int = 0) -> int:
        """The offset of a part; of the i-th one where there are several."""
        part = self.part(name)
        assert i <= part.count  # the end is an offset, too
        return part.at + i * part.bytes

    def results(self, w: int) -> range:
        """The offsets of the results in the ring of place w."""
        ring, result = self.part("ring"), self.part("result")
        first = result.at + w * ring.bytes
        return range(first, first + result.count * result.bytes, result.bytes)


class Words:
    """A view of a pool's memory; a context manager.

    Args:
        client: The `_core.Client` of a pool that has not ended.
    """

    def __init__(self, client) -> None:
        client.create()  # if it was not used before
        self.n_workers = client.segment.n_places
        self.layout = Map(self.n_workers)
        self.map = mmap.mmap(client.segment.memfd, self.layout.at("ring", self.n_workers))

    def __enter__(self) -> Words:
        return self

    def __exit__(self, *_) -> None:
        self.map.close()

    def word(self, at: int, n: int = 8) -> int:
        return int.from_bytes(self.map[at : at + n], "little")

    def _words(self, part: str, i: int = 0) -> dict[str, int]:
        start = self.layout.at(part, i)
        return {name: self.word(start + field.at, field.bytes) for name, field in fields(part).items()}

    def shared(self) -> dict[str, int]:
        return {**self._words("shared"), **self._words("board")}

    def worker(self, w: int) -> dict[str, int]:
        seq = fields("result")["seq"].at
        written = max(self.word(result + seq) for result in self.layout.results(w))
        return {**self._words("worker", w), **self._words("ring", w), "results written": written}

    def age(self, w: int, seconds: float) -> None:
        """The task with a time limit that a worker runs began so much earlier than it did."""
        at = self.layout.at("worker", w) + fields("worker")["started_ns"].at
        started_ns = self.word(at)
        assert started_ns, "the worker runs no task that has a time limit"
        self.map[at : at + 8] = max(started_ns - int(seconds * 1e9), 1).to_bytes(8, "little")

    def board(self) -> dict[str, int]:
        """How many slots are in which state, and how many each worker has claimed."""
        found: dict[str, int] = {}
        for i in range(self.layout.part("slot").count):
            word = self._words("slot", i)["word"]
            state, owner = word & 0xFF, word >> 8 & 0xFFFF
            name = ("free", "ready", f"claimed by {owner - 1}")[state] if state < 3 else "spoilt"
            found[name] = found.get(name, 0) + 1
        return found

    def __str__(self) -> str:
        lines = [f"shared  {self.shared()}", f"board   {self.board()}"]
        lines += [f"worker {w}  {self.worker(w)}" for w in range(self.n_workers)]
        return "\n".join(lines)
