"""How much shared memory a pool may take, and how that is divided.

Guarantees: the sizes that it gives never add up to more than the limit, and each process of the pool has room for
`QUOTA_MIN` bytes of payloads. Does not: take any memory, or look at how much is free; the pages are taken when they are
written to.
"""

from __future__ import annotations

from ringpool import _core, machine

# The part of the memory that the program may use which a pool takes at most, by default: the rest is for what its tasks
# compute.
SHARE = 0.5

QUOTA_MIN = 1 << 19  # bytes of payloads that each process of a pool must have room for; arbitrary
ARENA_MAX = 64 << 30  # bytes from the beginning of one arena to the next's, in a sparse file; arbitrary
ROOMY = 4  # addresses for each byte of memory: blocks are found, however those in use are spread


def sizes(n_places: int, shared_memory_limit: int | None = None) -> tuple[int, int, int, int]:
    """The `sizes` of a `_core.Client` that takes no more than the limit.

    Half of it is for arguments, and a quarter for large results of any worker. The rest is for other results: a quota
    for each worker, and half a quota for each spare arena, which is what a dead worker can have left in use.
    """
    halves = 2 * n_places + _core.arenas(n_places) - n_places - 2
    least = _core.fixed_bytes(n_places) + 2 * halves * QUOTA_MIN
    if shared_memory_limit is None:
        shared_memory_limit = max(least, int(SHARE * machine.usable_memory()))
    elif shared_memory_limit < least:
        raise ValueError(
            f"shared_memory_limit={shared_memory_limit} is too small for {n_places} worker processes: it must be at "
            f"least {least}"
        )
    room = min(shared_memory_limit, 1 << 62) - _core.fixed_bytes(n_places)
    arena = min(ARENA_MAX, 1 << (ROOMY * (room // 2) - 1).bit_length())
    return arena, room // 2, room // (2 * halves), room // 4
