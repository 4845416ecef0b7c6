"""What the workers of test_memoryview.py and test_libraries.py run, and the objects that both sides make. Spawned
workers import it: it imports nothing of pytest, and pandas and Arrow only where they are used."""

from __future__ import annotations

import array
import ctypes
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

N = 20_000  # elements: enough for each buffer of them to leave the pickle
LARGE = 16384  # bytes that are


def same(value: Any) -> Any:
    return value


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def in_pool(address: int) -> bool:
    """Whether this address lies in the shared memory of a pool."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/memfd:ringpool" in line:
            begin, end = (int(each, 16) for each in line.split()[0].split("-"))
            if begin <= address < end:
                return True
    return False


# ---- memoryviews ----


class Pair(ctypes.Structure):
    _fields_ = (("first", ctypes.c_int), ("second", ctypes.c_double))


@dataclasses.dataclass
class Record:
    name: str
    data: memoryview


class Failure(Exception):
    """Carries its data as an argument and as an attribute."""

    def __init__(self, data: memoryview) -> None:
        super().__init__(data)
        self.data = data


def numbers(n: int = N) -> memoryview:
    """A writable one of 8 n bytes."""
    return memoryview(array.array("q", range(n)))


def fields(n: int) -> np.ndarray:
    made = np.zeros(n, [("O", "i4"), ("value", "f8")])
    made["value"] = np.arange(n)
    return made


MEMORYVIEWS: dict[str, Callable[[], memoryview]] = {
    "bytes": lambda: memoryview(b"abc"),
    "bytearray": lambda: memoryview(bytearray(b"abc")),
    "part": lambda: memoryview(bytearray(b"abcdef"))[2:4],
    "array": lambda: numbers(5),
    "native": lambda: memoryview(bytes(range(8))).cast("@i"),
    "chars": lambda: memoryview(b"abcdef").cast("c", (2, 3)),
    "strided": lambda: memoryview(bytearray(range(10)))[::2],
    "backwards": lambda: numbers(5)[::-1],
    "strided bytes": lambda: memoryview(bytes(range(10)))[::3],
    "two dimensions": lambda: memoryview(np.arange(12.0).reshape(3, 4)),
    "fortran": lambda: memoryview(np.asfortranarray(np.arange(12.0).reshape(3, 4))),
    "permuted": lambda: memoryview(np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)),
    "repeated": lambda: memoryview(np.broadcast_to(np.arange(3), (4, 3))),
    "one": lambda: memoryview(bytearray(4)).cast("i", []),
    "of ctypes": lambda: memoryview((ctypes.c_long * 3)(1, 2, 3)),
    "one of ctypes": lambda: memoryview(ctypes.c_short(5)),
    "structures": lambda: memoryview((Pair * 3)()),
    "fields": lambda: memoryview(fields(5)),
    "strided fields": lambda: memoryview(fields(5)[::2]),
    "big-endian": lambda: memoryview(np.arange(5, dtype=">i4")),
    "halves": lambda: memoryview(np.ones(5, "e")),
    "complex": lambda: memoryview(np.ones(5, "F")),
    "long doubles": lambda: memoryview(np.zeros(5, "g")),  # with its padding
    "text": lambda: memoryview(np.array(["ab", "c"])),
    "characters": lambda: memoryview((ctypes.c_wchar * 2)("a", "b")),
    "sixty-four dimensions": lambda: memoryview(b"ab").cast("B", [1] * 63 + [2]),
    "nothing": lambda: memoryview(b""),
    "nothing, writable": lambda: memoryview(bytearray()),
    "nothing of ints": lambda: memoryview(b"").cast("i"),
    "no rows": lambda: memoryview(np.zeros((0, 3))),
    "no columns": lambda: memoryview(np.zeros((3, 0, 2))),
    "elements of no size": lambda: memoryview(np.zeros(3, "V0")),
    "nothing of fields": lambda: memoryview(fields(0)),
    "large bytes": lambda: memoryview(bytes(range(256)) * 200),
    "large array": numbers,
    "large, strided": lambda: numbers(2 * N)[::2],
    "large fields": lambda: memoryview(fields(N)),
    "large, two dimensions": lambda: memoryview(np.arange(float(N)).reshape(100, -1)),
    "large fortran": lambda: memoryview(np.asfortranarray(np.arange(float(N)).reshape(100, -1))),
}


def facts(view: memoryview) -> tuple[Any, ...]:
    """What must be the same at the receiver's."""
    return type(view), view.format, view.itemsize, view.shape, view.tobytes()


