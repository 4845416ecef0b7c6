"""A worker that writes wildly into the memory that its parent reads: what test_fuzz.py has workers run."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import random
import re
import threading
import time
from multiprocessing import current_process
from pathlib import Path
from typing import Any

from words import Map, fields

EDGES = [0, 1, 2, 7, 88, 89, 255, 256, 1 << 16, (1 << 16) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32]
EDGES += [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 64, (1 << 64) - 4096]


WINDOW_BYTES = 256 << 10


def is_the_memory(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:ringpool ")
    except OSError:  # that of the listing itself
        return False


class Memory:
    """The pool's memory, as this worker has it mapped: the parts that are this worker's to write to."""

    def __init__(self, n_workers: int, arena_bytes: int) -> None:
        start = next(  # of the mapping that begins where the file does
            int(line.split("-")[0], 16)
            for line in Path("/proc/self/maps").read_text().splitlines()
            if "/memfd:ringpool " in line and int(line.split()[2], 16) == 0
        )
        self.base = start
        w = int(re.findall(r"\d+", current_process().name)[-1]) - 1
        layout = Map(n_workers, arena_bytes)
        self.entry = start + layout.at("worker", w)
        self.words, self.result = fields("worker"), fields("result")
        self.slots = [start + at for at in layout.results(w)]
        self.arena_offset = layout.at("arena", self.read(self.entry + self.words["arena"].at))
        # A window of its own onto the beginning of the arena: the worker's may come and go.
        name = next(fd for fd in os.listdir("/proc/self/fd") if is_the_memory(fd))
        self.window = mmap.mmap(int(name), WINDOW_BYTES, offset=self.arena_offset)
        self.arena = ctypes.addressof(ctypes.c_char.from_buffer(self.window))
        self.arena_bytes = arena_bytes

    def read(self, at: int) -> int:
        return ctypes.c_uint64.from_address(at).value

    def write(self, at: int, n: int, value: int) -> None:
        ctypes.memmove(at, (value & ((1 << 8 * n) - 1)).to_bytes(n, "little"), n)

    def write_result(self, slot: int, offset: int, n: int, kind: int) -> None:
        """What says where a result's payload is, how long it is, and how it is encoded."""
        for name, written in ("offset", offset), ("bytes", n), ("kind", kind):
            at, size = self.result[name]
            self.write(slot + at, size, written)

    def slot(self, i: int) -> int:
        return self.slots[i % len(self.slots)]

    def newest(self) -> int:
        """The slot that was published last."""
        return max(range(len(self.slots)), key=lambda i: self.read(self.slots[i] + self.result["seq"].at))


def value(chance: random.Random, near: int) -> int:
    return chance.choice(
        [
            chance.choice(EDGES),
            near + chance.randrange(-9, 10),
            near ^ 1 << chance.randrange(64),
            chance.getrandbits(64),
        ]
    )


def scribble_once(memory: Memory, chance: random.Random) -> None:
    what = chance.randrange(7)
    if what == 0:  # a field of a result that is there or is about to be
        slot = memory.slot(memory.newest() + chance.randrange(-2, 4))
        at, n = chance.choice([*memory.result.values()])
        memory.write(slot + at, min(n, 8), value(chance, memory.read(slot + at)))
    elif what == 1:  # another result again, or one too early
        slot = memory.newest()
        source = memory.slot(slot - chance.randrange(3))
        body, seq = memory.result["task_id"].at, memory.result["seq"].at  # all but the first word, which goes last
        end = memory.slots[1] - memory.slots[0]
        ctypes.memmove(memory.slot(slot + 1) + body, ctypes.string_at(source + body, end - body), end - body)
        memory.write(memory.slot(slot + 1) + seq, 8, memory.read(memory.slot(slot) + seq) + 1)
    elif what == 2:  # a result that leads into the arena, or past it
        slot = memory.slot(memory.newest() + chance.randrange(2))
        offset = memory.arena_offset + chance.choice([0, 512, 1024, 16384, memory.arena_bytes - 8, memory.arena_bytes])
        memory.write_result(slot, offset + chance.choice([0, 0, -8, 1]), value(chance, 1000), chance.randrange(9))
    elif what == 3:  # what a block begins with: the head of a parcel, a tray, a compact form, a pickle
        at = memory.arena + 512 * chance.randrange(64) + 8 * chance.randrange(12)
        memory.write(at, 8, value(chance, memory.read(at)))
    elif what == 4:  # a parcel of one's own making, and a result that leads to it
        at = memory.arena + 16384 * chance.randrange(8)
        count = chance.choice([0, 1, 2, 16, 17, 1 << 31])
        memory.write(at, 8, chance.choice([1, 2]) | count << 32)
        memory.write(at + 8, 8, chance.choice([4, 0, value(chance, 100)]))
        for k in range(min(count, 17)):
            size = chance.choice([16384, 20_000, memory.arena_bytes, value(chance, 16384)])
            memory.write(at + 16 + 24 * k, 8, size << 1 | chance.randrange(2))
            memory.write(
                at + 24 + 24 * k, 8, memory.arena_offset + chance.choice([0, 16384, 32768, value(chance, 16384)])
            )
        slot = memory.slot(memory.newest() + chance.randrange(2))
        n = chance.choice([16, 44, 68, 424, 20_000, value(chance, 68)])
        memory.write_result(slot, memory.arena_offset + at - memory.arena, n, 2)
    elif what == 5:  # this worker's words, but the bell and the place of its arena
        first, end = memory.words["current"].at, memory.words["interrupted"].at
        at = memory.entry + chance.randrange(first, end, 8)
        memory.write(at, 8, value(chance, memory.read(at)))
    else:  # those of a chunk
        name = chance.choice(["range", "chunk", "tray"])
        at = memory.entry + memory.words[name].at
        near = memory.arena_offset if name == "tray" else memory.read(at)
        memory.write(at, 8, value(chance, near))


def scribble(seed: int, n_workers: int, arena_bytes: int, seconds: float) -> None:
    """Has this worker write wildly from now on, whatever else it does, until it is killed or the time is up."""
    memory, chance = Memory(n_workers, arena_bytes), random.Random(seed)

    def go_on() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(chance.randrange(1, 5)):
                scribble_once(memory, chance)
            time.sleep(chance.choice([0, 0.0001, 0.001]))

    threading.Thread(target=go_on, daemon=True).start()


def mute() -> None:
    """Initializer: a worker that has spoiled its own memory may say anything, and only what the parent says counts."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def echo(data: Any) -> Any:
    return data


def work(seed: int) -> Any:
    """Results of all kinds and sizes."""
    chance = random.Random(seed)
    data = chance.randbytes(chance.choice([0, 50, 200, 5000, 100_000, 400_000]))
    with contextlib.suppress(IndexError):
        return [data, {"n": seed, "data": data}, bytearray(data), "text" * len(data), (seed, {seed})][
            chance.randrange(7)
        ]
    raise ValueError(data)
