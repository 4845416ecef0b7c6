"""The allocator, and the lives of blocks, beside models of them, in sequences that Hypothesis makes up."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import signal
from contextlib import suppress
from typing import Any

import pytest
import tasks_views as tasks
from compiling import shared_library
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from hypothesis.stateful import run_state_machine_as_test as run
from limits import LIMIT
from tasks_views import Buffers
from waiting import wait_until

from ringpool import ProcessPoolExecutor, WorkerDied

KIB, MIB = 1 << 10, 1 << 20


# ---- the allocator ----


class Segment(ctypes.Structure):
    """The beginning of struct rp_segment."""

    _fields_ = (
        ("recent", ctypes.c_uint64 * 6),
        ("fd", ctypes.c_int),
        ("base", ctypes.c_void_p),
        ("fixed", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("file", ctypes.c_uint64 * 2),
        ("start", ctypes.c_uint64),
        ("stride", ctypes.c_uint64),
        ("windows", ctypes.c_void_p),
        ("capacity", ctypes.c_uint32),
        ("used", ctypes.c_uint32),
        ("shifts", ctypes.c_uint64),
        ("mapped", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 16),
    )


class Arena(ctypes.Structure):
    """The beginning of struct rp_arena."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("units", ctypes.c_uint32),
        ("top", ctypes.c_uint32),
        ("grain_shift", ctypes.c_uint32),
        ("used_bytes", ctypes.c_uint64),
        ("used_blocks", ctypes.c_uint64),
        ("resident", ctypes.c_uint64),
        ("busy", ctypes.c_uint64),
        ("keep", ctypes.c_uint64),
        ("quota", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 256),
    )


@pytest.fixture(scope="module")
def library() -> Any:
    library = ctypes.CDLL(str(shared_library("arena", ["arena.c", "segment.c", "os.c", "tree.c"])))
    u64, pointer = ctypes.c_uint64, ctypes.c_void_p
    library.rp_segment_create.argtypes = [pointer, u64, u64, u64]
    library.rp_segment_divide.argtypes = [pointer, u64, u64]
    library.rp_segment_destroy.argtypes = [pointer]
    library.rp_segment_find.argtypes = [pointer, u64, u64]
    library.rp_segment_find.restype = pointer
    library.rp_os_map.argtypes = [ctypes.c_int, u64, u64, pointer]
    library.rp_os_unmap.argtypes = [pointer, u64]
    library.rp_arena_init.argtypes = [pointer, u64, u64, pointer, u64, u64]
    library.rp_arena_alloc.argtypes = [pointer, u64, pointer]
    library.rp_arena_free.argtypes = [pointer, u64, pointer]
    library.rp_arena_check.argtypes = [pointer]
    library.rp_arena_destroy.argtypes = [pointer]
    return library


def size_of_block(n: int) -> int:
    return max(512, 1 << (n - 1).bit_length())


