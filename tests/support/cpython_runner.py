"""Runs one group of CPython's own executor tests, for one start method, against a class of ours.

    python cpython_runner.py GROUP START_METHOD MODULE:CLASS REPORT DEADLINE_S WALLTIME

test_cpython_suite.py starts this file as a child process, so that a hang or a crash ends the child and not
pytest. REPORT gets one JSON object a line: a "start" before each test, an "end" with its outcome, one
"summary" at the end of the run. A child that hangs for DEADLINE_S dumps its stacks on stderr and exits;
its report then ends with a "start" without an "end". WALLTIME 0 skips the tests that CPython itself marks
as mostly waiting.

How the class gets into the tests: `concurrent.futures.ProcessPoolExecutor` is replaced before the test
modules are imported, and `executor_type` of their mixins after; the scripts which some shutdown tests run
in an interpreter of their own get a preamble that does the former. Nothing is changed in the worker
processes, which see tasks and never the class.

The tables below say where a run departs from CPython's. `READS_PRIVATE`: tests that are dropped, for
they read attributes which only the standard library's class has. Every entry is checked against the source
of the test in the running Python, so that none outlives its reason. `WORKERS_DIFFER`: the same, for tests of what
processes do that ours do otherwise. `COUNTS_ON_DELAY`: the same, for tests that a fast
executor cannot pass. `DIFFERS`: tests that are run with
another expected exception, by design.

The standard library's own class runs with none of them: so the harness itself can be tested.
"""

import sys

GROUPS = {
    # group: its module, then the test mixins that make it up. Early releases of 3.11 have all of them in one
    # module.
    "as_completed": ("test_as_completed", ["AsCompletedTests"]),
    "wait": ("test_wait", ["WaitTests"]),
    "executor": ("test_process_pool", ["ProcessPoolExecutorTest"]),
    "shutdown": ("test_shutdown", ["ProcessPoolShutdownTest"]),
    "init": ("test_init", ["InitializerMixin", "FailingInitializerMixin"]),
    "deadlock": ("test_deadlock", ["ExecutorDeadlockTest"]),
}

READS_PRIVATE = {
    # test: what it reads of the standard library's executor, itself or through a helper that it calls.
    # The start method in brackets: the only ones for which the test gets as far as that.
    "test_shutdown_no_wait_max_tasks_gh119592": "_executor_manager_thread",
    "test_gc_during_max_tasks_worker_exit_gh152967": "_executor_manager_thread",
    "test_force_shutdown_during_max_tasks_worker_exit": "_executor_manager_thread",
    "test_failed_worker_replacement_breaks_pool": "_executor_manager_thread",
    "test_python_finalization_error": "QueueFeederThread",
    "test_terminate_workers": "_force_shutdown",
    "test_kill_workers": "_force_shutdown",
    "test_force_shutdown_workers_invalid_op": "_force_shutdown",
    "test_del_shutdown": "_executor_manager_thread",
    "test_shutdown_no_wait": "_executor_manager_thread",
    "test_shutdown_gh_132969_case_1": "_executor_manager_thread",
    "test_shutdown_gh_132969_case_2": "_executor_manager_thread",
    "test_shutdown_deadlock_pickle": "_executor_manager_thread",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "_ExecutorManagerThread",
}

WORKERS_DIFFER = {
    # test: the words in it that ours cannot do, by design. Brackets as above.
    # A worker that dies costs the task that it was running, and another takes its place.
    "test_killed_child": "p.terminate()",
    "test_broken_process_pool_traceback": "p.terminate()",
    # The pool signals the worker itself, and not by way of its `Process`.
    "test_force_shutdown_workers": "worker_process.terminate.assert_called()",
    # Workers after the first are started by a thread of the pool, so they may be there a little later.
    "test_saturation": "len(executor._processes)",
    "test_processes_terminate": "len(self.executor._processes)",
    # The successor of a worker that nears its last task is there beside it.
    "test_max_tasks_per_child [forkserver spawn]": "len(executor._processes)",
}

COUNTS_ON_DELAY = {
    # It counts on a worker having claimed a task by the time of a shutdown that follows 50 submits at once. Ours come
    # faster than a worker starts, and what no worker has claimed is cancelled, so all of them are. test_contract.py
    # has a test with a task that is known to run.
    "test_cancel_futures": "cancel_futures=True",
}

