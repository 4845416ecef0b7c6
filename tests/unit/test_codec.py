"""How values become bytes: the compact form, exceptions, and both through a live pool."""

from __future__ import annotations

import collections
import enum
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import warnings
from concurrent.futures.process import _RemoteTraceback
from multiprocessing import get_context

import numpy as np
import pytest
import tasks_memory as tasks
from compiling import extension
from hypothesis import example, given, settings
from hypothesis import strategies as st
from limits import LIMIT, NO_MEMORY_IS_SURVIVED

from ringpool import ProcessPoolExecutor, RemoteError
from ringpool._core import (
    decode_compact,
    decode_pickled,
    encode_compact,
    encode_error,
    encode_pickled,
    try_compact,
)
from ringpool.pickling import decode_error

SLOT = 200  # bytes of a task's slot, and encode_compact's default
ROOM = 4096  # for most values that are made up here
DEPTH = 8  # of nested containers
MUTABLES = 16  # lists, dicts and bytearrays in a value

# ---- values ----

ints = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)])
texts = st.one_of(
    st.text(st.characters(), max_size=40),  # surrogates are among them
    st.text(st.characters(max_codepoint=0x7F), max_size=40),
    st.text(st.characters(max_codepoint=0xFF), max_size=40),
    st.text(st.characters(min_codepoint=0x100, max_codepoint=0xFFFF), max_size=40),
    st.text(st.characters(min_codepoint=0x10000), max_size=40),
)
hashables = st.none() | st.booleans() | ints | st.floats() | texts | st.binary(max_size=60)
NUMBERS = "dlfiB?qbhHILQeFDgG"  # NumPy's characters of types, in the order of the codec


def array_of(code: str, shape: list[int], filling: bytes, readonly: bool) -> np.ndarray:
    """Elements of all bits, but of bools, which are 0 or 1, and padding, which is of no account."""
    array = np.zeros(shape, code)
    n = array.nbytes
    whole = np.frombuffer((filling * n)[:n], np.uint8)
    array.reshape(-1).view(np.uint8)[:] = whole & 1 if code in "?gG" else whole
    array.flags.writeable = not readonly
    return array


arrays = st.builds(
    array_of,
    st.sampled_from(NUMBERS),
    st.lists(st.integers(0, 3), max_size=4),
    st.binary(min_size=1, max_size=40),
    st.booleans(),
)
numbers = st.builds(
    array_of, st.sampled_from(NUMBERS), st.just([1]), st.binary(min_size=1, max_size=40), st.just(False)
)
atoms = hashables | st.binary(max_size=20).map(bytearray) | arrays | numbers.map(lambda array: array[0])


keys = st.recursive(hashables, lambda inner: st.lists(inner, max_size=2).map(tuple), max_leaves=4)


def containers(values):
    lists = st.lists(values, max_size=4)
    return lists | lists.map(tuple) | st.dictionaries(keys, values, max_size=3)


def nested(leaves, depth: int):
    """Containers of containers of leaves, `depth` deep at most."""
    values = leaves
    for _ in range(depth):
        values = leaves | containers(values)
    return values


compact_values = nested(atoms, 4) | st.recursive(atoms, containers)


def parts(value: object) -> list[object]:
    if type(value) is dict:
        return [*value, *value.values()]
    return list(value) if type(value) in (tuple, list) else []


def depth(value: object) -> int:
    return 1 + max(map(depth, parts(value)), default=0) if type(value) in (tuple, list, dict) else 0


def mutables(value: object) -> int:
    return (type(value) in (list, dict, bytearray, np.ndarray)) + sum(map(mutables, parts(value)))


def size(value: object) -> int:
    """Bytes of the compact form, worked out from its description."""
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, np.ndarray):
        return 3 + 8 * value.ndim + value.nbytes
    if isinstance(value, np.generic):
        return 2 + value.nbytes
    if isinstance(value, int | float):
        return 9
    if isinstance(value, bytearray):
        return 9 + len(value)
    if isinstance(value, bytes):
        return (3 if len(value) < 0x10000 else 9) + len(value)
    if isinstance(value, str):
        most = max(map(ord, value), default=0)
        width = 1 if most < 0x100 else 2 if most < 0x10000 else 4
        return (4 if len(value) < 0x10000 else 10) + len(value) * width
    return 2 + sum(map(size, parts(value)))


