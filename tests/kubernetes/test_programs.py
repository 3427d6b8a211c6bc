"""How the programs that tests of Kubernetes need are built: once, whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kubernetes.programs import KUBERNETES

ROOT = Path(__file__).parents[2]
# In place of Go: it notes that it was called, waits until it is told to go on, and writes what it was asked for.
GO = """#!/bin/sh
echo called >> {folder}/calls
while [ ! -e {folder}/go-on ]; do sleep 0.02; done
[ "$2$3$4$5$6" = "-p2-ldflags-s -w-o" ] || exit 3
echo "$8" > "$7"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A cache and a Go of the test's own."""
    (tmp_path / "go").write_text(GO.format(folder=tmp_path))
    (tmp_path / "go").chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}


def start(environment: dict[str, str]) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "tests.kubernetes.programs"]
    return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def calls(folder: Path) -> int:
    file = folder / "calls"
    return file.read_text().count("called") if file.exists() else 0


def built(folder: Path) -> list[str]:
    """The names in the cache, without hidden ones."""
    return sorted(path.name for path in folder.glob("cache/clusteragent/kubernetes/[!.l]*/*"))


def test_what_is_there_is_not_built_again(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "go-on").touch()
    for _ in range(2):
        process = start(environment)
        assert process.communicate(timeout=30)[1]
        assert process.returncode == 0
    assert calls(tmp_path) == 3
    assert built(tmp_path) == ["etcd", "kube-apiserver", "kubectl"]


def test_two_builds_at_once_are_one(tmp_path: Path, environment: dict[str, str]) -> None:
    both = [start(environment), start(environment)]
    (tmp_path / "go-on").touch()
    for process in both:
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert calls(tmp_path) == 3
    assert built(tmp_path) == ["etcd", "kube-apiserver", "kubectl"]


def test_a_build_that_is_killed_leaves_nothing_behind(tmp_path: Path, environment: dict[str, str]) -> None:
    killed = start(environment)
    while not calls(tmp_path):
        assert killed.poll() is None
    os.killpg(killed.pid, 9)
    killed.communicate()
    assert built(tmp_path) == []
    (tmp_path / "go-on").touch()
    process = start(environment)
    process.communicate(timeout=30)
    assert built(tmp_path) == ["etcd", "kube-apiserver", "kubectl"]
    assert not list(tmp_path.glob("cache/clusteragent/kubernetes/.building-*"))


def test_a_build_that_fails_is_an_error_and_leaves_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "go").write_text("#!/bin/sh\necho no module >&2\nexit 1\n")
    process = start(environment)
    assert "no module" in process.communicate(timeout=30)[1]
    assert process.returncode
    assert built(tmp_path) == []


def test_without_go_it_is_told_what_is_missing(tmp_path: Path, environment: dict[str, str]) -> None:
    process = start(environment | {"PATH": str(tmp_path / "nothing")})
    assert "https://go.dev/doc/install" in process.communicate(timeout=30)[1]
    assert process.returncode


def test_another_state_of_the_module_is_another_folder(tmp_path: Path) -> None:
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_bytes((KUBERNETES.module / name).read_bytes())
    copied = KUBERNETES._replace(module=tmp_path)
    assert copied.folder() == KUBERNETES.folder()
    (tmp_path / "go.sum").write_text("")
    assert copied.folder() != KUBERNETES.folder()


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_without_the_programs_tests_are_skipped_by_name_and_fail_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    words = ["-m", "pytest", "-n0", "-q", "tests/kubernetes/test_client.py", "-k", "comes_in_pages"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CI": ci}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert outcome in done.stdout
    assert "`make kube-apiserver` builds it" in done.stdout
