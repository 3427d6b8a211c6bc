"""The names of known integrations, from a list in a file. `manage.py learnintegrations` adds names to it."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from clusteragent.lib.spelling import differ_in_number, is_one_edit

LIST = Path(__file__).parent / "integrations.txt"
# Shorter names often differ in one letter only, and custom checks have similar names: `mssql`, `mongod`.
_SHORT = 8
_TWICE = re.compile(r"(.)\1")
_REQUIREMENT = re.compile(r"^datadog-([a-z0-9-]+)==", re.MULTILINE)
_NO_INTEGRATIONS = {"checks_base", "checks_dependency_provider", "checks_dev", "checks_downloader"}


def known() -> frozenset[str]:
    """Return the names of all known integrations, including those that another process added meanwhile."""
    file = LIST.stat()
    return _read(LIST, (file.st_mtime_ns, file.st_size))


def meant_by(check: str) -> str:
    """Return the integration whose name is one edit away from this name; empty when there is none or the name is known.

    The first letter must be the same, and a different number at the end does not count. Of a short name only swapped or
    doubled letters count.
    """
    return _meant_by(check, known())


def learn(names: Iterable[str]) -> list[str]:
    """Add names to the list. Return those that are new."""
    new = sorted(set(names) - known())
    LIST.write_text("".join(f"{name}\n" for name in sorted({*known(), *new})))
    return new


@lru_cache(maxsize=2)
def _read(path: Path, _version: tuple[int, int]) -> frozenset[str]:
    return frozenset(path.read_text().split())


@lru_cache(maxsize=10_000)
def _meant_by(check: str, names: frozenset[str]) -> str:
    plain = _plain(check)
    for name in sorted(names) if check not in names else ():
        if plain == name:
            return name
        if plain[:1] == name[:1] and is_one_edit(plain, name) and not differ_in_number(plain, name):
            only_doubled = _TWICE.sub(r"\1", plain) == _TWICE.sub(r"\1", name)
            if len(name) >= _SHORT or sorted(plain) == sorted(name) or only_doubled:
                return name
    return ""


def found_in(path: Path) -> Iterator[str]:
    """Yield the names of the integrations in a path: an agent's conf.d or checks.d, a checkout of integrations, or its list
    of releases (requirements-agent-release.txt). Raises OSError.
    """
    if path.is_file():
        yield from {_plain(name) for name in _REQUIREMENT.findall(path.read_text())} - _NO_INTEGRATIONS
        return
    for entry in path.iterdir():
        if entry.suffix == ".d" or (entry.suffix == ".py" and not entry.name.startswith("_")):
            yield entry.stem
        elif (entry / "datadog_checks").is_dir() and _plain(entry.name).removeprefix(
            "datadog_"
        ) not in _NO_INTEGRATIONS:
            yield entry.name


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
