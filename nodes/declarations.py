"""What a node says it may run: `check_compatibility {include, exclude}` and `group` of its heartbeats."""

import heapq
import json
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

# Of how many names people are told, where a node declares more.
NAMED = 20
# Characters of a declaration as real agents make them, at most.
SHORT = 1024
# An empty declaration: nothing is refused.
UNRESTRICTED = ""


class Declaration(NamedTuple):
    """Names of checks. Without `include` it takes all but `exclude`; with it, only those and not `exclude`."""

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    group: str = ""

    def __str__(self) -> str:
        words = listed(self.include), listed(self.exclude), self.group
        return "; ".join(f"{what} {said}" for what, said in zip(("only", "not", "group"), words, strict=True) if said)

    def admits(self, check: str) -> bool:
        """Whether the node may run this check, whatever its group."""
        return check not in self.exclude and (not self.include or check in self.include)


def listed(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    shown = heapq.nsmallest(NAMED, names)
    return ", ".join(shown) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def canonical(include: Collection[str] = (), exclude: Collection[str] = (), group: str = "") -> str:
    """The declaration as it is stored and compared: equal texts mean the same. Empty when it restricts nothing.

    Beside `include`, an `exclude` is worked off: it stays only where it leaves nothing of what is included.
    """
    wanted, unwanted = set(include), set(exclude)
    if wanted:
        unwanted &= wanted
        wanted, unwanted = (wanted - unwanted, set()) if wanted - unwanted else (wanted, unwanted)
    fields: dict[str, list[str] | str] = {"include": sorted(wanted), "exclude": sorted(unwanted), "group": group}
    said = {name: field for name, field in fields.items() if field}
    return json.dumps(said, sort_keys=True) if said else UNRESTRICTED


def parse(declared: str) -> Declaration:
    """What `canonical` wrote."""
    return _short(declared) if len(declared) <= SHORT else _long(declared)


def _read(declared: str) -> Declaration:
    if declared == UNRESTRICTED:
        return Declaration()
    fields = json.loads(declared)
    return Declaration(
        frozenset(fields.get("include", ())), frozenset(fields.get("exclude", ())), fields.get("group", "")
    )


# Each node of a large cluster may declare something else. Kept are many short ones, and few long ones: one takes a megabyte.
_short = lru_cache(maxsize=4096)(_read)
_long = lru_cache(maxsize=64)(_read)