def facts_of(view: memoryview) -> tuple[Any, ...]:
    """The same, of an argument; then whether it is in C's order, read-only, and used where it lies."""
    return *facts(view), view.c_contiguous, view.readonly, in_pool(address(view))


def address(view: memoryview) -> int:
    return int(np.frombuffer(view.obj, np.uint8).ctypes.data) if view.nbytes else 0


def overwrite(view: memoryview) -> bytes:
    """Writes to all of it."""
    np.frombuffer(view, np.uint8)[:] = 1
    return view.tobytes()


def make_view(name: str) -> memoryview:
    return MEMORYVIEWS[name]()


def fail_with(view: memoryview) -> None:
    raise Failure(view)


_kept: Any = None


def keep(value: Any) -> None:
    global _kept
    _kept = value


def kept_facts() -> tuple[Any, ...]:
    return facts(_kept)


# ---- arrays ----


class Measured(np.ndarray):
    """A subclass that adds nothing."""


def fixed(made: np.ndarray) -> np.ndarray:
    made.flags.writeable = False
    return made


def of_an_image(size: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.new("RGB", (size, size)))


def of_a_frame(n: int) -> np.ndarray:
    import pandas as pd

    return fixed(pd.DataFrame({"a": np.arange(n)})["a"].to_numpy())  # as it is without being told, from pandas 3 on


# None can be written to where it is made.
READ_ONLY: dict[str, Callable[[], np.ndarray]] = {
    "small": lambda: fixed(np.arange(3)),
    "compact": lambda: fixed(np.arange(4000)),
    "large": lambda: fixed(np.arange(N)),
    "small from a buffer": lambda: np.frombuffer(bytes(24)),
    "large from a buffer": lambda: np.frombuffer(bytes(8 * N)),
    "fortran": lambda: fixed(np.asfortranarray(np.arange(12).reshape(3, 4))),
    "large fortran": lambda: fixed(np.asfortranarray(np.arange(N).reshape(100, -1))),
    "permuted": lambda: fixed(np.arange(N).reshape(10, 20, -1).transpose(1, 2, 0)),
    "strided": lambda: fixed(np.arange(6)[::2]),
    "large strided": lambda: fixed(np.arange(2 * N)[::2]),
    "repeated": lambda: np.broadcast_to(np.arange(N), (2, N)),
    "records": lambda: fixed(fields(3)),
    "large records": lambda: fixed(fields(N)),
    "dates": lambda: fixed(days(3)),
    "large dates": lambda: fixed(days()),
    "text": lambda: fixed(np.array(["ab", "c"])),
    "objects": lambda: fixed(np.array([{1}, {2}])),
    "subclass": lambda: fixed(np.arange(N).view(Measured)),
    "image": lambda: of_an_image(5),
    "large image": lambda: of_an_image(200),
    "frame": lambda: of_a_frame(3),
    "large frame": lambda: of_a_frame(N),
}


def overwritten(made: np.ndarray) -> np.ndarray:
    """The array, after each of its elements has been written to."""
    made[...] = made
    return made


def days(n: int = N) -> np.ndarray:
    return np.arange(n).astype("M8[D]")


