"""What is in the image, and what is said of it."""

import gzip
import io
import json
import tarfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.image.conftest import IMAGE
from tests.image.containers import Engine

pytestmark = pytest.mark.processes

PACKAGES = "opt/clusteragent/lib/python3.11/site-packages"
# What the peer's image takes, compressed.
MOST_BYTES = 95_000_000


def test_it_is_small(root: Path) -> None:
    compressed = io.BytesIO()
    with gzip.open(compressed, "wb", compresslevel=6) as file, tarfile.open(fileobj=file, mode="w|") as archive:
        archive.add(root, arcname=".")
    size = compressed.tell()
    print(f"compressed: {size / 1e6:.1f} MB")  # noqa: T201
    assert size < MOST_BYTES


def test_it_has_the_documentation_to_which_pages_link(root: Path) -> None:
    site = root / PACKAGES / "operators/static/docs"
    assert 'id="no_pass"' in (site / "troubleshooting.html").read_text()
    assert (site / "searchindex.js").is_file()
    assert not list(root.rglob("sphinx"))


def test_nothing_in_it_helps_a_stranger(root: Path) -> None:
    programs = {file.name for folder in ("bin", "sbin", "usr/bin", "usr/sbin") for file in (root / folder).glob("*")}
    assert "python3.11" in programs
    unwanted = {"sh", "dash", "bash", "apt-get", "dpkg", "gcc", "cc", "ld", "perl", "curl", "wget", "openssl", "pip"}
    assert not programs & unwanted
    assert not [file for file in (root / PACKAGES).glob("*") if file.name.startswith(("pip", "pixeltable"))]
    assert not [file for file in root.rglob("tests") if file.is_dir() and PACKAGES in str(file)]
    special = [
        file for file in root.rglob("*") if file.is_file() and not file.is_symlink() and file.stat().st_mode & 0o6000
    ]
    assert special == []


def test_only_its_own_folder_and_tmp_can_be_written(root: Path) -> None:
    writable = [
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not path.is_symlink() and path.is_dir() and path.stat().st_mode & 0o022
    ]
    assert sorted(writable) == ["tmp", "var/lib/clusteragent"]
    # Nothing has to be compiled at the start.
    sources = list((root / PACKAGES / "clusteragent").rglob("*.py"))
    assert sources
    assert all(list((file.parent / "__pycache__").glob(f"{file.stem}.*.pyc")) for file in sources)


def test_the_bill_of_materials_names_all_that_is_in_it(root: Path) -> None:
    bill = json.loads((root / "usr/share/clusteragent/sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    named = {(component["name"], component["version"]) for component in bill["components"]}
    packages = {(one.name, one.version) for one in distributions(path=[str(root / PACKAGES)])}
    assert {name for name, _ in packages} >= {"Django", "clusteragent"}
    assert packages <= named
    debian = {file.name for file in (root / "var/lib/dpkg/status.d").glob("*")}
    assert {"libc6", "libssl3", "python3.11-minimal"} <= debian <= {name for name, _ in named}


def test_it_says_what_it_is_and_how_to_treat_it(engine: Engine) -> None:
    config = engine.inspect(IMAGE)["Config"]
    assert isinstance(config, dict)
    assert (config["User"], config["StopSignal"]) == ("10001", "SIGTERM")
    assert config["Entrypoint"] == ["clusteragent"]
    assert engine.inspect(IMAGE)["Healthcheck"]["Test"] == ["CMD", "python", "-P", "-m", "clusteragent.health"]
    assert config["Labels"]["org.opencontainers.image.title"] == "clusteragent"
    assert config["Labels"]["dev.clusteragent.build.base"] == "localhost/debian"
    assert (
        config["Labels"]["org.opencontainers.image.version"]
        in (Path(__file__).parents[2] / "pyproject.toml").read_text()
    )
