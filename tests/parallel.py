"""A pytest plugin: the whole suite runs in a worker for each core, what starts processes in one of them."""

import functools
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

# Seconds in which a worker that is interrupted ends what its test started.
PATIENCE = 60
_workers: list[Any] = []


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """None for named files: their tests seldom take as long as it takes to start workers and to make their databases."""
    if all(_file_of(argument).is_file() for argument in config.args):
        return 0
    return len(os.sched_getaffinity(0))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    # The order of the collection, not of sizes: tests come by chance, long ones first.
    config.option.loadscopereorder = False
    return _ByFiles(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start processes come first, so that at the end no worker is alone with them."""
    items.sort(key=lambda item: not _starts_processes(item.path))


def pytest_testnodeready(node: Any) -> None:
    _workers.append(node)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """Let workers that are interrupted end what they started: xdist kills them after ten seconds."""
    if exitstatus == pytest.ExitCode.INTERRUPTED and _workers:
        for process in psutil.Process().children():
            process.terminate()
        for worker in _workers:
            with suppress(EOFError, worker.channel.RemoteError, worker.channel.TimeoutError):
                worker.channel.waitclose(PATIENCE)


class _ByFiles(LoadScopeScheduling):  # type: ignore[misc]
    """A file's tests run in one worker. So do all of those that start processes: two at once would starve each other."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(self.config.rootpath / _file_of(nodeid))


def scope_of(file: Path) -> str:
    """The name of what one worker runs as a whole, and this file with it."""
    return "processes" if _starts_processes(file) else str(file)


def _file_of(nodeid: str) -> Path:
    return Path(nodeid.partition("::")[0])


@functools.cache
def _starts_processes(file: Path) -> bool:
    # Who deals out the tests does not import them, so it can't ask for marks.
    return "pytest.mark.processes" in file.read_text()
