"""What a process may use of the machine, read from control groups that the tests make up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringpool import machine

NO_LIMIT_V1 = 9223372036854771712  # what version 1 shows where no limit is set


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes a tree of control groups, and puts this process into one: tree(membership, {file: content})."""
    groups = tmp_path / "cgroup"
    groups.mkdir()
    monkeypatch.setattr(machine, "_CGROUPS", groups)
    monkeypatch.setattr(machine, "_SELF", tmp_path / "self")
    monkeypatch.setattr(machine, "_VMSTAT", groups / "vmstat")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))

    def make(membership: str | bytes | None, files: dict[str, str | bytes]) -> None:
        if membership is not None:
            write(tmp_path / "self", membership)
        for name, content in files.items():
            write(groups / name, content)

    return make


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# ---- processors ----


def test_without_a_quota_the_affinity_counts(tree):
    tree("0::/user/me\n", {"cpu.max": "max 100000\n", "user/me/cpu.max": "max 100000\n"})
    assert machine.usable_cpus() == 64


def test_a_smaller_affinity_than_the_quota_counts(tree, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    tree("0::/\n", {"cpu.max": "400000 100000\n"})
    assert machine.usable_cpus() == 2


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("100001 100000", 2),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("1 100000", 1),
        ("0 100000", 1),
        ("12800000 100000", 64),
        ("50000 10000", 5),
    ],
)
def test_a_quota_is_rounded_up_and_is_at_least_one_processor(tree, quota, cpus):
    tree("0::/a\n", {"a/cpu.max": quota + "\n"})
    assert machine.usable_cpus() == cpus


@pytest.mark.parametrize("smallest", ["", "a/", "a/b/", "a/b/c/"])
def test_the_smallest_quota_on_the_way_to_the_root_counts(tree, smallest):
    quotas = {f"{folder}cpu.max": "800000 100000\n" for folder in ("", "a/", "a/b/", "a/b/c/")}
    tree("0::/a/b/c\n", {**quotas, f"{smallest}cpu.max": "300000 100000\n"})
    assert machine.usable_cpus() == 3


def test_quotas_of_other_groups_do_not_count(tree):
    tree("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/x/cpu.max": "1 100000", "a/b/c/cpu.max": "1 100000"})
    assert machine.usable_cpus() == 64


def test_in_a_container_the_group_mounted_at_the_root_counts(tree):
    tree("0::/../../docker/0123abcd\n", {"cpu.max": "250000 100000\n"})
    assert machine.usable_cpus() == 3


def test_version_1_quotas_are_read_from_the_controllers_own_tree(tree):
    tree(
        "5:memory:/jobs\n4:cpu,cpuacct:/jobs/mine\n1:name=systemd:/x\n",
        {
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "cpu/jobs/cpu.cfs_quota_us": "350000\n",
            "cpu/jobs/cpu.cfs_period_us": "100000\n",
            "cpu/jobs/mine/cpu.cfs_quota_us": "-1\n",
            "cpu/jobs/mine/cpu.cfs_period_us": "100000\n",
            "memory/jobs/cpu.cfs_quota_us": "1\n",
            "memory/jobs/cpu.cfs_period_us": "100000\n",
        },
    )
    assert machine.usable_cpus() == 4


def test_both_versions_side_by_side_both_count(tree):
    tree(
        "4:cpu:/one\n0::/two\n",
        {
            "cpu/one/cpu.cfs_quota_us": "500000\n",
            "cpu/one/cpu.cfs_period_us": "100000\n",
            "two/cpu.max": "600000 100000\n",
        },
    )
    assert machine.usable_cpus() == 5


def test_a_version_1_controller_whose_name_only_begins_alike_does_not_count(tree):
    tree("4:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "1\n", "cpuset/cpu.cfs_period_us": "100000\n"})
    assert machine.usable_cpus() == 64


def test_missing_files_mean_no_quota(tree):
    tree(None, {})
    assert machine.usable_cpus() == 64
    tree("0::/nowhere\n", {})
    assert machine.usable_cpus() == 64
    tree("4:cpu:/nowhere\n", {"cpu/nowhere/cpu.cfs_quota_us": "100000\n"})  # no period
    assert machine.usable_cpus() == 64


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "\n\n100000 100000",
        "100000",
        "max",
        "100000 100000 7",
        "-1 100000",
        "many 100000",
        "1.5 1",
        "100000 many",
        "100000 0",
        "100000 -5",
        "\u00b2 \u00b2",  # a digit to str.isdigit, not to int
        b"\xff\xfe\x00",
        b"\x00" * 50,
    ],
    ids=ascii,
)
def test_a_quota_that_makes_no_sense_is_none(tree, content):
    tree("0::/a\n", {"a/cpu.max": content})
    assert machine.usable_cpus() == 64


@pytest.mark.parametrize(("quota", "period"), [("100000", "0"), ("100000", "x"), ("x", "100000"), ("\u00b2", "1")])
def test_a_version_1_quota_that_makes_no_sense_is_none(tree, quota, period):
    tree("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": period})
    assert machine.usable_cpus() == 64


@pytest.mark.parametrize(
    "membership",
    ["", "\n", "nonsense\n", "0:/a\n", "0\n:\n", b"\xff\xff", "\x00"],
    ids=ascii,
)
def test_a_membership_that_makes_no_sense_means_no_quota(tree, membership):
    tree(membership, {"a/cpu.max": "100000 100000\n", "a/memory.max": "4096\n"})
    assert machine.usable_cpus() == 64
    assert machine.usable_memory() == physical()