def allocator(library: Any) -> type[RuleBasedStateMachine]:
    class Allocator(RuleBasedStateMachine):
        """Blocks are filled with what tells them apart, at both ends."""

        blocks = Bundle("blocks")
        BASE = 3 * MIB
        BYTES = 4 * MIB
        PAGE = 4096

        @initialize(
            quota=st.sampled_from([MIB, 3 * MIB, 4 * MIB, 64 * MIB]),
            keep=st.sampled_from([0, 64 * KIB, 512 * KIB, 4 * MIB]),
        )
        def begin(self, quota: int, keep: int) -> None:
            self.segment, memory = Segment(), ctypes.c_void_p()
            segment = ctypes.byref(self.segment)
            assert library.rp_segment_create(segment, self.BASE + self.BYTES, self.PAGE, 1) == 0
            library.rp_segment_divide(segment, self.BASE, self.BYTES)
            # All of it, for the test: the allocator's own windows come and go.
            assert library.rp_os_map(self.segment.fd, self.BASE, self.BYTES, ctypes.byref(memory)) == 0
            self.memory = memory.value or 0
            self.arena = Arena()
            code = library.rp_arena_init(ctypes.byref(self.arena), self.BASE, self.BYTES, segment, quota, keep)
            assert code == 0
            self.quota, self.keep = quota, keep
            self.live: dict[int, tuple[int, bytes]] = {}
            self.numbers = 0

        def teardown(self) -> None:
            if not hasattr(self, "arena"):
                return
            for offset in list(self.live):
                self.free(offset)
            offset = ctypes.c_uint64()
            assert self.arena.busy == 0
            most = min(self.quota, self.BYTES)
            assert library.rp_arena_alloc(ctypes.byref(self.arena), most, ctypes.byref(offset)) == 0
            assert offset.value == self.BASE
            library.rp_arena_destroy(ctypes.byref(self.arena))
            library.rp_os_unmap(self.memory, self.BYTES)
            library.rp_segment_destroy(ctypes.byref(self.segment))

        @rule(
            target=blocks,
            n=st.one_of(st.integers(1, 2000), st.integers(1, 300_000), st.sampled_from([MIB, 2 * MIB, 4 * MIB])),
        )
        def alloc(self, n: int) -> Any:
            offset = ctypes.c_uint64()
            code = library.rp_arena_alloc(ctypes.byref(self.arena), n, ctypes.byref(offset))
            if code:
                assert code == (-errno.E2BIG if n > self.quota else -errno.ENOMEM)
                most = min(self.quota, self.BYTES)
                assert self.used() + size_of_block(n) > most // 2 or len(self.live) > 1 or n > most // 2
                return multiple()
            at, size = offset.value, size_of_block(n)
            assert at % 512 == 0 and (at - self.BASE) % size == 0 and self.BASE <= at <= self.BASE + self.BYTES - size
            for other, (m, _) in self.live.items():
                assert at + size <= other or other + size_of_block(m) <= at, "two blocks overlap"
            self.numbers += 1
            mark = self.numbers.to_bytes(8, "little")
            self.live[at] = (n, mark)
            if n >= 16:
                ctypes.memmove(self.address(at), mark, 8)
                ctypes.memmove(self.address(at) + n - 8, mark, 8)
            return at

        @rule(at=consumes(blocks))
        def free(self, at: int) -> None:
            n, mark = self.live.pop(at)
            if n >= 16:
                assert ctypes.string_at(self.address(at), 8) == mark == ctypes.string_at(self.address(at) + n - 8, 8)
            size = ctypes.c_uint64()
            assert library.rp_arena_free(ctypes.byref(self.arena), at, ctypes.byref(size)) == 0
            assert size.value == size_of_block(n)
            idle = self.arena.resident - self.arena.busy
            assert idle <= max(self.keep, 64 * KIB * (len(self.live) + 2) + self.keep)

        @rule(
            at=st.one_of(
                st.integers(0, 8 * MIB), st.sampled_from([0, 2**64 - 512, 2**63]), blocks.map(lambda at: at + 512)
            )
        )
        def free_what_is_no_block(self, at: int) -> None:
            if at in self.live:
                return
            size = ctypes.c_uint64()
            assert library.rp_arena_free(ctypes.byref(self.arena), at, ctypes.byref(size)) == -errno.EINVAL

        @rule(n=st.integers(4 * MIB + 1, 2**64 - 1))
        def alloc_too_much(self, n: int) -> None:
            offset = ctypes.c_uint64()
            assert library.rp_arena_alloc(ctypes.byref(self.arena), n, ctypes.byref(offset)) == -errno.E2BIG

        @invariant()
        def books_agree(self) -> None:
            if hasattr(self, "arena"):
                assert library.rp_arena_check(ctypes.byref(self.arena)) == 0
                assert self.arena.used_blocks == len(self.live) and self.arena.used_bytes == self.used()
                assert os.fstat(self.segment.fd).st_blocks * 512 - self.PAGE <= self.arena.resident
                assert self.segment.mapped <= 4 * self.BYTES
                for at, (n, _) in self.live.items():  # what is in use has an address
                    mapped = self.segment.mapped
                    assert library.rp_segment_find(ctypes.byref(self.segment), at, n)
                    assert self.segment.mapped == mapped

        def used(self) -> int:
            return sum(size_of_block(n) for n, _ in self.live.values())

        def address(self, at: int) -> int:
            return self.memory + at - self.BASE

    return Allocator


@pytest.mark.deadline(150)
def test_the_allocator_keeps_to_its_model(library):
    run(
        allocator(library), settings=settings(max_examples=120, stateful_step_count=60, deadline=None, derandomize=True)
    )


@pytest.mark.slow
@pytest.mark.deadline(900)
def test_the_allocator_keeps_to_its_model_for_long(library):
    run(allocator(library), settings=settings(max_examples=5000, stateful_step_count=100, deadline=None))


# ---- the lives of blocks ----

SIZES = st.lists(st.sampled_from([0, 100, 16 * KIB, 20_000, 100_000, 300_000]), min_size=1, max_size=3)