DIFFERS = {
    # test: the exception we raise, where the standard library breaks the whole pool with BrokenProcessPool.
    # An object that cannot be unpickled fails its own future with the original error, on either side.
    "test_error_at_task_unpickle": "pickle:UnpicklingError",
    "test_exit_at_task_unpickle": "builtins:SystemExit",
    "test_error_during_result_unpickle_in_result_handler": "pickle:UnpicklingError",
    "test_exit_during_result_unpickle_in_result_handler": "builtins:SystemExit",
}

# A test that waits this long for one future has found a deadlock. CPython waits five minutes.
DEADLOCK_S = 30.0


def load(spec):
    """Returns the object that MODULE:NAME names."""
    import importlib

    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)


def is_stdlib(spec):
    return spec.startswith("concurrent.futures")


def make_executor_class(spec, group):
    """Returns the class that the tests construct: the named one, or a subclass of it that differs from it
    only by what the group asks for."""
    base = load(spec)
    if is_stdlib(spec):
        return base

    class ProcessPoolExecutor(base):
        # Being a subclass has a use of its own: test_hang_gh83386 skips what is the standard library's class,
        # because that hangs, and ours must not.
        if group == "deadlock":

            def __init__(self, *args, **kwargs):
                super().__init__(*args, on_worker_death="break", **kwargs)

    return ProcessPoolExecutor


def script_preamble(spec):
    """Returns the lines that put our class into an interpreter which a test starts with `-I -c`."""
    module, _, name = spec.partition(":")
    return (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import multiprocessing, concurrent.futures\n"
        f"from {module} import {name} as _ours\n"
        "concurrent.futures.ProcessPoolExecutor = _ours\n"
    )


def find_module(group):
    """Returns the running Python's test module for the group.

    Raises:
        ModuleNotFoundError: this installation has no such tests.
    """
    import importlib

    package = importlib.import_module("test.test_concurrent_futures")
    if not hasattr(package, "__path__"):
        return package
    return importlib.import_module(f"{package.__name__}.{GROUPS[group][0]}")


def source_of(test_class, name):
    """Returns the source of a test and of the methods of its class that it calls."""
    import inspect
    import re

    source = inspect.getsource(getattr(test_class, name))
    for helper in set(re.findall(r"self\.(_\w+)\(", source)):
        if inspect.isroutine(getattr(test_class, helper, None)):
            source += inspect.getsource(getattr(test_class, helper))
    return source


def find_private(name, start_method):
    """Returns the words in a test for which it is left out, or None if it is to be run."""
    for key, private in (READS_PRIVATE | WORKERS_DIFFER | COUNTS_ON_DELAY).items():
        test, _, methods = key.partition(" ")
        if test == name and (not methods or start_method in methods.strip("[]").split()):
            return private
    return None


def collect(module, group, start_method, spec):
    """Returns (suite, excluded): the tests to run, and {test id: private attribute} of those left out."""
    import unittest

    loader = unittest.TestLoader()
    suite = unittest.TestSuite()
    excluded = {}
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    for test_class in classes:
        bases = {base.__name__ for base in test_class.__mro__}
        if not issubclass(test_class, unittest.TestCase):
            continue
        if getattr(test_class, "ctx", None) != start_method or not bases.intersection(GROUPS[group][1]):
            continue
        for name in loader.getTestCaseNames(test_class):
            private = None if is_stdlib(spec) else find_private(name, start_method)
            if private is None:
                suite.addTest(test_class(name))
            elif private not in source_of(test_class, name):
                raise LookupError(f"{name} no longer reads {private}: correct the tables")
            else:
                excluded[f"{test_class.__name__}.{name}"] = private
    # One class of the group tests spawn and forkserver by a method each, and so has no `ctx` to go by.
    resources = getattr(module, "FailingInitializerResourcesTest", None)
    if group == "init" and hasattr(resources, f"test_{start_method}"):
        suite.addTest(resources(f"test_{start_method}"))
    return suite, excluded