def test_a_group_whose_name_holds_a_colon_or_a_space_is_found(tree):
    tree("0::/system.slice/a:b c\n", {"system.slice/a:b c/cpu.max": "200000 100000\n"})
    assert machine.usable_cpus() == 2


def test_a_group_that_is_no_folder_means_no_quota(tree):
    tree("0::/a/b\n", {"a": "a file, not a folder"})
    assert machine.usable_cpus() == 64


def test_the_affinity_of_the_calling_process_is_obeyed(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_SELF", tmp_path / "none")
    mine = os.sched_getaffinity(0)
    assert machine.usable_cpus() == len(mine)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert machine.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, mine)


def test_this_machine_gives_an_answer_within_its_bounds():
    assert 1 <= machine.usable_cpus() <= os.cpu_count()
    assert 1 << 20 <= machine.usable_memory() <= physical()


# ---- memory ----


def test_without_a_limit_the_memory_of_the_machine_counts(tree):
    tree("0::/a\n", {"a/memory.max": "max\n"})
    assert machine.usable_memory() == physical()


@pytest.mark.parametrize("smallest", ["", "a/", "a/b/"])
def test_the_smallest_memory_limit_on_the_way_to_the_root_counts(tree, smallest):
    limits = {f"{folder}memory.max": f"{1 << 30}\n" for folder in ("", "a/", "a/b/")}
    tree("0::/a/b\n", {**limits, f"{smallest}memory.max": f"{50 << 20}\n"})
    assert machine.usable_memory() == 50 << 20


def test_version_1_memory_limits_are_read_from_the_controllers_own_tree(tree):
    tree(
        "5:memory:/jobs\n4:cpu,cpuacct:/jobs\n",
        {
            "memory/memory.limit_in_bytes": f"{NO_LIMIT_V1}\n",
            "memory/jobs/memory.limit_in_bytes": f"{300 << 20}\n",
            "cpu/jobs/memory.limit_in_bytes": "1\n",
        },
    )
    assert machine.usable_memory() == 300 << 20


def test_version_1_without_a_limit_leaves_the_memory_of_the_machine(tree):
    tree("5:memory:/\n", {"memory/memory.limit_in_bytes": f"{NO_LIMIT_V1}\n"})
    assert machine.usable_memory() == physical()


@pytest.mark.parametrize("content", ["", "\n", "max", "-1", "lots", "1e9", "\u00b2", b"\xff\xff"], ids=ascii)
def test_a_memory_limit_that_makes_no_sense_is_none(tree, content):
    tree("0::/a\n", {"a/memory.max": content})
    assert machine.usable_memory() == physical()


@pytest.mark.parametrize("refusal", [OSError, ValueError])
def test_where_the_machine_does_not_tell_its_memory_a_guess_is_made(tree, monkeypatch, refusal):
    def refuse(name):
        raise refusal(name)

    monkeypatch.setattr(os, "sysconf", refuse)
    tree("0::/a\n", {})
    assert machine.usable_memory() == machine._UNKNOWN_MEMORY
    tree("0::/a\n", {"a/memory.max": "123456\n"})
    assert machine.usable_memory() == 123456


def test_a_pool_has_as_many_workers_as_the_quota_buys(tree):
    from ringpool import ProcessPoolExecutor

    tree("0::/a\n", {"a/cpu.max": "250000 100000\n"})
    executor = ProcessPoolExecutor()
    try:
        assert executor._max_workers == 3
    finally:
        executor.shutdown()


# ---- kills by the kernel when memory runs out ----

EVENTS = "low 0\nhigh 0\nmax 9\noom 7\noom_kill {}\noom_group_kill 5\n"


def test_the_kills_of_the_innermost_group_that_counts_them_are_given(tree):
    tree("0::/a/b\n", {"a/memory.events": EVENTS.format(8), "vmstat": "oom_kill 9\n"})
    assert machine.oom_kills() == 8
    tree(None, {"a/b/memory.events": EVENTS.format(3), "a/b/c/memory.events": EVENTS.format(4)})
    assert machine.oom_kills() == 3


def test_version_1_kills_are_read_from_the_controllers_own_tree(tree):
    tree(
        "5:memory:/jobs\n4:cpu,cpuacct:/jobs\n0::/\n",
        {
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n",
            "memory/jobs/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            "cpu/jobs/memory.oom_control": "oom_kill 1\n",
        },
    )
    assert machine.oom_kills() == 2


def test_where_no_group_counts_kills_those_of_the_machine_are_given(tree):
    tree("0::/\n", {"vmstat": "nr_free_pages 1\noom_kill 4\noom_kill_x 5\n"})
    assert machine.oom_kills() == 4
    tree("5:memory:/jobs\n", {"memory/jobs/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"})  # before 4.13
    assert machine.oom_kills() == 4


@pytest.mark.parametrize(
    "content", ["", "oom_kill", "oom_kill -1\n", "oom_kill x", "oom_kill 1 2", "oom_kill \u00b2", b"\xff"], ids=ascii
)
def test_a_count_of_kills_that_makes_no_sense_is_none(tree, content):
    tree("0::/a\n", {"a/memory.events": content, "vmstat": content})
    assert machine.oom_kills() is None


def test_the_kills_on_this_machine_do_not_fall():
    first = machine.oom_kills()
    assert first is None or machine.oom_kills() >= first >= 0
