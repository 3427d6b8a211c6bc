"""The simulated node agents of `make run`: their names, and how they are started."""

import subprocess
from pathlib import Path

import pytest

from clusteragent import launch
from clusteragent.lib import conf, processes
from simulation.fleet import Plan
from simulation.runners import named_address


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the largest number of nodes."""
    monkeypatch.setattr(conf, "DEMO_NODES", 1000)
    return launch.demo_nodes()


def test_their_names_are_not_those_of_a_simulation_of_many(names: list[str]) -> None:
    assert names[:5] == ["ash", "birch", "cedar", "demo-4", "demo-5"]
    assert not [name for name in names if name.startswith(Plan(nodes=1).prefix)]


def test_each_has_an_address_of_its_own(names: list[str]) -> None:
    assert len({named_address(name) for name in names}) == 1000


@pytest.mark.processes
def test_demo_nodes_are_started_without_django_from_any_folder(tmp_path: Path) -> None:
    command = processes.module("simulation", "--help")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("usage: python -m simulation")
    assert (done.returncode, done.stderr) == (0, "")
