"""What nodes declare that they may run: `check_compatibility {include, exclude}` and `group` in their heartbeats."""

import json
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from clusteragent.lib.words import listed

# How many names of a declaration are shown to people.
NAMED = 20
# The most characters of a usual declaration.
SHORT = 1024
# An empty declaration: nothing is refused.
UNRESTRICTED = ""


class Declaration(NamedTuple):
    """Names of checks. Without `include` the node runs all checks except those in `exclude`; with it, only those in `include`
    that are not in `exclude`.
    """

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    group: str = ""

    def __str__(self) -> str:
        words = listed(sorted(self.include), NAMED), listed(sorted(self.exclude), NAMED), self.group
        return "; ".join(f"{what} {said}" for what, said in zip(("only", "not", "group"), words, strict=True) if said)

    def admits(self, check: str) -> bool:
        """Whether the node may run this check. The group is not considered."""
        return check not in self.exclude and (not self.include or check in self.include)


def canonical(include: Collection[str] = (), exclude: Collection[str] = (), group: str = "") -> str:
    """The declaration as it is stored: equal texts mean the same. Empty if it restricts nothing.

    If there is an `include`, excluded names are removed from it. `exclude` only stays if nothing would be left of `include`.
    """
    wanted, unwanted = set(include), set(exclude)
    if wanted:
        unwanted &= wanted
        wanted, unwanted = (wanted - unwanted, set()) if wanted - unwanted else (wanted, unwanted)
    fields: dict[str, list[str] | str] = {"include": sorted(wanted), "exclude": sorted(unwanted), "group": group}
    said = {name: field for name, field in fields.items() if field}
    return json.dumps(said, sort_keys=True) if said else UNRESTRICTED


def parse(declared: str) -> Declaration:
    """The declaration that `canonical` wrote."""
    return _short(declared) if len(declared) <= SHORT else _long(declared)


def _read(declared: str) -> Declaration:
    if declared == UNRESTRICTED:
        return Declaration()
    fields = json.loads(declared)
    return Declaration(
        frozenset(fields.get("include", ())), frozenset(fields.get("exclude", ())), fields.get("group", "")
    )


# Each node of a large cluster may declare something else. Many short declarations are cached, but few long ones: one takes a
# megabyte.
_short = lru_cache(maxsize=4096)(_read)
_long = lru_cache(maxsize=64)(_read)