# How many buffers of each leave the pickle.
ARRAYS: dict[str, tuple[int, Callable[[], np.ndarray]]] = {
    "c": (1, lambda: np.arange(N).reshape(100, -1)),
    "fortran": (1, lambda: np.asfortranarray(np.arange(N).reshape(100, -1))),
    "big-endian": (1, lambda: np.arange(N, dtype=">i8")),
    "booleans": (1, lambda: np.arange(4 * N) % 3 == 0),
    "complex": (1, lambda: np.arange(N) * 1j),
    "text": (1, lambda: np.arange(N).astype("U")),
    "records": (1, lambda: fields(N)),
    "fixed": (1, lambda: fixed(np.arange(N))),
    "strided": (1, lambda: np.arange(2 * N)[::2]),
    "backwards": (1, lambda: np.arange(N)[::-1]),
    "strided, two dimensions": (1, lambda: np.arange(2 * N).reshape(100, -1)[:, ::2]),
    "strided records": (1, lambda: fields(2 * N)[::2]),
    "fixed, strided": (1, lambda: fixed(np.arange(2 * N)[::2])),
    "repeated": (1, lambda: np.broadcast_to(np.arange(N), (2, N))),
    "dates": (1, days),
    "fixed dates": (1, lambda: fixed(days())),
    "fortran dates": (1, lambda: np.asfortranarray(days().reshape(100, -1))),
    "strided dates": (1, lambda: days(2 * N)[::2]),
    "big-endian dates": (1, lambda: days().astype(">M8[s]")),
    "spans": (1, lambda: np.arange(N).astype("m8[s]")),
    "nothing": (0, lambda: np.empty((0, 5))),
    "few dates": (0, lambda: days(3)),
    "objects": (0, lambda: np.array([{i} for i in range(3000)])),
    "strided objects": (0, lambda: np.array([{i} for i in range(6000)])[::2]),
    "masked": (0, lambda: np.ma.array(np.arange(N), mask=np.arange(N) % 3 == 0)),
    "recarray": (0, lambda: fields(N).view(np.recarray)),
    "subclass": (0, lambda: np.arange(N).view(Measured)),
}


def array_facts(made: np.ndarray) -> tuple[Any, ...]:
    return type(made), made.dtype, made.shape, made.tolist(), np.ma.getmaskarray(made).tolist()


def make_array(name: str) -> np.ndarray:
    return ARRAYS[name][1]()


def check_array(name: str, made: np.ndarray) -> tuple[bool, bool, bool]:
    """Of an argument: is it what it should be, can it be written to, is it used where it lies?"""
    right = array_facts(made) == array_facts(make_array(name))
    return right, made.flags.writeable, in_pool(made.ctypes.data)


def reverse(made: np.ndarray) -> np.ndarray:
    made[:] = made[::-1].copy()
    return made


# ---- pandas ----


def column(name: str) -> Any:
    import pandas as pd

    made: dict[str, Callable[[], Any]] = {
        "int": lambda: np.arange(N),
        "int32": lambda: np.arange(N, dtype="i4"),
        "float": lambda: np.arange(N) * 0.5,
        "more": lambda: np.arange(N) * 0.25,
        "bool": lambda: np.arange(N) % 3 == 0,
        "text": lambda: [f"text {i}" for i in range(N)],
        "object": lambda: [(i,) for i in range(N)],
        "date": lambda: pd.date_range("2020-01-01", periods=N, freq="s"),
        "zoned": lambda: pd.date_range("2020-01-01", periods=N, freq="s", tz="Europe/Berlin"),
        "span": lambda: pd.to_timedelta(np.arange(N), unit="s"),
        "month": lambda: pd.period_range("1900-01", periods=N, freq="h"),
        "category": lambda: pd.Categorical.from_codes(np.arange(N) % 4, ["a", "b", "c", "d"]),
        "nullable": lambda: pd.array(np.arange(N), dtype="Int64"),
    }
    return pd.Series(made[name](), name=name)


COLUMNS = [
    *("int", "int32", "float", "more", "bool", "text", "object"),
    *("date", "zoned", "span", "month", "category", "nullable"),
]
IN_PLACE = [name for name in COLUMNS if name not in ("text", "object")]


def frame() -> Any:
    import pandas as pd

    return pd.DataFrame({name: column(name) for name in COLUMNS}, index=pd.Index(np.arange(N), name="at"))


def assert_same_frames(one: Any, other: Any) -> None:
    import pandas as pd

    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other)
    else:
        pd.testing.assert_index_equal(one, other)


