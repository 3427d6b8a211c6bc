"""What `make` installs: pinned versions with their hashes, from any package index."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[a-z,]+\])?==(\S+)")
LOCKS = ("requirements.txt", "requirements-dev.txt")


def pins(name: str) -> dict[str, str]:
    """Return {normalised name: version}."""
    lines = (ROOT / name).read_text().splitlines()
    return {re.sub(r"[-_.]+", "-", m[1]).lower(): m[2] for line in lines if (m := _PINNED.match(line))}


@pytest.mark.parametrize("name", ["requirements.in", "requirements-dev.in"])
def test_each_library_of_a_list_is_one_version_and_in_the_lock(name: str) -> None:
    listed = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] not in "#-"]
    assert len(pins(name)) == len(listed)
    assert pins(name).items() <= pins(name.replace(".in", ".txt")).items(), "run `make lock`"


def test_tests_run_on_the_versions_that_the_program_runs_on() -> None:
    assert pins(LOCKS[0]).items() <= pins(LOCKS[1]).items()


@pytest.mark.parametrize("name", LOCKS)
def test_everything_has_hashes_and_nothing_says_where_it_comes_from(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(name))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE)
