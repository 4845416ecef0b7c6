"""The recovery of a dead worker asks the core in one order only, and cannot be used wrongly."""

from __future__ import annotations

import pytest

from ringpool.recovery import Recovery


class Client:
    """Stands for a `_core.Client`: notes what it is asked, and which tasks it sends again."""

    def __init__(self, lost, sends=()):
        self.lost = lost
        self.sends = sends
        self.calls = []
        self.segment = self  # the part that gives workers their turns

    def __getattr__(self, name):
        def call(*args):
            self.calls.append((name, *args))
            if name == "retry":
                return args[0] in self.sends
            return (self.lost, True, False, 7) if name == "begin_recovery" else name

        return call


def test_the_core_is_asked_in_order():
    client = Client(["a", "b"], sends=["a"])
    error = ValueError()
    with Recovery(client, 3) as recovery:
        assert (recovery.started, recovery.retired, recovery.peak_rss) == (True, False, 7)
        assert recovery.lost == ["a", "b"]
        assert recovery.retry("a")
        assert not recovery.retry("b")
        assert recovery.describe("b") == "describe"
        recovery.fail("b", error)
        recovery.hand_over(4, 9)
    assert client.calls == [
        ("begin_recovery", 3),
        ("retry", "a"),
        ("retry", "b"),
        ("describe", "b"),
        ("fail", "b", error),
        ("give_turn", 4, 9),
        ("end_recovery",),
    ]


@pytest.mark.parametrize(
    "use",
    [
        lambda ended: ended.started,
        lambda ended: ended.retired,
        lambda ended: ended.peak_rss,
        lambda ended: ended.lost,
        lambda ended: ended.retry("a"),
        lambda ended: ended.describe("a"),
        lambda ended: ended.fail("a", ValueError()),
        lambda ended: ended.hand_over(0, 1),
        lambda ended: ended.end(),
        lambda ended: ended.__enter__(),
    ],
    ids=["started", "retired", "peak_rss", "lost", "retry", "describe", "fail", "hand_over", "end", "with"],
)
def test_a_recovery_that_has_ended_answers_nothing_more(use):
    client = Client([])
    recovery = Recovery(client, 0)
    recovery.end()
    calls = list(client.calls)
    with pytest.raises(RuntimeError, match="has ended"):
        use(recovery)
    assert client.calls == calls


def test_a_lost_task_cannot_be_left_pending():
    client = Client(["a", "b"])
    with pytest.raises(RuntimeError, match="1 lost tasks were neither"), Recovery(client, 0) as recovery:
        recovery.fail("a", ValueError())
    assert ("end_recovery",) not in client.calls


@pytest.mark.parametrize("again", ["retry", "describe", "fail"])
@pytest.mark.parametrize("first", ["retry", "fail"])
def test_a_task_is_decided_once(first, again):
    recovery = Recovery(Client(["a"], sends=["a"]), 0)
    uses = {
        "retry": lambda: recovery.retry("a"),
        "describe": lambda: recovery.describe("a"),
        "fail": lambda: recovery.fail("a", ValueError()),
    }
    uses[first]()
    with pytest.raises(ValueError, match="not one of those lost"):
        uses[again]()


def test_a_task_that_was_not_lost_cannot_be_failed():
    with pytest.raises(ValueError, match="not one of those lost"):
        Recovery(Client(["a"]), 0).fail("b", ValueError())


def test_a_recovery_that_is_broken_off_wakes_no_worker():
    client = Client(["a"])
    with pytest.raises(MemoryError), Recovery(client, 0) as recovery:
        raise MemoryError
    assert ("end_recovery",) not in client.calls
    with pytest.raises(RuntimeError, match="has ended"):
        recovery.end()
