"""What the tests of terminals and process groups run in workers, and the program that they start for it."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from files import await_file

import ringpool

# A child of a task, with a child of its own.
CHILD = """
import os, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
grandchild = subprocess.Popen(["sleep", "600"])
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {grandchild.pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
grandchild.wait()
"""


# A child of a task that leaves it to its own resource tracker to remove what it makes.
MAKER = """
import os, sys, time
from multiprocessing import resource_tracker, shared_memory
made = shared_memory.SharedMemory(create=True, size=1)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {resource_tracker._resource_tracker._pid} {made.name}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""


def pool(kind: str, method: str, workers: int = 1, **options: Any) -> Any:
    made = {"ringpool": ringpool.ProcessPoolExecutor, "stdlib": concurrent.futures.ProcessPoolExecutor}[kind]
    return made(workers, multiprocessing.get_context(method), **options)


def write_whole(path: str, text: str) -> None:
    """The file is there with all of its text, or not at all."""
    Path(path + ".new").write_text(text)
    os.rename(path + ".new", path)


def nothing() -> None:
    pass


def where_it_is() -> tuple[int, int]:
    return os.getpgrp(), os.getsid(0)


def where_a_nested_worker_is(method: str) -> tuple[int, int]:
    with pool("ringpool", method) as executor:
        return executor.submit(where_it_is).result()


def use_the_terminal() -> str:
    """Sets its modes, by a program and without one, and reads a line."""
    subprocess.run(["stty", "-F", "/dev/tty", "-echo"], check=True)
    fd = os.open("/dev/tty", os.O_RDWR)
    try:
        modes = termios.tcgetattr(fd)
        modes[3] |= termios.ECHO
        termios.tcsetattr(fd, termios.TCSADRAIN, modes)
        os.write(fd, b"ask\n")
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)


def read_the_terminal(path: str, gate: str) -> str:
    Path(path).touch()
    await_file(gate)
    with open("/dev/tty") as terminal:
        return terminal.readline()


def start_family(path: str, lead: str = "") -> None:
    """Has a child and a grandchild, whose pids it writes; and goes on whatever is raised."""
    if lead:
        getattr(os, lead)(*((0, 0) if lead == "setpgid" else ()))
    subprocess.Popen([sys.executable, "-c", CHILD, path])
    while True:
        try:
            time.sleep(600)
        except BaseException:
            continue


def start_family_and_wait(path: str) -> None:
    """The same, as a program that knows nothing of pools would have it."""
    subprocess.run([sys.executable, "-c", CHILD, path])


def start_daemon(path: str) -> None:
    """Has a grandchild that leaves as daemons do, and a child in a session and one in a group of their own."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            write_whole(path + ".daemon", str(os.getpid()))
            os.execvp("sleep", ["sleep", "600"])
        os._exit(0)
    session = subprocess.Popen(["sleep", "600"], start_new_session=True)
    group = subprocess.Popen(["sleep", "600"], preexec_fn=os.setpgrp)
    await_file(path + ".daemon")
    write_whole(path + ".left", f"{Path(path + '.daemon').read_text()} {session.pid} {group.pid}")


def start_daemon_and_family(path: str) -> None:
    start_daemon(path)
    start_family(path)


def start_maker_of_shared_memory(path: str) -> None:
    subprocess.run([sys.executable, "-c", MAKER, path], check=True)


def lead_session() -> int:
    os.setsid()
    return os.getsid(0)


def lead_group() -> int:
    os.setpgid(0, 0)
    return os.getpgrp()


def touch_and_await(running: str, gate: str) -> str:
    Path(running).touch()
    await_file(gate)
    return "done"


def signals_ignored_by_a_child() -> int:
    """The mask of the signals that a program ignores which a task has started."""
    child = subprocess.run(["cat", "/proc/self/status"], stdout=subprocess.PIPE, text=True, check=True)
    return int(child.stdout.split("SigIgn:")[1].split()[0], 16)


def main() -> None:
    """The program: a pool, one task in it, and what that returned."""
    kind, method, task, *arguments = sys.argv[1:]
    if os.environ.get("HANDLES_SIGTERM"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    timeout = float(os.environ.get("LIMIT", "0"))
    with pool(kind, method) as executor:
        view = executor.options(timeout=timeout, grace=1) if timeout else executor
        future = view.submit(globals()[task], *arguments)
        workers = executor._supervisor.processes if kind == "ringpool" else executor._processes.values()
        print(os.getpid(), *(each.pid for each in workers), flush=True)
        print(repr(future.result()), flush=True)


if __name__ == "__main__":
    main()
