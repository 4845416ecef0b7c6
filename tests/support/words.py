"""The shared words of a pool, seen from outside: for a test that waits for one, or makes a task older than it is, and
for the report of one that hangs.

The places follow the map and the structures in csrc/map.h; test_storm.py checks them against a pool that runs.
"""

from __future__ import annotations

import mmap
import struct

LINE, PAGE = 128, 4096
SLOTS, SLOT_BYTES = 1024, 256
SHARED = PAGE
BOARD = 2 * PAGE
ENTRIES = BOARD + -(-(LINE + SLOTS * SLOT_BYTES) // PAGE) * PAGE
ENTRY_BYTES = 5 * LINE
MASK_BYTES = 2048 // 8
RING_BYTES = -(-(LINE + 1024 * 128) // PAGE) * PAGE


class Words:
    """A view of a pool's memory; a context manager.

    Args:
        client: The `_core.Client` of a pool that has not ended.
    """

    def __init__(self, client) -> None:
        client.create()  # if it was not used before
        self.n_workers = client.segment.n_places
        entries_end = ENTRIES + -(-self.n_workers * ENTRY_BYTES // PAGE) * PAGE
        self.rings = entries_end
        self.map = mmap.mmap(client.segment.memfd, entries_end + self.n_workers * RING_BYTES)

    def __enter__(self) -> Words:
        return self

    def __exit__(self, *_) -> None:
        self.map.close()

    def word(self, at: int) -> int:
        return struct.unpack_from("<Q", self.map, at)[0]

    def shared(self) -> dict[str, int]:
        at = SHARED
        return {
            "stop": self.word(at),
            "collect": self.word(at + 8),
            "refill_pos": self.word(at + 24),
            "leader sleeps": self.word(at + LINE) & 0xFFFFFFFF,
            "collector sleeps": self.word(at + 2 * LINE) & 0xFFFFFFFF,
            "sleepers": self.word(at + 3 * LINE),
            "ready": self.word(at + 3 * LINE + MASK_BYTES),
            "waking": self.word(at + 3 * LINE + 2 * MASK_BYTES),
            "claim_pos": self.word(BOARD),
        }

    def worker(self, w: int) -> dict[str, int]:
        at = ENTRIES + w * ENTRY_BYTES
        return {
            "sleeps": self.word(at) & 0xFFFFFFFF,
            "current": self.word(at + LINE),
            "started_ns": self.word(at + LINE + 8),
            "state": self.word(at + 2 * LINE),
            "waits_space": self.word(at + 2 * LINE + 16),
            "wants_memory": self.word(at + 2 * LINE + 24),
            "retiring": self.word(at + 2 * LINE + 32),
            "raised": self.word(at + 2 * LINE + 40),
            "releases": self.word(at + 2 * LINE + 56),
            "loan_bytes": self.word(at + 2 * LINE + 72),
            "interrupted": self.word(at + 3 * LINE),
            "condemned": self.word(at + 3 * LINE + 16),
            "successor": self.word(at + 3 * LINE + 24),
            "dismissed": self.word(at + 3 * LINE + 32),
            "turn": self.word(at + 3 * LINE + 40),
            "granted": self.word(at + 3 * LINE + 56),
            "lent": self.word(at + 3 * LINE + 64),
            "range": self.word(at + 4 * LINE),
            "chunk": self.word(at + 4 * LINE + 8),
            "tray": self.word(at + 4 * LINE + 16),
            "results read": self.word(self.rings + w * RING_BYTES),
            "results written": max(self.word(self.rings + w * RING_BYTES + LINE + i * 128) for i in range(1024)),
        }

    def age(self, w: int, seconds: float) -> None:
        """The task with a time limit that a worker runs began so much earlier than it did."""
        at = ENTRIES + w * ENTRY_BYTES + LINE + 8
        started_ns = self.word(at)
        assert started_ns, "the worker runs no task that has a time limit"
        struct.pack_into("<Q", self.map, at, max(started_ns - int(seconds * 1e9), 1))

    def board(self) -> dict[str, int]:
        """How many slots are in which state, and how many each worker has claimed."""
        found: dict[str, int] = {}
        for i in range(SLOTS):
            word = self.word(BOARD + LINE + i * SLOT_BYTES)
            state, owner = word & 0xFF, word >> 8 & 0xFFFF
            name = ("free", "ready", f"claimed by {owner - 1}")[state] if state < 3 else "spoilt"
            found[name] = found.get(name, 0) + 1
        return found

    def __str__(self) -> str:
        lines = [f"shared  {self.shared()}", f"board   {self.board()}"]
        lines += [f"worker {w}  {self.worker(w)}" for w in range(self.n_workers)]
        return "\n".join(lines)