def exact(value: object) -> object:
    """Something that is equal for two values only if they are alike in type, sign and bits, all the way down."""
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous and value.flags.aligned
        return np.ndarray, value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.generic):  # a pickle makes an int64 of a longlong
        return np.generic, value.dtype.str, value.tobytes()
    if isinstance(value, float):
        return float, struct.pack("=d", value)
    if isinstance(value, tuple | list):
        return type(value), [exact(item) for item in value]
    if isinstance(value, dict):
        return type(value), [(exact(key), exact(item)) for key, item in value.items()]
    return type(value), value


# ---- the compact form ----


@pytest.mark.parametrize("room", [0, 1, 30, SLOT, 100_000])
@pytest.mark.parametrize(
    "value", [None, 1, "x" * 300, (1, "é" * 100, [b"y" * 70_000]), {"a": np.arange(500)}, [np.float32(1)] * 12]
)
def test_one_call_says_whether_a_value_fits_or_how_much_room_it_needs(value, room):
    whole = encode_compact(value, 1_000_000)
    assert whole is not None
    assert try_compact(value, room) == (len(whole), whole if len(whole) <= room else None)


@pytest.mark.parametrize("room", [0, 30, SLOT, 100_000])
@pytest.mark.parametrize(
    "value", [{1}, 1 << 64, ("x" * 300, {1}), np.arange(100_000), (np.arange(100)[::2], "y" * 300)]
)
def test_one_call_says_that_a_value_has_no_compact_form_whatever_the_room(value, room):
    assert try_compact(value, room)[0] < 0


@settings(max_examples=500, deadline=None)
@given(compact_values)
@example((float("nan"), -0.0, 0.0, float("-inf"), 5e-324))
@example(("", "a", "\xff", "\u0100", "\ud800", "\udfff\U0010ffff", "\x00"))
@example(("\ud83d\ude00", "\U0001f600"))  # two surrogates, and the one character that UTF-16 writes so
@example((True, 1, False, 0, None))
@example(((((((((),),),),),),),))
@example([{}, [[], {1: [{"a": ({},)}]}]])
@example([[] for _ in range(15)])
@example([[] for _ in range(16)])
@example({float("nan"): 1, 0.0: -0.0, (1, "a"): [None], None: b""})
@example(())
def test_compact_values_come_back_with_the_same_type_and_bits(value):
    data = encode_compact(value, ROOM)
    if depth(value) > DEPTH or size(value) > ROOM or mutables(value) > MUTABLES:
        assert data is None
    else:
        assert data is not None and len(data) == size(value)
        assert exact(decode_compact(data)) == exact(value)


@settings(max_examples=200, deadline=None)
@given(compact_values, st.integers(-10, ROOM))
def test_a_value_is_encoded_exactly_if_it_fits_into_the_room(value, room):
    data = encode_compact(value, room)
    if depth(value) <= DEPTH and size(value) <= room and mutables(value) <= MUTABLES:
        assert data == encode_compact(value, ROOM)
    else:
        assert data is None


@pytest.mark.parametrize(
    "value",
    [None, True, 7, 1.5, b"", b"abc", "", "abc", "\u0100", "\U00010000", (), (1,), ((), None, b"xy", "\u0100\u0101")],
    ids=ascii,
)
def test_one_byte_less_room_than_a_value_needs_is_too_little(value):
    needed = size(value)
    assert len(encode_compact(value, needed)) == needed
    for room in range(needed):
        assert encode_compact(value, room) is None


def test_the_default_room_is_that_of_a_slot():
    assert len(encode_compact(b"x" * (SLOT - 3))) == SLOT
    assert encode_compact(b"x" * (SLOT - 2)) is None


@pytest.mark.parametrize("n", [0xFFFF, 0x10000, 0x10001, 1_000_000])
@pytest.mark.parametrize("unit", [b"x", bytearray(b"x"), "x", "\xe9", "\u0416", "\U0001f600"], ids=ascii)
def test_long_values_come_back_with_the_same_type_and_bits(unit, n):
    value = unit * n
    for whole in (value, (1, value, "end"), [value]):
        data = encode_compact(whole, size(whole))
        assert data is not None and len(data) == size(whole)
        assert exact(decode_compact(data)) == exact(whole)
        assert encode_compact(whole, size(whole) - 1) is None


class Int(int):
    pass


class Float(float):
    pass


class Str(str):
    pass


class Bytes(bytes):
    pass


class ByteArray(bytearray):
    pass


class Tuple(tuple):
    pass


class List(list):
    pass


class Colour(enum.IntEnum):
    RED = 1


Pair = collections.namedtuple("Pair", "a b")

