"""Fixtures for tests of what is installed: a wheel, an environment with it, and a PostgreSQL that any user reaches."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.image.conftest import database, database_server, store
from tests.test_requirements import ROOT

__all__ = ["database", "database_server", "store"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of what git has. Built from a copy: the build leaves files beside its source."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    subprocess.run(["tar", "-cf", source / "all.tar", "--null", "-T-"], cwd=ROOT, input=files.stdout, check=True)
    subprocess.run(["tar", "-xf", "all.tar"], cwd=source, check=True)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", folder)
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)
    [made] = folder.glob("clusteragent-*.whl")
    return made


@pytest.fixture(scope="session")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, and with the libraries of the tests' environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    subprocess.run(pip, check=True)
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    Path(site, "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    return folder / "bin"
