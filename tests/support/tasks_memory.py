"""What the workers of test_codec.py and test_memory.py run. Spawned workers import it: it imports nothing of pytest."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from typing import Any


def echo(*args: Any, **kwargs: Any) -> Any:
    """Returns what it is called with: the positional arguments, and the keyword arguments too if there are any."""
    return (args, kwargs) if kwargs else args


def same(value: Any) -> Any:
    return value


def pattern(n: int, seed: int = 0) -> bytes:
    """n bytes that differ from block to block and from seed to seed, so that no mix-up goes unseen."""
    word = hashlib.sha256(b"%d" % seed).digest()
    whole = bytearray(word * (n // len(word) + 1))
    for at in range(0, n - 8, 4096):
        whole[at : at + 8] = at.to_bytes(8, "little")
    return bytes(whole[:n])


def digest(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.sha256(data).hexdigest()


class Blob:
    """Its data pickles as a buffer, which protocol 5 may leave out of the pickle."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: int) -> tuple[type[Blob], tuple[Any]]:
        return type(self), (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and bytes(self.data) == bytes(other.data)

    __hash__ = None  # type: ignore[assignment]

    @property
    def readonly(self) -> bool:
        return memoryview(self.data).readonly


def length(blob: Blob) -> int:
    return len(blob.data)


def kinds(blobs: list[Blob]) -> list[tuple[bool, str]]:
    """Of each whether it is read-only, and its digest, after those that are not have been written to."""
    found = [(blob.readonly, digest(bytes(blob.data))[1]) for blob in blobs]
    for blob in blobs:
        if not blob.readonly and len(blob.data):
            blob.data[0] ^= 0xFF
    return found


def make_blob(n: int, seed: int | None = None) -> Blob:
    return Blob(bytes(n) if seed is None else pattern(n, seed))


def die_once(path: str, value: Any) -> Any:
    if not os.path.exists(path):
        with open(path, "x"):
            os._exit(3)
    return value


class Unpicklable(Exception):
    """Holds what no pickler takes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.frame = (each for each in text)


class Particular(Exception):
    """Its arguments are not those of its __init__, but it says how to make it again."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} failed with {code}")
        self.name = name
        self.code = code

    def __reduce__(self) -> tuple[type[Particular], tuple[str, int]]:
        return Particular, (self.name, self.code)


class Forgetful(Exception):
    """As `Particular`, but does not say so: it pickles and never unpickles."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} failed with {code}")


class Nameless(Exception):
    """Can be neither shown nor pickled."""

    def __repr__(self) -> str:
        raise ValueError("no repr")

    __str__ = __repr__

    def __reduce__(self) -> Any:
        raise Nameless


class Impostor(Exception):
    """Unpickles as something that is no exception."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return str, ("not an exception",)


def throw(kind: type[BaseException], *args: Any) -> None:
    raise kind(*args)


def throw_long(n: int) -> None:
    raise ValueError("x" * n)


def consume(data: Any, seed: int) -> tuple[int, str, int]:
    """The digest of an argument, with the seed to tell the tasks apart."""
    return *digest(data), seed


def array(n: int, seed: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed).random((n, 3))


def transposed(values: Any) -> Any:
    return values.T


# What `Gate` does where it is unpickled; a test sets it in its own process, so it stays None in the workers.
at_the_gate: Callable[[], object] | None = None


def pass_the_gate() -> str:
    if at_the_gate is not None:
        at_the_gate()
    return "passed"


class Gate:
    """Lets its reader do something during the unpickling."""

    def __reduce__(self) -> tuple[Callable[[], str], tuple[()]]:
        return pass_the_gate, ()


def gated(n: int, seed: int) -> tuple[Gate, list[bytes]]:
    """A result that is read in two steps, with whatever happens at the gate between them."""
    return Gate(), [pattern(n, seed)]


def exit_with(code: int, data: bytes) -> None:
    """Ends the worker, unless the code is 0."""
    if code:
        os._exit(code)