NOT_COMPACT = [
    *(Int(1), Float(1.0), Str("s"), Bytes(b"b"), Tuple((1, 2)), Pair(1, 2), Colour.RED),
    *(2**63, -(2**63) - 1, 2**200, 1j, ..., NotImplemented, range(3), object, len),
    *(List(), collections.OrderedDict(), collections.Counter(), set(), frozenset()),
    *(ByteArray(b"b"), memoryview(b"m"), object()),
]


def name_of(value):
    """An id for a test: without the address that some representations hold."""
    return f"{type(value).__name__}-{re.sub(' at 0x[0-9a-f]+', '', repr(value)):.20}"


@pytest.mark.parametrize("value", NOT_COMPACT, ids=name_of)
def test_other_types_and_subclasses_have_no_compact_form_at_any_depth(value):
    assert encode_compact(value, ROOM) is None
    assert encode_compact((1, value), ROOM) is None
    assert encode_compact((1, (2, (value,)), 3), ROOM) is None
    assert encode_compact([{"a": value}], ROOM) is None


def test_tuples_nest_so_deep_and_no_deeper():
    value = ()
    for _ in range(DEPTH - 1):
        value = (value,)
    assert decode_compact(encode_compact(value)) == value
    assert encode_compact((value,)) is None
    data = encode_compact(value)
    with pytest.raises(ValueError):
        decode_compact(data[:2] + data)  # one level more


@pytest.mark.parametrize("make", [tuple, list, lambda items: dict.fromkeys(items)], ids=["tuple", "list", "dict"])
def test_containers_of_more_items_than_a_byte_counts_are_not_compact(make):
    assert decode_compact(encode_compact(make(range(255)), ROOM)) == make(range(255))
    assert encode_compact(make(range(256)), ROOM) is None


@pytest.mark.parametrize("mutable", [[], {}, bytearray()], ids=["list", "dict", "bytearray"])
def test_a_list_or_dict_that_occurs_twice_has_no_compact_form(mutable):
    """The receiver's would be two."""
    assert encode_compact((mutable, 1), ROOM) is not None
    for value in ((mutable, mutable), [mutable, (mutable,)], {1: mutable, 2: [mutable]}):
        assert encode_compact(value, ROOM) is None


def test_a_dict_with_a_list_for_a_key_is_refused():
    for key in (b"\x08\x00", b"\x09\x00", b"\x07\x01\x08\x00"):
        with pytest.raises(ValueError, match="key"):
            decode_compact(b"\x09\x01" + key + b"\x00")


def test_a_tuple_that_holds_itself_has_no_compact_form():
    items = []
    value = (items,)
    items.append(value)
    assert encode_compact(value, ROOM) is None


# ---- what recurs ----


@pytest.mark.parametrize("unit", ["x" * 96, b"x" * 97, ("x" * 94,), ("x" * 46, "y" * 44)], ids=ascii)
def test_what_recurs_may_take_a_kibibyte_of_the_compact_form_at_most(unit):
    unit = pickle.loads(pickle.dumps(unit))  # an object that nothing else refers to
    assert size(unit) == 100
    for make in (tuple, list, lambda items: dict(enumerate(items))):
        value = make([unit] * 11)
        data = encode_compact(value, 1 << 20)
        assert len(data) == size(value) and decode_compact(data) == value
        assert encode_compact(make([unit] * 12), 1 << 20) is None
        assert encode_compact(((unit,) * 6, [(unit,), {1: unit}, (unit,) * 4]), 1 << 20) is None


def test_what_is_equal_and_not_the_same_object_does_not_recur():
    values = [("x" * 100 + chr(120 + i % 2), i) for i in range(255)]
    assert len({id(text) for text, _ in values}) == 255
    assert decode_compact(encode_compact(values, 1 << 20)) == values
    held = [text for text, _ in values]  # each is referred to twice, and occurs once
    assert decode_compact(encode_compact(values, 1 << 20)) == values and len(held) == 255


def test_short_strings_and_numbers_may_recur():
    for unit in ("eleven char", b"twelve bytes", 1 << 40, 1.5, None, (), (1,), np.float64(1)):
        value = (tuple([unit] * 255),) * 1
        assert len(encode_compact(value, 1 << 20)) == size(value)