def adapt(module, spec, executor_class):
    """Puts our class into an imported test module, with the exceptions that differ by design."""
    for name, value in vars(module).items():
        if name.startswith("ProcessPool") and hasattr(value, "executor_type"):
            value.executor_type = executor_class
    run_python = getattr(module, "assert_python_ok", None)
    if run_python is not None:
        preamble = script_preamble(spec)
        module.assert_python_ok = lambda flag, code, **env: run_python(flag, preamble + code, **env)
    if is_stdlib(spec):
        return

    deadlock = getattr(module, "ExecutorDeadlockTest", None)
    if deadlock is not None:
        check_name = "_check_error" if hasattr(deadlock, "_check_error") else "_check_crash"
        check = getattr(deadlock, check_name)

        def check_with_our_error(self, error, *args, **kwargs):
            ours = DIFFERS.get(self._testMethodName)
            return check(self, load(ours) if ours else error, *args, **kwargs)

        def fail_on_deadlock(self, executor):
            import faulthandler

            faulthandler.dump_traceback()
            self.fail(f"no result after {DEADLOCK_S} s; the stacks are on stderr")

        setattr(deadlock, check_name, check_with_our_error)
        deadlock._fail_on_deadlock = fail_on_deadlock
        deadlock.TIMEOUT = DEADLOCK_S


def make_result(write):
    """Returns a unittest result that tells every start and end to `write`, as a dict."""
    import time
    import unittest

    class Result(unittest.TestResult):
        def startTest(self, test):
            super().startTest(test)
            self.outcome, self.text = "passed", ""
            self.started = time.monotonic()
            write({"event": "start", "id": test.id()})

        def stopTest(self, test):
            seconds = round(time.monotonic() - self.started, 3)
            write(
                {
                    "event": "end",
                    "id": test.id(),
                    "outcome": self.outcome,
                    "seconds": seconds,
                    "text": self.text,
                }
            )
            super().stopTest(test)

        def note(self, test, outcome, text):
            if hasattr(self, "started"):
                self.outcome, self.text = outcome, self.text + text
            if not isinstance(test, unittest.TestCase):
                # setUpModule and its cleanups fail outside any test.
                write({"event": "end", "id": str(test), "outcome": outcome, "seconds": 0.0, "text": text})

        def addError(self, test, err):
            super().addError(test, err)
            self.note(test, "failed", self._exc_info_to_string(err, test))

        def addFailure(self, test, err):
            super().addFailure(test, err)
            self.note(test, "failed", self._exc_info_to_string(err, test))

        def addSubTest(self, test, subtest, err):
            super().addSubTest(test, subtest, err)
            if err is not None:
                self.note(test, "failed", f"{subtest}\n{self._exc_info_to_string(err, test)}")

        def addSkip(self, test, reason):
            super().addSkip(test, reason)
            if self.outcome != "failed":
                self.note(test, "skipped", reason)

    return Result()


def run(group, start_method, spec, report_path, walltime):
    """Runs the group and writes the report. Returns the exit code: 0 if nothing failed, 1 if something did,
    2 if this Python has no tests to run."""
    import concurrent.futures
    import json
    import os
    import resource

    # Some tests make a worker crash; its core would be large, and would be written before the pool notices.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    report = os.open(report_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(entry):
        # Unbuffered: a forked worker must not find half a line to write again.
        os.write(report, json.dumps(entry).encode() + b"\n")

    executor_class = make_executor_class(spec, group)
    concurrent.futures.ProcessPoolExecutor = load(spec)
    try:
        from test import support

        if not walltime:
            support.use_resources = ()
        module = find_module(group)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "test":
            raise
        write({"event": "missing", "text": str(missing)})
        return 2

    adapt(module, spec, executor_class)
    suite, excluded = collect(module, group, start_method, spec)
    result = make_result(write)
    suite.run(result)
    # True after a thread or a child process that outlived its test: CPython's runner calls that a failure.
    altered = bool(support.environment_altered)
    write({"event": "summary", "run": result.testsRun, "excluded": excluded, "environment_altered": altered})
    return 0 if result.wasSuccessful() and not altered else 1


if __name__ == "__main__":
    import faulthandler

    faulthandler.enable()
    faulthandler.dump_traceback_later(float(sys.argv[5]), exit=True)
    sys.exit(run(*sys.argv[1:5], walltime=sys.argv[6] == "1"))
