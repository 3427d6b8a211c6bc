"""The names of known integrations: a list as data, which `manage.py learnintegrations` adds to."""

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

from clusteragent.lib.spelling import is_one_edit

LIST = Path(__file__).parent / "integrations.txt"
# Of shorter names many differ in one letter.
_SHORTEST = 4
_REQUIREMENT = re.compile(r"^datadog-([a-z0-9-]+)==", re.MULTILINE)
_NO_INTEGRATIONS = {"checks_base", "checks_dependency_provider", "checks_dev", "checks_downloader"}


@cache
def known() -> frozenset[str]:
    """The names of all known integrations."""
    return frozenset(LIST.read_text().split())


@lru_cache(maxsize=10_000)
def meant_by(check: str) -> str:
    """The integration whose name is an edit away from this one; empty when there is none, and for an integration's own."""
    if check in known():
        return ""
    plain = _plain(check)
    alike = (name for name in sorted(known()) if plain == name or (len(name) >= _SHORTEST and is_one_edit(plain, name)))
    return next(alike, "")


def learn(names: Iterable[str]) -> list[str]:
    """Add names to the list. Returns those that are new."""
    new = sorted(set(names) - known())
    LIST.write_text("".join(f"{name}\n" for name in sorted({*known(), *new})))
    known.cache_clear()
    meant_by.cache_clear()
    return new


def found_in(path: Path) -> Iterator[str]:
    """The names of the integrations that a path has: an agent's conf.d or checks.d, a checkout of integrations, or its list
    of releases (requirements-agent-release.txt)."""
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