def test_a_value_with_more_objects_than_can_be_noted_has_no_compact_form():
    held = [f"a string of some length {i}" for i in range(3 * 250)]
    rows = tuple(tuple(held[i : i + 250]) for i in range(0, len(held), 250))
    assert encode_compact(rows[:2], 1 << 20) is not None
    assert encode_compact(rows, 1 << 20) is None
    del held
    rows = tuple(tuple([text + "!" for text in row]) for row in rows)
    assert decode_compact(encode_compact(rows, 1 << 20)) == rows


@st.composite
def sharing_values(draw, most: int):
    """Values whose parts recur, in each other too, up to `most` times in a row. Written out they may be of any size."""
    parts = draw(st.lists(atoms | st.sampled_from([20, 300, 5000]).map("x".__mul__), min_size=1, max_size=5))
    for _ in range(draw(st.integers(1, 9))):
        make = draw(st.sampled_from([tuple, tuple, tuple, list, lambda items: dict(enumerate(items))]))
        chosen = draw(st.lists(st.sampled_from(parts), min_size=1, max_size=4))
        parts.append(make(chosen * draw(st.integers(1, most))))
    return parts[-1]


@settings(max_examples=300, deadline=None)
@given(sharing_values(60))
def test_the_compact_form_is_never_much_longer_than_a_pickle(value):
    """A pickle takes two bytes at least for what recurs, and the compact form looks for what takes it 16 or more."""
    data = encode_compact(value, 1 << 62)
    assert data is None or len(data) <= 8 * len(pickle.dumps(value, 5)) + 1024


@settings(max_examples=200, deadline=None)
@given(sharing_values(3), st.booleans())
def test_values_whose_parts_recur_come_back_equal(value, pickled):
    data = None if pickled else encode_compact(value, 1 << 62)
    again = decode_pickled(encode_pickled(value)) if data is None else decode_compact(data)
    assert exact(again) == exact(value)


def test_a_value_that_is_astronomic_when_written_out_is_a_pickle_at_once():
    value = ("text", 1)
    for _ in range(DEPTH - 2):
        value = (value,) * 255  # 10 ** 14 in all, and the form of none fits into any memory
    assert encode_compact(value, 1 << 62) is None
    assert len(encode_pickled(value)) < 10_000


# ---- bytes that are not what they should be ----


def decode_or_refuse(data: bytes) -> None:
    """Decodes whatever it is: a sound value or a ValueError (UnicodeError is one), nothing else."""
    try:
        value = decode_compact(data)
    except ValueError:
        return
    check_sound(value, data)
    assert size(value) <= len(data)


def check_sound(value: object, data: bytes) -> None:
    """What CPython itself may rely on."""
    if type(value) in (tuple, list, dict):
        for item in parts(value):
            check_sound(item, data)
    else:
        if isinstance(value, np.ndarray | np.generic):
            assert value.dtype.char in NUMBERS and value.nbytes <= len(data)
            return
        assert type(value) in (type(None), bool, int, float, str, bytes, bytearray)
        if type(value) is str:
            codes = value.encode("utf-32-le", "surrogatepass")  # as they are: a str that has others breaks even `max`
            assert all(code <= 0x10FFFF for (code,) in struct.iter_unpack("<I", codes)), f"{data} gives no sound string"
            same = codes.decode("utf-32-le", "surrogatepass")
            assert value == same and hash(value) == hash(same) and value.isascii() == same.isascii()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
@example(b"")
@example(b"\x07")
@example(b"\x07\xff")
@example(b"\x06\xff\xff")
@example(b"\x05\x01\xff\xff")
@example(b"\x05\x02\x01\x00\x00")
@example(b"\x07\x01" * 60 + b"\x00")
def test_any_bytes_give_a_value_or_a_value_error(data):
    decode_or_refuse(data)


# What looks like the compact form for a while: tags, widths, lengths, anything.
SCRAPS = [*(bytes([tag]) for tag in range(16))]
SCRAPS += [
    b"\x05\x00",
    b"\x05\x01",
    b"\x05\x02",
    b"\x06",
    b"\x07\x02",
    b"\x00\x00",
    b"\x02\x00",
    b"\x0a\x00",
    b"\x0a\x04",
    b"\x0e\x00\x01",
    b"\x0e\x04\x02",
    b"\x0f\x05",
]
SCRAPS += [struct.pack("=q", n) for n in (0, 1, 2, 5, 0x10000, -1, 2**62, 2**63 - 1, -(2**63))]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_many_bytes_that_look_like_values_give_a_value_or_a_value_error(seed):
    rng = random.Random(seed)
    for _ in range(1000):
        pieces = [rng.choice(SCRAPS) if rng.random() < 0.8 else rng.randbytes(9) for _ in range(rng.randrange(12))]
        decode_or_refuse(b"".join(pieces))


