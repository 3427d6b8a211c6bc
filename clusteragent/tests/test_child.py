"""Processes of a term: started, replaced when they fail, and ended with all that they started."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusteragent import child as module
from clusteragent.child import Child
from tests.replicas import descendants, wait_for

# In place of manage.py: it says that it runs, and starts a process that outlives it.
PROGRAM = """
import subprocess, sys, time
subprocess.Popen(["sleep", "1000"])
open(sys.argv[1], "w").close()
time.sleep(1000)
"""


class Ours(Child):
    """A child whose sign of life is what a test says."""

    name, stale, starting = "ours", 5.0, 40.0
    sign = 0
    cleared = 0

    def sign_of_life(self) -> object:
        return self.sign

    def left_behind(self) -> None:
        self.cleared += 1


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ours]:
    """A child that was never started, and is stopped after the test."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setattr(module, "manage", lambda *words: [sys.executable, str(tmp_path / "program.py"), *words])
    monkeypatch.setattr(module, "GRACE", 0.2)
    child = Ours(7, str(tmp_path / "runs"))
    try:
        yield child
    finally:
        child.stop()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    """The clock of the module."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def running(folder: Path) -> int:
    """Wait until the process runs; return its process ID."""
    wait_for("it runs", (folder / "runs").exists)
    (folder / "runs").unlink()
    return next(pid for pid in descendants(os.getpid()) if str(folder / "program.py") in words(pid))


def words(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_text() if path.exists() else ""


def test_it_is_started_once_and_ends_with_all_that_it_started(child: Ours, tmp_path: Path) -> None:
    child.keep_alive()
    pid = running(tmp_path)
    child.keep_alive()
    below = wait_for("what it started", lambda: descendants(pid))
    assert f"--parent\0{os.getpid()}" in words(pid)
    assert words(pid).startswith(sys.executable)
    child.stop()
    wait_for("nothing is left", lambda: not any(words(each) for each in [pid, *below]))
    assert child.cleared == 0


def test_one_that_exited_is_replaced(child: Ours, tmp_path: Path) -> None:
    child.keep_alive()
    before = running(tmp_path)
    os.kill(before, signal.SIGKILL)
    wait_for("it is replaced", lambda: (child.keep_alive(), (tmp_path / "runs").exists())[1])
    assert running(tmp_path) != before
    assert child.cleared == 1


def test_one_without_a_new_sign_of_life_is_replaced(child: Ours, clock: Clock, tmp_path: Path) -> None:
    child.keep_alive()
    before = running(tmp_path)
    for child.sign in range(3):
        clock.now += 4
        child.keep_alive()
    assert words(before)
    clock.now += 4
    child.keep_alive()
    assert words(before)
    clock.now += 2
    child.keep_alive()
    assert running(tmp_path) != before


def test_a_start_may_take_longer_than_the_pauses_of_one_that_works(child: Ours, clock: Clock, tmp_path: Path) -> None:
    """On a machine without processor time each start that was cut off would take the time of the next."""
    child.sign = 7
    child.keep_alive()
    before = running(tmp_path)
    clock.now += 39
    child.keep_alive()
    assert words(before)
    clock.now += 2
    child.keep_alive()
    slow = running(tmp_path)
    assert slow != before
    clock.now += 39
    child.sign = 8
    child.keep_alive()
    clock.now += 4
    child.keep_alive()
    assert words(slow)
    clock.now += 2
    child.keep_alive()
    assert running(tmp_path) != slow


def test_its_silence_is_that_of_all_its_processes(child: Ours, clock: Clock, tmp_path: Path) -> None:
    assert child.silence() == 0
    child.keep_alive()
    child.sign = 1
    child.keep_alive()
    for _ in range(3):
        os.kill(running(tmp_path), signal.SIGKILL)
        wait_for("it is replaced", lambda: (child.keep_alive(), (tmp_path / "runs").exists())[1])
        clock.now += 20
    assert child.silence() == 60
    child.sign = 2
    child.keep_alive()
    assert child.silence() == 0


def test_one_that_fails_is_not_started_again_at_once_if_it_asks_for_a_pause(
    child: Ours, clock: Clock, tmp_path: Path
) -> None:
    child.pause = 10.0
    child.keep_alive()
    before = running(tmp_path)
    child.sign = 1
    clock.now += 6
    os.kill(before, signal.SIGKILL)
    wait_for("it is seen", lambda: (child.keep_alive(), child.cleared)[1])
    assert not [pid for pid in descendants(os.getpid()) if str(tmp_path / "program.py") in words(pid)]
    clock.now += 4
    child.keep_alive()
    assert running(tmp_path) != before
