"""The protocol as two models, which spin searches exhaustively: that they keep their promises, and that the search
would see if they did not. Tasks, from submit to result, are in tests/model/pool.pml; the items of a chunk are in
chunk.pml. The head of each says what it holds and what it leaves out.
"""

import re
import shlex
import subprocess
from pathlib import Path

import optional
import pytest
from compiling import compiler

POOL = Path(__file__).with_name("pool.pml")
CHUNK = Path(__file__).with_name("chunk.pml")

# What the search may take; a search that needs more fails.
MEMORY_MB = 1500
DEPTH = 100_000

ONE = {"NW": 1, "CAP": 1}  # one worker, one slot
LONE = {**ONE, "NT": 1}
AT_REST = {**LONE, "LEADS": 0}

# Each about a few seconds. None of the kinds of steps that the model knows is missing from all of them.
SMALL = {
    "two tasks that no thread waits for": {"LEADS": 0, "RING": 2},
    "two tasks at once": {"TOGETHER": 1},
    "a queue and a cancel": {**ONE, "CANCELS": 1, "TIMEOUTS": 1},
    "a death": {"NT": 1, "LEADS": 0, "DEATHS": 1, "SLOW": 1},
    "a death of the only worker": {**ONE, "LEADS": 0, "DEATHS": 1},
    "a death while a thread waits": {**LONE, "DEATHS": 2},
    "a callback, and shutdown at any time": {**ONE, "WATCH": 1, "SHUTDOWN": 1},
    "hints step by step": {**ONE, "HINTS": 1, "LEADS": 0, "CANCELS": 1},
}
LARGE = {
    "a death of the only worker while a thread waits": {**ONE, "DEATHS": 1},
    "two tasks at once and a death": {"TOGETHER": 1, "DEATHS": 1},
    "two tasks at once and a death, masks read in the other order": {
        "TOGETHER": 1,
        "DEATHS": 1,
        "LEADS": 0,
        "SLEEPERS_FIRST": 1,
    },
    "a cancel": {"CANCELS": 1},
    "two deaths": {"NT": 1, "LEADS": 0, "DEATHS": 2},
    "two deaths of the only worker and a cancel": {**ONE, "CANCELS": 1, "DEATHS": 2},
    "a queue, a cancel and a death": {**ONE, "NT": 3, "LEADS": 0, "CANCELS": 1, "DEATHS": 1},
    "a queue for two workers": {"NT": 3, "LEADS": 0},
    "a worker that retires slowly": {"LAST": 1, "SLOW": 1},
    "a death and a slow successor": {"LEADS": 0, "DEATHS": 1, "SLOW": 1},
    "workers that retire, and shutdown at any time": {"LAST": 1, "SHUTDOWN": 1, "LEADS": 0},
    "a callback": {"WATCH": 1, "TIMEOUTS": 1},
    "three workers": {"NW": 3, "CAP": 3, "TOGETHER": 1, "LEADS": 0},
    "hints of two workers": {"HINTS": 1, "CANCELS": 1, "LEADS": 0},
}

