"""Tasks of test_descriptors.py, and what it looks at."""

import contextlib
import multiprocessing
import os


def descriptors() -> list[str]:
    """What this process has open, but the listing itself, and what a worker's guard looks at once a second."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [name for name in found if not name.startswith("/proc/")]


def parent_lives() -> tuple[int | None, bool]:
    """What multiprocessing says of this worker's parent."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    return parent.pid, parent.is_alive()