def arrays_of(value: Any) -> list[np.ndarray]:
    """The arrays of numbers that a frame, a series or an index uses."""
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return [each for name in value for each in arrays_of(value[name])]
    held = value.array
    if isinstance(value.dtype, pd.CategoricalDtype):
        return [held.codes]
    if isinstance(value.dtype, pd.PeriodDtype):
        return [held.asi8]
    if hasattr(held, "_ndarray"):  # numbers, dates
        return [held._ndarray] if held._ndarray.dtype != object else []
    return [held._data, held._mask] if hasattr(held, "_mask") else []


def are_in_pool(value: Any) -> list[bool]:
    return [in_pool(each.ctypes.data) for each in arrays_of(value)]


def check_column(name: str, series: Any) -> list[bool]:
    assert_same_frames(series, column(name))
    return are_in_pool(series)


def first_to(value: Any, series: Any) -> Any:
    series.iloc[0] = value
    return series


def set_columns(made: Any) -> float:
    made.loc[:, "int"] = 7
    made["float"] += 1
    return float(made["int"].sum() + made["float"].sum())


# ---- Arrow ----


def arrow(name: str) -> Any:
    import pyarrow as pa

    numbers = np.arange(N)
    text = pa.array([f"text {i}" for i in range(N)])
    table = pa.table({"number": numbers, "text": text, "half": numbers * 0.5})
    made: dict[str, Callable[[], Any]] = {
        "table": lambda: table,
        "sliced table": lambda: table.slice(5, N // 2),
        "chunked table": lambda: pa.concat_tables([table, table.slice(7)]),
        "batch": lambda: table.to_batches()[0],
        "sliced batch": lambda: table.to_batches()[0].slice(5, N // 2),
        "array": lambda: pa.array(numbers),
        "sliced array": lambda: pa.array(numbers).slice(5, N // 2),
        "text": lambda: text,
        "with nulls": lambda: pa.array([None, 1] * N),
        "dictionary": lambda: pa.array(["a", "b"] * N).dictionary_encode(),
        "lists": lambda: pa.array([[i, i] for i in range(N)]),
        "structs": lambda: pa.array([{"a": i, "b": float(i)} for i in range(N)]),
        "dates": lambda: pa.array(days()),
        "chunked array": lambda: pa.chunked_array([numbers, numbers]),
        "nothing": lambda: pa.array([], pa.int64()),
        "buffer": lambda: pa.py_buffer(numbers.tobytes()),
        "sliced buffer": lambda: pa.py_buffer(numbers.tobytes()).slice(3, 4 * N),
        "mutable buffer": lambda: pa.py_buffer(bytearray(numbers.tobytes())),
    }
    return made[name]()


ARROW = [
    *("table", "sliced table", "chunked table", "batch", "sliced batch", "array", "sliced array", "text", "with nulls"),
    *("dictionary", "lists", "structs", "dates", "chunked array", "nothing"),
    *("buffer", "sliced buffer", "mutable buffer"),
]


def buffers_of(value: Any) -> list[Any]:
    """Those of an Arrow object that are large."""
    import pyarrow as pa

    if isinstance(value, pa.Buffer):
        found = [value]
    elif isinstance(value, pa.Table | pa.RecordBatch):
        found = [each for column in value.columns for each in buffers_of(column)]
    elif isinstance(value, pa.ChunkedArray):
        found = [each for chunk in value.chunks for each in buffers_of(chunk)]
    else:
        found = [each for each in value.buffers() if each is not None]
        if isinstance(value, pa.DictionaryArray):
            found += buffers_of(value.dictionary)
    return [each for each in found if each.size >= LARGE]


def check_arrow(name: str, value: Any) -> tuple[bool, list[bool]]:
    """Of an argument: is it what it should be, and are its large buffers used where they lie?"""
    return value.equals(arrow(name)), [in_pool(each.address) for each in buffers_of(value)]


def columns(n: int, rows: int) -> Any:
    """An Arrow table of n columns, each a buffer of its own."""
    import pyarrow as pa

    return pa.table({f"c{i}": np.arange(rows) + i for i in range(n)})


def nullables(n: int, rows: int) -> Any:
    """A frame of n columns, each of two buffers of their own."""
    import pandas as pd

    return pd.DataFrame({f"c{i}": pd.array(np.arange(rows) + i, dtype="Int64") for i in range(n)})
