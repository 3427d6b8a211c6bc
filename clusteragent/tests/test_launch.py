"""How the simulated node agents of `make run` are started."""

import subprocess
from pathlib import Path

import pytest

from clusteragent import supervisor


@pytest.mark.processes
def test_they_are_started_without_django_from_any_folder(tmp_path: Path) -> None:
    command = supervisor.module("simulation", "--help")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("usage: python -m simulation")
    assert (done.returncode, done.stderr) == (0, "")
