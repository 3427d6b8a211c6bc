"""How tests are distributed to workers."""

import itertools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import parallel

HERE = Path(__file__).parent
FILES = [
    "kubernetes/test_client.py",
    "test_goodbye.py",
    "faults/test_nodes.py",
    "kubernetes/test_watching.py",
    "faults/test_clocks.py",
]
OTHERS = ["test_rooms.py", "test_table.py"]


def collected(*names: str) -> list[str]:
    """Return items of these files, in the order in which they are run."""
    items: list[Any] = [SimpleNamespace(path=HERE / name) for name in names]
    parallel.pytest_collection_modifyitems(items)
    return [str(item.path.relative_to(HERE)) for item in items]


def test_files_that_start_processes_come_first_and_those_that_share_a_cluster_together() -> None:
    for order in itertools.permutations([*FILES, OTHERS[0]]):
        folders = [name.partition("/")[0] for name in collected(*order)]
        longest = sorted(("faults", "kubernetes"), key=_length, reverse=True)
        assert folders == [folder for folder in longest for _ in range(2)] + ["test_goodbye.py", "test_rooms.py"]


def _length(folder: str) -> int:
    return sum(len(file.read_text()) for file in (HERE / folder).glob("test_*.py"))


def test_all_of_kubernetes_runs_in_one_worker_and_has_one_api_server() -> None:
    order = collected("test_rooms.py", "kubernetes/test_client.py", "test_failover.py", "kubernetes/test_watching.py")
    assert [order.index(name) for name in order if "kubernetes" in name] in ([0, 1], [1, 2])
    assert order[-1] == "test_rooms.py"


def test_two_workers_share_the_browser_with_a_cluster_for_each() -> None:
    """On one it would go on for minutes when all else is over."""
    names = sorted(file.name for file in (HERE / "browser").glob("test_*.py"))
    halves = [parallel._scope_of(HERE / "browser" / name) for name in names]
    first, second = (sum(map(len, parallel._texts(half))) for half in sorted(set(halves)))
    assert 0.6 < first / second < 1.7
    order = collected(*(f"browser/{name}" for name in names), "test_rooms.py")
    begun = [parallel._scope_of(HERE / name) for name in order]
    assert len(list(itertools.groupby(begun))) == 3


def test_what_is_no_test_of_the_browser_can_be_run_too() -> None:
    """`make screenshots` does."""
    assert collected("browser/screenshots.py") == ["browser/screenshots.py"]


def test_the_order_of_other_files_stays_random() -> None:
    assert collected(*OTHERS) == OTHERS
    assert collected(*reversed(OTHERS)) == [*reversed(OTHERS)]


class Worker:
    """A worker that keeps the tests that it is told to run."""

    shutting_down = False

    def __init__(self, scheduler: Any, tests: list[str]) -> None:
        self.scheduler, self.tests = scheduler, tests
        self.told: list[int] = []
        self.gateway = SimpleNamespace(id=str(id(self)))
        scheduler.add_node(self)
        scheduler.add_node_collection(self, tests)

    def send_runtest_some(self, numbers: list[int]) -> None:
        self.told += numbers

    def run(self) -> str:
        """Run the next test, and return its file."""
        number = self.told.pop(0)
        self.scheduler.mark_test_complete(self, number)
        return self.tests[number].removeprefix("tests/").partition("::")[0]

    def shutdown(self) -> None:
        self.shutting_down = True


def test_one_worker_begins_with_what_starts_processes_and_helps_the_others_then() -> None:
    tests = [f"tests/{name}::test_{number}" for name in collected(*FILES, *OTHERS) for number in range(3)]
    config: Any = SimpleNamespace(
        rootpath=HERE.parent, option=SimpleNamespace(loadscopereorder=True), getvalue=lambda _: ["2*popen"]
    )
    scheduler = parallel.pytest_xdist_make_scheduler(config, None)
    ours, other = Worker(scheduler, tests), Worker(scheduler, tests)
    scheduler.schedule()
    assert {other.run() for _ in range(6)} == {*OTHERS}
    # The longer of the two folders, as a whole.
    begun = {ours.run() for _ in range(6)}
    assert begun in ({name for name in FILES if name.startswith(folder)} for folder in ("faults/", "kubernetes/"))
    helped = [worker.run() for worker in (ours, other) for _ in list(worker.told)]
    assert sorted(helped) == sorted(3 * [name for name in FILES if name not in begun])
    assert ours.shutting_down


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
    workers = len(os.sched_getaffinity(0)) + 1
    assert parallel.pytest_xdist_auto_num_workers(config) == (workers if is_whole else 0)
