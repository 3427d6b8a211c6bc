"""How tests are distributed to workers."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import parallel

HERE = Path(__file__).parent


def test_all_that_starts_processes_runs_in_one_worker_and_other_files_wherever() -> None:
    starting = [HERE / file for file in ("test_failover.py", "browser/test_login.py", "faults/test_nodes.py")]
    others = [HERE / file for file in ("test_rooms.py", "test_table.py")]
    assert {parallel.scope_of(file) for file in starting} == {"processes"}
    assert len({parallel.scope_of(file) for file in others} - {"processes"}) == 2


def test_all_of_kubernetes_runs_in_one_worker_and_has_one_api_server() -> None:
    files = [HERE / "kubernetes" / name for name in ("test_client.py", "test_watching.py")]
    assert {parallel.scope_of(file) for file in files} == {"kubernetes"}


def test_it_comes_first() -> None:
    items: list[Any] = [SimpleNamespace(path=HERE / name) for name in ("test_rooms.py", "test_failover.py")]
    parallel.pytest_collection_modifyitems(items)
    assert [item.path.name for item in items] == ["test_failover.py", "test_rooms.py"]


@pytest.mark.parametrize(
    ("arguments", "is_whole"),
    [
        (["checks", "tests"], True),
        ([f"{HERE}", __file__], True),
        ([__file__], False),
        ([f"{__file__}::test_it_comes_first", str(HERE / "table.py")], False),
    ],
)
def test_named_files_need_no_workers(arguments: list[str], is_whole: bool) -> None:
    config: Any = SimpleNamespace(args=arguments)
    cores = len(os.sched_getaffinity(0))
    assert parallel.pytest_xdist_auto_num_workers(config) == (cores if is_whole else 0)