@settings(max_examples=200, deadline=None)
@given(compact_values, st.data())
def test_a_truncated_encoding_is_refused(value, data):
    whole = encode_compact(value, ROOM)
    if whole is not None:
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(ValueError):
            decode_compact(whole[:cut])


@settings(max_examples=100, deadline=None)
@given(compact_values, st.binary(min_size=1, max_size=5))
def test_bytes_left_over_behind_a_value_are_refused(value, more):
    whole = encode_compact(value, ROOM)
    if whole is not None:
        with pytest.raises(ValueError):
            decode_compact(whole + more)


@settings(max_examples=200, deadline=None)
@given(compact_values, st.integers(0, 2**32))
def test_a_mutated_encoding_gives_a_value_or_a_value_error(value, seed):
    rng = random.Random(seed)
    whole = encode_compact(value, ROOM) or b"\x00"
    for _ in range(100):
        mutated = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            mutated[rng.randrange(len(mutated))] = rng.choice([0, 1, 2, 4, 5, 7, rng.randrange(256)])
        decode_or_refuse(bytes(mutated))


@pytest.mark.parametrize("char", [0x110000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF], ids=hex)
def test_a_character_that_unicode_does_not_have_is_refused(char):
    data = b"\x05\x04\x02\x00" + struct.pack("=II", 0x10000, char)
    with pytest.raises(ValueError):
        decode_compact(data)


@pytest.mark.parametrize(
    ("width", "characters"),
    [
        (0, b"a\x80"),
        (1, b"ab"),
        (2, struct.pack("=HH", 0x61, 0xFF)),
        (4, struct.pack("=II", 0x61, 0xFFFF)),
        (3, b"abc"),
    ],
)
def test_a_string_of_another_width_than_its_characters_need_is_refused(width, characters):
    """CPython counts on one form for each string."""
    n = len(characters) // max(width, 1)
    for head in (struct.pack("=BBH", 5, width, n), struct.pack("=BBQ", 10, width, n)):
        with pytest.raises(ValueError):
            decode_compact(head + characters)


@pytest.mark.parametrize("n", [-1, -(2**63), 2**63 - 1, 2**62, 2**61 + 1, 5])
@pytest.mark.parametrize("head", [b"\x0a\x00", b"\x0a\x01", b"\x0a\x02", b"\x0a\x04", b"\x0b", b"\x0c"])
def test_a_length_that_cannot_be_is_refused(head, n):
    with pytest.raises(ValueError):
        decode_compact(head + struct.pack("=q", n) + b"abc")


# ---- arrays ----


@pytest.mark.parametrize("code", NUMBERS)
def test_arrays_and_numbers_of_each_type_are_compact(code):
    for array in (np.ones(3, code), np.ones((2, 3), code), np.array(1, code), np.ones((0, 2), code)):
        again = decode_compact(encode_compact(array, ROOM))
        assert exact(again) == exact(array) and again.dtype is array.dtype
    number = np.ones(1, code)[0]
    again = decode_compact(encode_compact(number))
    assert type(again) is type(number) and again == number


FIELDS = np.dtype([("a", "i4"), ("b", "f8")])


@pytest.mark.parametrize(
    "array",
    [
        *(np.arange(6.0).reshape(2, 3).T, np.arange(6)[::2], np.array(["a"]), np.array([b"a"]), np.array([None])),
        *(np.arange(3, dtype=">f8"), np.zeros(2, FIELDS), np.zeros(2, FIELDS)["b"], np.array(["2020"], "M8[D]")),
        *(np.ma.array([1, 2]), np.ones(2).view(np.recarray), np.zeros(2, np.dtype("f8", metadata={"unit": "m"}))),
        *(np.zeros(1, FIELDS)[0], np.str_("a"), np.datetime64("2020"), np.dtype("f8"), np.zeros(8193)),
    ],
    ids=lambda array: f"{type(array).__name__}-{array!r:.30}",
)
def test_other_arrays_are_not(array):
    """Their layout, type or class would be lost; and large ones are used where they lie."""
    assert encode_compact(array, 1 << 20) is None
    assert encode_compact([array], 1 << 20) is None


def test_what_broadcast_arrays_gives_is_pickled_without_a_warning():
    small = np.broadcast_arrays(np.arange(5), np.zeros((10, 5)))[0]
    large = np.broadcast_arrays(np.arange(5), np.zeros((5000, 5)))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy warns when asked whether it may be written to
        again = decode_pickled(encode_pickled([small, large]))
    assert all(np.array_equal(a, b) and a.flags.writeable for a, b in zip(again, [small, large], strict=True))