# Mutant: the promise that it breaks, and where. What each does instead of the right thing stands in the model.
MUTANTS = {
    "CANCEL_STORES": ("cancelled_never_runs", {**LONE, "CANCELS": 1}),
    "CLAIM_STORES": ("runs_on_one_worker", {"NT": 1, "LEADS": 0}),
    "RING_IS_NOT_EMPTIED": ("settled_once", {**LONE, "DEATHS": 1}),
    "RECOVER_TAKES_ANY_CLAIM": ("only_the_held_task_fails", {"NT": 1, "LEADS": 0, "DEATHS": 1}),
    "FAIL_WITHOUT_LOOKING": ("what_was_answered_never_fails", {**LONE, "DEATHS": 1}),
    "NO_LAST_LOOK": ("no_sleeper_left_with_work", AT_REST),
    "CANCEL_LEAVES_THE_QUEUE": ("no_queue_left_behind", {**ONE, "CANCELS": 1}),
    "UNREAD_DOES_NOT_RING": ("no_result_left_unread", AT_REST),
    "COMMIT_DOES_NOT_RING": ("no_room_left_unnoticed", ONE),
    "LEADER_IS_NOT_KICKED": ("no_leader_left_asleep", LONE),
    "COLLECT_LOOKS_NOT": ("no_watcher_left_untold", {"NW": 1, "WATCH": 1, "LEADS": 0}),
    "TAKE_FREES_FIRST": ("no_task_lost", {**LONE, "DEATHS": 1}),
    "STOP_DOES_NOT_TOLL": ("the_pool_ends", AT_REST),
    "SLEEPER_IS_CAUSE_ENOUGH": ("every_run_ends", {**ONE, "LEADS": 0}),
}
MORE_MUTANTS = {
    "ROUSE_BEFORE_PUBLISHING": ("no_sleeper_left_with_work", AT_REST),
    "NO_CHAIN": ("no_sleeper_left_with_work", {"TOGETHER": 1, "LEADS": 0}),
    "LOOKS_BEFORE_THE_WAKE_IS_OVER": ("no_sleeper_left_with_work", {"TOGETHER": 1, "LEADS": 0}),
    "WAKE_OF_ONE_THAT_IS_UP_STAYS": ("no_sleeper_left_with_work", {**ONE, "LEADS": 0}),
    "WAKING_IS_LEFT": ("no_sleeper_left_with_work", {**ONE, "LEADS": 0, "DEATHS": 1}),
    "DEAD_STAY_ASLEEP": ("no_sleeper_left_with_work", {**ONE, "LEADS": 0, "DEATHS": 1}),
    "BELL_AFTER_BIT": ("no_sleeper_left_with_work", {**ONE, "LEADS": 0}),
    "COPY_AFTER_FREEING": ("runs_on_one_worker", ONE),
    "DEAD_STAY_READY": ("no_sleeper_left_with_work", {"NT": 1, "LEADS": 0, "DEATHS": 1, "SLOW": 1}),
    "LEAVE_DOES_NOT_WAKE": ("no_sleeper_left_with_work", {"LAST": 1, "SLOW": 1}),
    "LEAVE_TELLS_NOT_OF_UNREAD": ("no_result_left_unread", {"NT": 1, "LEADS": 0, "LAST": 1, "SLOW": 1}),
    "PUBLISH_FORGETS_FIRST": ("no_task_lost", {**LONE, "DEATHS": 1}),
    "RECOVER_BEFORE_READING": ("what_was_answered_never_fails", {**LONE, "DEATHS": 1}),
    "DEATH_DOES_NOT_TOLL": ("no_leader_left_asleep", {**LONE, "DEATHS": 1}),
}

CHUNKS_SMALL = {
    "an item is cancelled": {"NI": 3, "CANCELS": 1},
    "items are taken over": {"NI": 3, "STEALS": 1},
    "items of one of two chunks are taken over": {"NI": 2, "CHUNKS": 2, "STEALS": 1},
    "a death": {"NI": 3, "DEATHS": 1},
    "a death, and items are taken over": {"NI": 2, "DEATHS": 1, "STEALS": 1},
}
CHUNKS_LARGE = {
    "an item is cancelled, and items are taken over": {"NI": 2, "STEALS": 1, "CANCELS": 1},
    "items are taken over twice": {"NI": 3, "STEALS": 2},
    "two items are cancelled": {"NI": 3, "CANCELS": 2},
    "a death, and an item is cancelled": {"NI": 3, "DEATHS": 1, "CANCELS": 1},
    "two deaths": {"NI": 4, "DEATHS": 2},
    "two deaths, and items are taken over": {"NI": 2, "DEATHS": 2, "STEALS": 1},
    "two chunks and a death": {"NI": 4, "CHUNKS": 2, "DEATHS": 1},
}
CHUNKS_MUTANTS = {
    "CLAIM_STORES": ("runs_once", {"NI": 2, "STEALS": 1}),
    "CUT_STORES": ("item_settled_once", {"NI": 2, "STEALS": 1}),
    "CUT_TAKES_WHAT_IS_BEGUN": ("cancelled_item_never_runs", {"NI": 2, "CANCELS": 1}),
    "COUNTED_BEFORE_IT_IS_THERE": ("result_at_its_place", {"NI": 2, "NW": 1, "DEATHS": 1}),
    "ALL_PAY": ("a_death_costs_one_item", {"NI": 2, "NW": 1, "DEATHS": 1}),
    "TRAY_IS_FORGOTTEN": ("what_was_done_is_not_lost", {"NI": 2, "NW": 1, "DEATHS": 1}),
    "CHUNKS_ARE_NOT_COUNTED": ("the_account_is_right", {"NI": 2, "CHUNKS": 2, "STEALS": 1}),
    "CLAIMED_IS_FORGOTTEN": ("no_item_lost", {"NI": 2, "NW": 1, "DEATHS": 1}),
    "CHUNK_STAYS": ("the_account_is_right", {"NI": 2, "CHUNKS": 2, "STEALS": 1}),
    "OPENED_BY_A_STORE": ("runs_once", {"NI": 2, "STEALS": 1}),
    "HANDS_ARE_NOT_LOOKED_AT": ("the_account_is_right", {"NI": 2, "CHUNKS": 2, "STEALS": 1}),
    "RANGE_IS_INHERITED": ("the_account_is_right", {"NI": 2, "DEATHS": 1, "STEALS": 1}),
    "NEW_TRAY_KEEPS_ITS_COUNT": ("result_at_its_place", {"NI": 2, "NW": 1, "DEATHS": 1}),
    "RECOVERY_DOES_NOT_READ": ("what_was_done_is_not_lost", {"NI": 2, "NW": 1, "DEATHS": 1}),
}


