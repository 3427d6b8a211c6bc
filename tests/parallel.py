"""A pytest plugin: the suite runs in one worker for each core and one more, which all take whole files until none is left.

Tests that start processes wait most of the time, so the one more begins with them while the others compute. Two at once would
compete for the cores, so that happens only at the end.
"""

import functools
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

# Seconds that an interrupted worker has to end what its test started.
PATIENCE = 60
# Folders of which one worker runs all tests: they share a cluster of ours, an API server, an image, or an installation.
FOLDERS = [Path(__file__).parent / name for name in ("browser", "faults", "image", "installed", "kubernetes")]
# Folders that are long enough for two workers, each with a cluster of its own: on one they would go on when all else is over.
HALVED = {"browser"}
# Files that take longer than others of their length: this one runs the commands of all pages.
LONGEST = {"test_running.py"}
_workers: list[Any] = []
# Stands between a folder and the number of its half.
_HALF = "::half"


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many workers; 0 for named files: starting workers and databases would take longer than their tests."""
    if all(_file_of(argument).is_file() for argument in config.args):
        return 0
    return len(os.sched_getaffinity(0)) + 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Return a scheduler that gives whole files to workers."""
    # In the order of the collection, not by the number of tests.
    config.option.loadscopereorder = False
    return _ByFiles(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that start processes first, the longest of them at the beginning: at the end, other workers would be idle."""
    items.sort(key=lambda item: _order(_scope_of(item.path)))


def pytest_testnodeready(node: Any) -> None:
    """Note a worker, for the end of the session."""
    _workers.append(node)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """Give interrupted workers PATIENCE seconds to end what they started: xdist would kill them after ten."""
    if exitstatus == pytest.ExitCode.INTERRUPTED and _workers:
        for process in psutil.Process().children():
            process.terminate()
        for worker in _workers:
            with suppress(EOFError, worker.channel.RemoteError, worker.channel.TimeoutError):
                worker.channel.waitclose(PATIENCE)


class _ByFiles(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each worker a file when it has nothing to do: the first worker one that starts processes, the others another."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope_of(self.config.rootpath / _file_of(nodeid))

    def _assign_work_unit(self, node: Any) -> None:
        takes_processes = node is self.nodes[0]
        wanted = [scope for scope in self.workqueue if _starts_processes(scope) == takes_processes]
        if wanted:
            self.workqueue.move_to_end(wanted[0], last=False)
        super()._assign_work_unit(node)


def _file_of(nodeid: str) -> Path:
    return Path(nodeid.partition("::")[0])


@functools.cache
def _scope_of(file: Path) -> str:
    """The file, folder or half of a folder of which one worker runs all tests."""
    folder = next((folder for folder in FOLDERS if file.is_relative_to(folder)), file)
    if folder.name not in HALVED:
        return str(folder)
    # Files of like lengths part by twos. What is no test, as screenshots.py, is run alone.
    sizes = sorted({*folder.glob("test_*.py"), file}, key=lambda one: (one.stat().st_size, one.name))
    return f"{folder}{_HALF}{sizes.index(file) // 2 % 2}"


@functools.cache
def _texts(scope: str) -> list[str]:
    path = Path(scope.partition(_HALF)[0])
    return [one.read_text() for one in (path.glob("test_*.py") if path.is_dir() else [path]) if _scope_of(one) == scope]


def _order(scope: str) -> tuple[bool, int, str]:
    """The other files stay in their order, which is random."""
    if not _starts_processes(scope):
        return True, 0, ""
    return False, -sum(map(len, _texts(scope))) * (1000 if Path(scope).name in LONGEST else 1), scope


def _starts_processes(scope: str) -> bool:
    # The process that distributes the tests does not import them, so it can't use marks.
    return any(f"pytest.mark.{mark}" in text for text in _texts(scope) for mark in ("processes", "kubernetes"))