def test_an_array_that_occurs_twice_is_not_and_comes_back_as_one():
    array = np.zeros(3)
    assert encode_compact((array, array), ROOM) is None
    first, second = decode_pickled(encode_pickled((array, array)))
    assert first is second


@pytest.mark.parametrize("dimensions", [[-1], [2**62], [2**62, 8], [3], [2**32, 2**32], [1, 3], [2**63 - 1, 2**63 - 1]])
def test_an_array_with_dimensions_that_cannot_be_is_refused(dimensions):
    head = struct.pack(f"=BBB{len(dimensions)}q", 14, 4, len(dimensions), *dimensions)
    with pytest.raises(ValueError):
        decode_compact(head + b"ab")


@pytest.mark.parametrize("head", [b"\x0e", b"\x0e\x00", b"\x0e\x12\x00", b"\x0e\x00\x21", b"\x0f", b"\x0f\x12"])
def test_an_array_with_an_impossible_type_or_number_of_dimensions_is_refused(head):
    with pytest.raises(ValueError):
        decode_compact(head)
    with pytest.raises(ValueError):
        decode_compact(head + bytes(100))


def test_an_array_without_elements_may_have_any_dimensions():
    for shape in ((0,), (0, 10**9), (10**9, 0), (5, 0, 2**40)):
        assert decode_compact(encode_compact(np.zeros(shape))).shape == shape


# ---- parcels ----

BLOBS = [tasks.Blob(bytearray(b"a" * 20_000)), tasks.Blob(b"b" * 16_384), tasks.Blob(b"small"), tasks.Blob(bytearray())]


