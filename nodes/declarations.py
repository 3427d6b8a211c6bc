"""What a node says it may run: `check_compatibility {include, exclude}` and `group` of its heartbeats."""

import json
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

# An empty declaration: nothing is refused.
UNRESTRICTED = ""


class Declaration(NamedTuple):
    """Names of checks. Without `include` it takes all but `exclude`; with it, only those and not `exclude`."""

    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    group: str = ""

    def __str__(self) -> str:
        words = ", ".join(sorted(self.include)), ", ".join(sorted(self.exclude)), self.group
        return "; ".join(f"{what} {said}" for what, said in zip(("only", "not", "group"), words, strict=True) if said)

    def refusal(self, check: str) -> str:
        """Why the node may not run this check; empty when it may."""
        if self.include and check not in self.include:
            return f"the node declares that it runs only {', '.join(sorted(self.include))}"
        if check in self.exclude:
            return f"the node declares that it does not run {check}"
        return ""


def canonical(include: Collection[str] = (), exclude: Collection[str] = (), group: str = "") -> str:
    """The declaration as it is stored and compared: equal texts mean the same. Empty when it restricts nothing."""
    fields: dict[str, list[str] | str] = {
        "include": sorted(set(include)),
        "exclude": sorted(set(exclude)),
        "group": group,
    }
    said = {name: field for name, field in fields.items() if field}
    return json.dumps(said, sort_keys=True) if said else UNRESTRICTED


@lru_cache(maxsize=4096)
def parse(declared: str) -> Declaration:
    """What `canonical` wrote."""
    if declared == UNRESTRICTED:
        return Declaration()
    fields = json.loads(declared)
    return Declaration(
        frozenset(fields.get("include", ())), frozenset(fields.get("exclude", ())), fields.get("group", "")
    )