def search(folder, constants, *, model=POOL, mutant=None, cycles=False, slow=False):
    """Searches all that a model can do with these constants, for broken promises or for cycles.

    Returns:
        The set of promises that it breaks.
    """
    optional.need("spin")
    defined = [f"-D{name}={value}" for name, value in constants.items()]
    if mutant:
        defined.append(f"-DMUTANT_{mutant}")
    run(folder, "spin", *defined, "-a", model)
    # To optimize takes longer than most searches.
    options = ["-O2" if slow else "-O0", "-w", "-DCOLLAPSE", "-DNOFAIR", f"-DMEMLIM={MEMORY_MB}"]
    run(folder, *compiler(), *options, "-DNP" if cycles else "-DSAFETY", "-o", "pan", "pan.c")
    # -c0: goes on after an error, so that what is found does not depend on the order of the search
    output = run(folder, "./pan", "-l" if cycles else "-c0", f"-m{DEPTH}", "-w22")
    assert "Search not completed" not in output or "errors: 0" not in output, output
    assert not re.search(r"depth too small|MEMLIM|out of memory|aborted", output), output
    broken = set(re.findall(r"assertion violated (\w+)", output))
    if "non-progress cycle (" in output:
        broken.add("every_run_ends")
    if "invalid end state (" in output:
        broken.add("no invalid end")
    assert broken or "errors: 0" in output, output
    return broken


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.mark.ci
@pytest.mark.parametrize("case", SMALL)
def test_the_model_keeps_its_promises(tmp_path, case):
    assert search(tmp_path, SMALL[case]) == set()


@pytest.mark.slow
@pytest.mark.deadline(1200)
@pytest.mark.parametrize("case", LARGE)
def test_the_model_keeps_its_promises_at_length(tmp_path, case):
    assert search(tmp_path, LARGE[case], slow=True) == set()


@pytest.mark.ci
@pytest.mark.deadline(1200)
@pytest.mark.parametrize(
    "case",
    ["a queue and a cancel", *(pytest.param(case, marks=pytest.mark.slow) for case in SMALL if "queue" not in case)],
)
def test_every_run_of_the_model_ends(tmp_path, case):
    # A time-out that comes again and again is a cycle, and meant.
    constants = {name: value for name, value in SMALL[case].items() if name != "TIMEOUTS"}
    assert search(tmp_path, constants, cycles=True) == set()


@pytest.mark.ci
@pytest.mark.parametrize(
    "mutant", [*MUTANTS, *(pytest.param(mutant, marks=pytest.mark.slow) for mutant in MORE_MUTANTS)]
)
def test_a_mutant_of_the_model_breaks_its_promise(tmp_path, mutant):
    promise, constants = (MUTANTS | MORE_MUTANTS)[mutant]
    assert promise in search(tmp_path, constants, mutant=mutant, cycles=promise == "every_run_ends")


@pytest.mark.ci
@pytest.mark.parametrize("case", CHUNKS_SMALL)
def test_the_model_of_chunks_keeps_its_promises(tmp_path, case):
    assert search(tmp_path, CHUNKS_SMALL[case], model=CHUNK) == set()


@pytest.mark.slow
@pytest.mark.deadline(1200)
@pytest.mark.parametrize("case", CHUNKS_LARGE)
def test_the_model_of_chunks_keeps_its_promises_at_length(tmp_path, case):
    assert search(tmp_path, CHUNKS_LARGE[case], model=CHUNK, slow=True) == set()


@pytest.mark.ci
@pytest.mark.parametrize("mutant", CHUNKS_MUTANTS)
def test_a_mutant_of_the_model_of_chunks_breaks_its_promise(tmp_path, mutant):
    promise, constants = CHUNKS_MUTANTS[mutant]
    assert promise in search(tmp_path, constants, model=CHUNK, mutant=mutant)


@pytest.mark.parametrize(
    ("model", "mutants", "more"), [(POOL, MUTANTS, MORE_MUTANTS), (CHUNK, CHUNKS_MUTANTS, {})], ids=["pool", "chunk"]
)
def test_each_promise_of_a_model_has_a_mutant(model, mutants, more):
    text = model.read_text()
    lists = re.findall(r"^hidden byte ([\w,\s]+);", text, re.MULTILINE)
    promises = {name for names in lists for name in re.split(r",\s*", names)}
    assert {promise for promise, _ in mutants.values()} - {"every_run_ends"} == promises
    assert set(mutants | more) == set(re.findall(r"\bMUTANT_([A-Z_]+)\b", text))
