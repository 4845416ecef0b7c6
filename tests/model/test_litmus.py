"""The orders of memory of csrc/bell.h, ring.h and board.h, as litmus tests: by the models of C11 and of the processor.

A litmus test is two threads of a few loads and stores, and an outcome. herd7 (Debian: herdtools7) finds out whether a
memory model allows it: Alglave, Maranget and Tautschnig, "Herding Cats", TOPLAS 2014. The models: of C, RC11 (Lahav et
al., PLDI 2017); of aarch64, Arm's own, with what compilers make of an order there: STLR of a release or seq_cst store,
LDAR of a seq_cst load, LDAPR of an acquire load.

The orders are read from the headers, so that a weaker one there fails here. Weaker variants must be found out.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import optional
import pytest
from compiling import CSRC


def orders(header: str, function: str) -> list[tuple[str, str]]:
    """The atomic operations in a function of a header, in its order: what each does, and its order of memory."""
    text = (CSRC / header).read_text()
    (body,) = re.findall(rf"^static inline [^\n]*\b{function}\([^)]*\)\n{{\n(.*?)^}}", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"\brp_(load|store|cas)_(relaxed|acquire|release|seq_cst)\(", body)


def order(header: str, function: str, operation: str) -> str:
    """That of the one operation of its kind in a function which is on shared memory: the others there are relaxed."""
    (found,) = {each for kind, each in orders(header, function) if kind == operation and each != "relaxed"} or {
        "relaxed"
    }
    return found


# By what they are called in the headers.
ANNOUNCE = order("bell.h", "rp_bell_announce", "store")
LOOK = order("ring.h", "rp_ring_try_peek", "load")
PUBLISH = order("ring.h", "rp_ring_publish", "store")
RING = order("bell.h", "rp_bell_ring", "load")
HAND_BACK = order("ring.h", "rp_ring_commit", "store")
RESERVE = order("ring.h", "rp_ring_try_reserve", "load")
POST = order("board.h", "rp_board_publish", "store")
FIND = order("board.h", "rp_board_first", "load")

# What, where, value of a store or register of a load, order. A test is the steps of its threads, and what must not be.
Step = tuple[str, str, object, str]


def bell(
    announce: str = ANNOUNCE, look: str = LOOK, publish: str = PUBLISH, ring: str = RING
) -> tuple[list[list[Step]], str]:
    """The sleeper announces itself and finds no work; the ringer publishes some and finds no sleeper."""
    sleeper = [("store", "sleeps", 1, announce), ("load", "work", 0, look)]
    ringer = [("store", "work", 1, publish), ("load", "sleeps", 0, ring)]
    return [sleeper, ringer], r"0:{0} = 0 /\ 1:{0} = 0"


def board() -> tuple[list[list[Step]], str]:
    """The same of a worker that finds no task, and of the parent."""
    return bell(look=FIND, publish=POST)


def message(publish: str = PUBLISH, look: str = LOOK) -> tuple[list[list[Step]], str]:
    """The reader sees that a slot of the ring is full, and not what it holds."""
    writer = [("store", "body", 1, "relaxed"), ("store", "full", 1, publish)]
    reader = [("load", "full", 0, look), ("load", "body", 1, "relaxed")]
    return [writer, reader], r"1:{0} = 1 /\ 1:{1} = 0"


def reuse(hand_back: str = HAND_BACK, reserve: str = RESERVE) -> tuple[list[list[Step]], str]:
    """The writer fills a slot that has been handed back, and the reader finds there what was written later."""
    reader = [("load", "body", 0, "relaxed"), ("store", "read", 1, hand_back)]
    writer = [("load", "read", 0, reserve), ("store", "body", 1, "relaxed")]
    return [reader, writer], r"0:{0} = 1 /\ 1:{0} = 1"


def in_c(threads: list[list[Step]], outcome: str) -> str:
    words = sorted({where for steps in threads for _, where, _, _ in steps})
    text = ["C test", f"{{ {' '.join(f'[{word}] = 0;' for word in words)} }}"]
    for number, steps in enumerate(threads):
        text.append(f"P{number} ({', '.join(f'atomic_int *{word}' for word in words)}) {{")
        for what, where, n, its_order in steps:
            if what == "store":
                text.append(f"  atomic_store_explicit({where}, {n}, memory_order_{its_order});")
            else:
                text.append(f"  int r{n} = atomic_load_explicit({where}, memory_order_{its_order});")
        text.append("}")
    return "\n".join([*text, f"exists ({outcome.format('r0', 'r1')})"])


LOADS = {"seq_cst": "LDAR", "acquire": "LDAPR", "relaxed": "LDR"}
STORES = {"seq_cst": "STLR", "release": "STLR", "relaxed": "STR"}


def on_aarch64(threads: list[list[Step]], outcome: str) -> str:
    """Of each thread X1 and on point at the words, W20 and on are loaded, and W10 is 1."""
    words = sorted({where for steps in threads for _, where, _, _ in steps})
    at = {word: f"X{1 + i}" for i, word in enumerate(words)}
    places = [f"{number}:{register}={word};" for number in range(len(threads)) for word, register in at.items()]
    columns = [["MOV W10,#1"] for _ in threads]
    for column, steps in zip(columns, threads, strict=True):
        for what, where, n, its_order in steps:
            if what == "store":
                column.append(f"{STORES[its_order]} W10,[{at[where]}]")
            else:
                column.append(f"{LOADS[its_order]} W{20 + int(str(n))},[{at[where]}]")
    rows = [" | ".join(row) + " ;" for row in [[f"P{i}" for i in range(len(threads))], *zip(*columns, strict=True)]]
    return "\n".join(["AArch64 test", f"{{ {' '.join(places)} }}", *rows, f"exists ({outcome.format('X20', 'X21')})"])


LANGUAGES = {"c": (in_c, ["-model", "rc11.cat"]), "aarch64": (on_aarch64, [])}


def is_allowed(test: tuple[list[list[Step]], str], language: str, folder: Path) -> bool:
    """Whether the memory model allows the outcome."""
    optional.need("herd7")
    write, options = LANGUAGES[language]
    path = folder / "test.litmus"
    path.write_text(write(*test))
    done = subprocess.run(
        [str(optional.program("herd7")), *options, str(path)], capture_output=True, text=True, timeout=60
    )
    (found,) = re.findall(r"^Observation test (Never|Sometimes|Always) \d+ \d+$", done.stdout, re.MULTILINE) or [done]
    assert found in ("Never", "Sometimes"), done
    return found == "Sometimes"


@pytest.mark.ci
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("test", [bell, board, message, reuse], ids=lambda test: test.__name__)
def test_what_must_not_be_cannot_be(test, language, tmp_path):
    assert not is_allowed(test(), language, tmp_path)


WEAKER = {
    "a bell that is announced with release": ("c", bell(announce="release")),
    "a last look with acquire": ("c", bell(look="acquire")),
    "a publication with release": ("c", bell(publish="release")),
    "a look for sleepers with acquire": ("c", bell(ring="acquire")),
    "a last look by LDAPR": ("aarch64", bell(look="acquire")),
    "a look for sleepers by LDAPR": ("aarch64", bell(ring="acquire")),
    "a slot that is published without an order": ("c", message(publish="relaxed")),
    "a slot that is looked at without an order": ("c", message(look="relaxed")),
    "a slot that is published by STR": ("aarch64", message(publish="relaxed")),
    "a slot that is looked at by LDR": ("aarch64", message(look="relaxed")),
    "a slot that is handed back by STR": ("aarch64", reuse(hand_back="relaxed")),
}


@pytest.mark.ci
@pytest.mark.parametrize("weaker", WEAKER)
def test_weaker_orders_are_found_out(weaker, tmp_path):
    language, test = WEAKER[weaker]
    assert is_allowed(test, language, tmp_path)


def test_the_orders_of_the_headers_are_those_that_their_comments_give():
    assert (ANNOUNCE, LOOK, PUBLISH, RING, HAND_BACK, RESERVE, POST, FIND) == ("seq_cst",) * 8