class Lives(RuleBasedStateMachine):
    """One pool; whatever happens, nothing that is kept changes, and in the end no block is left. (Hypothesis is given
    numbers only, so that it keeps nothing.)"""

    futures = Bundle("futures")
    values = Bundle("values")
    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.executor = ProcessPoolExecutor(2)
        self.functions: set[Any] = set()
        self.things: dict[int, tuple[Any, list[int]]] = {}
        self.numbers = 0

    def submit(self, fn: Any, *args: Any) -> Any:
        self.functions.add(fn)
        return self.executor.submit(fn, *args)

    def value(self, sizes: list[int]) -> tuple[Buffers, list[int]]:
        self.numbers += 10
        value = tasks.make(*sizes, seed=self.numbers)
        return value, crcs(value)

    def note(self, thing: Any, expected: list[int]) -> int:
        self.numbers += 1
        self.things[self.numbers] = thing, expected
        return self.numbers

    @rule(target=futures, sizes=SIZES, options=st.booleans())
    def echo(self, sizes: list[int], options: bool) -> int:
        value, expected = self.value(sizes)
        if not options:
            return self.note(self.submit(tasks.same, value), expected)
        self.functions.add(tasks.same)
        return self.note(self.executor.options(retries=1).submit(tasks.same, value), expected)

    @rule(target=futures, sizes=SIZES)
    def echo_items(self, sizes: list[int]) -> Any:
        values = [self.value(sizes) for _ in range(3)]
        self.functions.add(tasks.same)
        futures = self.executor.submit_many(tasks.same, [(value,) for value, _ in values])
        return multiple(*map(self.note, futures, [expected for _, expected in values]))

    @rule(target=values, number=consumes(futures))
    def read(self, number: int) -> Any:
        future, expected = self.things.pop(number)
        try:
            value = future.result(LIMIT)
        except WorkerDied:
            return multiple()
        assert crcs(value) == expected
        return self.note(value, expected)

    @rule(number=consumes(futures))
    def drop_unread(self, number: int) -> None:
        del self.things[number]

    @rule(number=consumes(futures))
    def cancel(self, number: int) -> None:
        self.things.pop(number)[0].cancel(running=True)

    @rule(number=values)
    def look(self, number: int) -> None:
        value, expected = self.things[number]
        assert crcs(value) == expected

    @rule(number=consumes(values))
    def drop(self, number: int) -> None:
        self.look(number)
        del self.things[number]

    @rule(number=values)
    def drop_a_part(self, number: int) -> None:
        value, expected = self.things[number]
        del value.buffers[:1], expected[:1]

    @rule(sizes=SIZES)
    def keep_in_a_worker(self, sizes: list[int]) -> None:
        with suppress(WorkerDied):
            self.submit(tasks.keep, self.value(sizes)[0]).result(LIMIT)

    @rule()
    def forget_in_a_worker(self) -> None:
        with suppress(WorkerDied):
            self.submit(tasks.forget).result(LIMIT)

    @rule(sizes=SIZES)
    def fail(self, sizes: list[int]) -> None:
        with suppress(ValueError, WorkerDied):
            self.submit(tasks.fail, self.value(sizes)[0]).result(LIMIT)

    @rule(sizes=SIZES)
    def die(self, sizes: list[int]) -> None:
        with suppress(WorkerDied):
            self.submit(tasks.die, self.value(sizes)[0]).result(LIMIT)

    @rule(target=handles, sizes=SIZES)
    def share(self, sizes: list[int]) -> int:
        value, expected = self.value(sizes)
        return self.note(self.executor.share(value), expected)

    @rule(number=handles)
    def use(self, number: int) -> None:
        handle, expected = self.things[number]
        with suppress(WorkerDied):
            assert crcs(self.submit(tasks.same, handle).result(LIMIT)) == expected

    @rule(number=consumes(handles))
    def end_share(self, number: int) -> None:
        self.submit(tasks.same, self.things.pop(number)[0])

    def teardown(self) -> None:
        client = self.executor._client
        self.things.clear()
        try:
            wait_until(lambda: client.pending == 0, "nothing pending")
            for process in self.executor._supervisor.processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)  # and with them, what they keep
            wait_until(lambda: gc.collect() >= 0 and client.results.blocks_of_workers == 0, "no blocks of workers")
            wait_until(lambda: client.segment.blocks_lent == 0, "no loans")
            wait_until(lambda: client.segment.blocks <= len(self.functions), "no blocks but those of functions")
        finally:
            self.executor.shutdown()


def crcs(value: Buffers) -> list[int]:
    return [tasks.crc(buffer) for buffer in value.buffers]


def lives(examples: int, steps: int, **more: Any) -> None:
    checks = [HealthCheck.too_slow]
    run(
        Lives,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, **more
        ),
    )


@pytest.mark.deadline(150)
@pytest.mark.parametrize("share", [4 * MIB, 400 * KIB])  # half of the results, and all that are large, need a loan then
def test_blocks_live_as_long_as_they_are_used_and_no_longer(arenas_of, share):
    arenas_of(4 * MIB, overflow=4 * MIB, share=share)
    lives(25, 25, derandomize=True)


@pytest.mark.slow
@pytest.mark.deadline(900)
@pytest.mark.parametrize("share", [4 * MIB, 400 * KIB])
def test_the_same_for_long(arenas_of, share):
    arenas_of(64 * MIB, overflow=4 * MIB, share=share)  # what 500 steps share may come to more than 4 MiB
    lives(500, 50)
