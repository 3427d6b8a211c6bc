"""A pytest plugin: the suite runs in one worker for each core; all tests that start processes run in the same worker.

So do all tests of Kubernetes, which share one API server.
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
# Marks of files that run in the same worker: two such tests at once would be too slow, or need two servers.
_GROUPS = ("processes", "kubernetes")
_workers: list[Any] = []


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of cores, or 0 for named files: starting workers and databases would take longer than their tests."""
    if all(_file_of(argument).is_file() for argument in config.args):
        return 0
    return len(os.sched_getaffinity(0))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Return a scheduler that gives whole files to workers."""
    # In the order of the collection, not by the number of tests: long files come first there.
    config.option.loadscopereorder = False
    return _ByFiles(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests of groups first. At the end, one worker would run them while the others have nothing to do."""
    items.sort(key=lambda item: not _group(item.path))


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
    """Runs a file's tests in one worker, and all tests of a group in one."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(self.config.rootpath / _file_of(nodeid))


def scope_of(file: Path) -> str:
    """Return the name of the scope of a file's tests. One worker runs all tests of a scope."""
    return _group(file) or str(file)


def _file_of(nodeid: str) -> Path:
    return Path(nodeid.partition("::")[0])


@functools.cache
def _group(file: Path) -> str:
    # The process that distributes the tests does not import them, so it can't use marks.
    text = file.read_text()
    return next((group for group in _GROUPS if f"pytest.mark.{group}" in text), "")
