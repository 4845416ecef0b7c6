"""How far a map has come: a bar by tqdm, or calls of a function."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Progress: TypeAlias = bool | Callable[[int, int | None], object] | None

_EVERY_S = 0.1  # as often as tqdm draws


class Meter:
    """Tells how many items are done.

    Args:
        progress: True for a bar, or what is called with (items done, items or None).
        total: Items, None if not known.

    Raises:
        TypeError: progress is neither True nor callable.
        ImportError: A bar is wanted, and tqdm is not installed.
    """

    every_s = _EVERY_S

    def __init__(self, progress: Progress, total: int | None) -> None:
        self._bar: Any = None
        self._tell: Callable[[int, int | None], object] = self._draw
        if progress is True:
            self._bar = _bar(total)
        elif callable(progress):
            self._tell = progress
        else:
            raise TypeError(f"progress must be a bool or a function, not {type(progress).__name__}")
        self._total = total
        self._next = 0.0

    def show(self, done: int) -> None:
        """Tells it, if the last time is long enough ago."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY_S
            self._tell(done, self._total)

    def finish(self, done: int) -> None:
        """Tells that these were all."""
        self._tell(done, done)
        self.close()

    def close(self) -> None:
        """Nothing more will be told. The bar stays as it is."""
        if self._bar is not None:
            self._bar.close()

    def _draw(self, done: int, total: int | None) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)


def _bar(total: int | None) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("a progress bar needs tqdm: pip install 'ringpool[progress]'") from error
    return tqdm(total=total)
