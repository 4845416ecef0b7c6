"""Files by which tests and tasks tell each other how far they are. Imports nothing that a test may be about."""

from __future__ import annotations

import os
import time

from limits import LONG_S


def await_file(path: str | os.PathLike[str]) -> None:
    """Returns when the file is there. A task that runs until its test says so, on a machine of any speed.

    Raises:
        TimeoutError: It is not there after LONG_S.
    """
    deadline = time.monotonic() + LONG_S
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the file {path} never came to be")
        time.sleep(0.002)