def test_large_buffers_lie_behind_the_pickle_at_multiples_of_64_bytes():
    data = encode_pickled(BLOBS)
    assert data[0] == 1 and struct.unpack_from("=I", data, 4) == (2,)
    (n,) = struct.unpack_from("=Q", data, 8)
    assert struct.unpack_from("=QQ", data, 16) == (20_000 << 1, 16_384 << 1 | 1)
    assert b"small" in data[32 : 32 + n] and b"aaaa" not in data[32 : 32 + n]
    first = -(-(32 + n) // 64) * 64
    assert data[first : first + 20_000] == b"a" * 20_000
    again = decode_pickled(data)
    assert again == BLOBS and [type(blob.data) for blob in again] == [bytearray, bytes, bytes, bytearray]


def test_without_large_buffers_a_pickle_is_a_pickle():
    assert pickle.loads(encode_pickled(BLOBS[2:])) == BLOBS[2:]


def test_a_parcel_that_is_cut_off_is_refused():
    data = encode_pickled(BLOBS)
    for n in [*range(1, 300), *range(300, len(data), 1999), len(data) - 1]:
        with pytest.raises(ValueError):
            decode_pickled(data[:n])


@pytest.mark.parametrize("n", [2**63 - 1, 2**63, 2**64 - 1, 2**64 - 64, 2**62, 1 << 32, 40_000 << 1])
@pytest.mark.parametrize("at", [8, 16, 24])
def test_a_parcel_with_a_length_that_cannot_be_is_refused(at, n):
    data = bytearray(encode_pickled(BLOBS))
    struct.pack_into("=Q", data, at, n)
    with pytest.raises(ValueError):
        decode_pickled(bytes(data))


@pytest.mark.parametrize("n", [257, 1000, 2**31, 2**32 - 1])
def test_a_parcel_with_more_buffers_than_there_can_be_is_refused(n):
    data = bytearray(encode_pickled(BLOBS))
    struct.pack_into("=I", data, 4, n)
    with pytest.raises(ValueError):
        decode_pickled(bytes(data))


# ---- exceptions ----


def raised(error: BaseException) -> BaseException:
    """The exception as one that has been raised, with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def round_trip(error: BaseException, text: str | None = None) -> BaseException:
    again = decode_error(encode_error(raised(error), text))
    assert type(again.__cause__) is _RemoteTraceback
    return again


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError(("a", 1)),
        OSError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration(7),
        Exception(),
        ValueError("\ud800 \U0001f600", b"\xff", None, [1, {2: 3}]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_comes_back_with_its_remote_traceback_as_cause(error):
    again = round_trip(error)
    assert type(again) is type(error) and again.args == error.args
    text = str(again.__cause__)
    assert "in raised" in text and type(error).__name__ in text


def test_an_exception_that_says_how_to_make_it_again_comes_back_whole():
    again = round_trip(tasks.Particular("probe", 7))
    assert type(again) is tasks.Particular and (again.name, again.code) == ("probe", 7)
    assert str(again) == "probe failed with 7"


def test_an_exception_keeps_its_attributes_and_notes():
    error = ValueError("no")
    error.detail = {"line": 3}
    error.add_note("a note")
    again = round_trip(error)
    assert again.detail == {"line": 3} and again.__notes__ == ["a note"]
    assert "a note" in str(again.__cause__)


def test_the_cause_of_the_exception_is_told_in_the_remote_traceback():
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first
    except ValueError as error:
        again = decode_error(encode_error(error))
    assert "KeyError: 'first'" in str(again.__cause__) and "direct cause" in str(again.__cause__)


def test_an_exception_group_comes_back_with_its_members():
    again = round_trip(ExceptionGroup("both", [ValueError("a"), TypeError("b")]))
    assert [type(each) for each in again.exceptions] == [ValueError, TypeError]


def test_an_exception_of_a_local_class_comes_back_by_cloudpickle():
    class Local(Exception):
        pass

    again = round_trip(Local("here"))
    assert type(again).__name__ == "Local" and again.args == ("here",)


def test_a_text_that_is_given_stands_in_for_the_traceback():
    assert str(round_trip(MemoryError("full"), "told so").__cause__) == '\n"""\ntold so"""'


def test_for_an_exception_that_cannot_be_pickled_stands_one_that_says_what_it_was_and_why():
    again = round_trip(tasks.Unpicklable("the original"))
    assert type(again) is RemoteError
    assert (again.type_name, again.text) == ("tasks_memory.Unpicklable", "the original")
    assert again.reason.startswith("it cannot be pickled: TypeError: cannot pickle 'generator' object")
    assert str(again) == f"tasks_memory.Unpicklable: the original (replaced by this RemoteError: {again.reason})"
    text = str(again.__cause__)
    assert "the original" in text and "could not be pickled" in text and "generator" in text


def test_for_an_exception_that_cannot_be_made_again_stands_one_that_says_what_it_was_and_why():
    again = round_trip(tasks.Forgetful("probe", 7))
    assert type(again) is RemoteError
    assert (again.type_name, again.text) == ("tasks_memory.Forgetful", "probe failed with 7")
    assert again.reason.startswith("it cannot be unpickled: TypeError: ") and "code" in again.reason
    assert "probe failed with 7" in str(again.__cause__)


def test_of_an_exception_that_can_be_neither_shown_nor_pickled_the_name_of_its_type_is_told():
    again = round_trip(tasks.Nameless())
    assert type(again) is RemoteError and again.type_name == "tasks_memory.Nameless"
    assert again.text == "<str() of tasks_memory.Nameless failed>" and again.reason.startswith("it cannot be pickled")
    assert "Nameless" in str(again.__cause__)


def test_for_what_comes_back_as_no_exception_stands_one_that_says_so():
    again = round_trip(tasks.Impostor("x"))
    assert type(again) is RemoteError and again.text == "x"
    assert again.reason == "it unpickles as str, which is no exception"


def test_what_stands_for_an_exception_can_be_sent_on():
    error = round_trip(tasks.Impostor("x"))
    again = round_trip(error)
    assert type(again) is RemoteError and again.__dict__ == error.__dict__ and str(again) == str(error)


# ---- through a live pool ----

anything = st.recursive(
    atoms | st.integers() | st.complex_numbers(allow_nan=False) | st.binary(max_size=400) | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture(params=["forkserver", "spawn"])
def pool(request):
    with ProcessPoolExecutor(1, get_context(request.param)) as executor:
        yield executor


def test_arguments_and_results_pass_through_a_pool_unchanged(pool):
    @settings(max_examples=120, deadline=None)
    @given(st.lists(anything, max_size=5))
    def passes(args):
        assert exact(pool.submit(tasks.echo, *args).result(LIMIT)) == exact(tuple(args))

    passes()


def test_a_text_that_recurs_is_sent_once():
    """Else it would take 500 MB, and the pool has room for 64."""
    text = "x" * 2_000_000
    value = [(text, i) for i in range(250)]
    with ProcessPoolExecutor(1, get_context("fork"), shared_memory_limit=128 << 20) as executor:
        for again in (
            executor.submit(tasks.same, value).result(LIMIT),
            *executor.map(tasks.same, [value, value], chunksize=2, timeout=LIMIT),
            executor.submit_many(tasks.same, [(value,)])[0].result(LIMIT),
            executor.submit(lambda: value).result(LIMIT),
        ):
            assert again == value and len({id(each) for each, _ in again}) == 1


def test_keyword_arguments_pass_through_a_pool_unchanged(pool):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(anything, max_size=2), st.dictionaries(st.text("abcxyz", min_size=1, max_size=3), anything))
    def passes(args, kwargs):
        result = pool.submit(tasks.echo, *args, **kwargs).result(LIMIT)
        assert exact(result) == exact((tuple(args), kwargs) if kwargs else tuple(args))

    passes()


def test_many_values_at_once_come_back_in_their_own_futures(pool):
    @settings(max_examples=25, deadline=None)
    @given(st.lists(anything, max_size=60), st.integers(1, 9))
    def passes(values, chunksize):
        futures = [pool.submit(tasks.same, value) for value in values]
        assert [exact(f.result(LIMIT)) for f in futures] == [exact(value) for value in values]
        mapped = pool.map(tasks.same, values, chunksize=chunksize, timeout=LIMIT)
        assert [exact(value) for value in mapped] == [exact(value) for value in values]

    passes()


@pytest.mark.parametrize(
    ("kind", "args", "expected"),
    [
        (ValueError, ("no", 1), ValueError),
        (tasks.Particular, ("probe", 7), tasks.Particular),
        (tasks.Unpicklable, ("x",), RemoteError),
        (tasks.Forgetful, ("probe", 7), RemoteError),
        (tasks.Nameless, (), RemoteError),
        (tasks.Impostor, ("x",), RemoteError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_exceptions_pass_through_a_pool_with_their_remote_traceback(kind, args, expected):
    with ProcessPoolExecutor(1, get_context("forkserver")) as executor:
        error = executor.submit(tasks.throw, kind, *args).exception(LIMIT)
        assert type(error) is expected
        assert type(error.__cause__) is _RemoteTraceback and "in throw" in str(error.__cause__)
        assert executor.submit(tasks.same, 1).result(LIMIT) == 1


WITHOUT_NUMPY = """
import concurrent.futures, sys
from multiprocessing import get_context
from ringpool import ProcessPoolExecutor

def make(n):
    import numpy
    return numpy.arange(n)

def total(number):
    import numpy
    return numpy.float64(number)

if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        small = [pool.submit(make, 3), pool.submit(make, 1000)]
        while pool._client.tasks.outstanding:  # results are taken in here, where no code may run
            pool.submit(abs, 1).result()
        numbers = pool.submit_many(total, [(i,) for i in range(10)])
        while pool._client.tasks.outstanding:
            pool.submit(abs, 1).result()
        items = pool.map(total, range(10))
        assert "numpy" not in sys.modules
        assert small[0].result().tolist() == [0, 1, 2] and small[1].result()[-1] == 999
        assert [number.result() for number in numbers] == list(items) == list(range(10))
        assert "numpy" in sys.modules
    print("right")
"""


def test_a_program_without_numpy_imports_it_when_it_reads_a_result_that_needs_it(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(WITHOUT_NUMPY)
    ran = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=LIMIT)
    assert (ran.stdout, ran.stderr) == ("right\n", "")


NO_MEMORY = """
import itertools, sys, threading
sys.path.append(sys.argv[1])
import short_of_memory
from ringpool._core import encode_pickled
# Such as fail, or pickle, in either way.
values = [threading.Lock(), lambda: 1, {"a": [1, b"b" * 20_000]}, bytearray(100_000)]
for value in values:
    for n in itertools.count(1):
        short_of_memory.fail_nth(n)
        try:
            encode_pickled(value)
        except Exception as error:
            done = type(error)
        else:
            done = None
        finally:
            short_of_memory.fail_none()
        if n > 400 or (n > 50 and done is not MemoryError):
            break
print("right")
"""


@pytest.mark.skipif(not NO_MEMORY_IS_SURVIVED, reason="CPython does not survive it: gh-152125")
def test_whichever_allocation_fails_pickling_ends_with_an_exception_or_right(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(NO_MEMORY)
    folder = os.path.dirname(extension("short_of_memory").__file__)
    ran = subprocess.run([sys.executable, path, folder], capture_output=True, text=True, timeout=LIMIT)
    assert (ran.returncode, ran.stdout) == (0, "right\n"), ran
