"""Bounds: what a role or a token lets people touch, where that is not everything. The verbs ask here before they do it.

An entrance says what the person who acts may touch (`within`). Outside of an entrance, as for the leader, nothing is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from django.core.exceptions import PermissionDenied

from checks.models.configs import KUBERNETES, Config
from checks.models.originkeys import object_of
from checks.wire import patching
from checks.wire.options import made_by_us
from clusteragent.lib.patterns import fits
from clusteragent.lib.words import listed

# So many configs or sources that are not covered are named.
MOST_NAMED = 3
# The permissions that a bound narrows by config, and by source. Of others it leaves those to look: they concern the cluster.
STEERING = frozenset(
    {"checks.change_assignment", *(f"checks.{deed}_{order}" for deed in ("add", "change", "delete") for order in
     ("pin", "pause", "isolation"))}
)  # fmt: skip
WRITING = frozenset({"checks.add_config", "checks.change_config", "checks.delete_config", "checks.change_source"})
# The permission that each order needs; "": a rebalance.
NEEDED = {
    "reassign": "checks.change_assignment",
    "pin": "checks.add_pin",
    "pause": "checks.add_pause",
    "resume": "checks.delete_pause",
    "isolate": "checks.add_isolation",
    "drain": "nodes.change_node",
    "undo": "checks.change_assignment",
    "unpin": "checks.delete_pin",
    "release": "checks.delete_isolation",
    "adopt": "checks.change_assignment",
    "": "checks.change_plan",
}


class Outside(PermissionDenied):
    """What was asked for is outside of a bound; the message says what, and of which bound."""


class Reach(NamedTuple):
    """What a bound lets people touch. of: whose bound it is, in words.

    sources: patterns of sources, such as `api:shop-*`, `admin` and `kubernetes:shop`, of a namespace. checks: patterns of names
    of checks, and of tags, which have a colon.
    """

    of: str
    sources: tuple[str, ...]
    checks: tuple[str, ...]

    def has_source(self, place: str) -> bool:
        """Whether it covers a source, or a namespace of Kubernetes."""
        return any(fits(place, pattern) for pattern in self.sources)

    def has_check(self, name: str, tags: Callable[[], list[list[str]]]) -> bool:
        """Whether it covers a config: by its check's name, or since each of its instances has one of the tags.

        tags: reads those of each instance, which are asked for only where the name does not tell.
        """
        if any(":" not in word and fits(name, word) for word in self.checks):
            return True
        words = [word for word in self.checks if ":" in word]
        instances = tags() if words else []
        return bool(instances) and all(any(fits(tag, word) for tag in some for word in words) for some in instances)


# Of each of these, one has to cover what is touched: of what the roles reach, and of what the token reaches. None: everything.
Limits = Sequence[Sequence[Reach]]

_limits: ContextVar[Callable[[str], Limits] | None] = ContextVar("limits", default=None)


@contextmanager
def within(limits: Callable[[str], Limits]) -> Iterator[None]:
    """Within it, a person acts who may use a permission within these limits only."""
    before = _limits.set(limits)
    try:
        yield
    finally:
        _limits.reset(before)


def is_boundable(permission: str) -> bool:
    """Whether a bound role or token keeps this permission: to look at all, and to touch what the bound covers."""
    return permission in STEERING | WRITING or permission.partition(".")[2].startswith("view_")


def why_not_configs(permission: str, ids: Collection[int]) -> str:
    """Return why the person who acts may not use this permission on all of these configs; empty if it may."""
    for reaches in _limits_of(permission):
        if found := _not_covered(reaches, ids):
            return _outside(found, reaches, "checks")
    return ""


def why_not_source(permission: str, source: str, keys: Iterable[str] = ()) -> str:
    """Return why the person who acts may not use this permission on this source; empty if it may. keys: what it touches there."""
    for reaches in _limits_of(permission):
        places = sorted({place_of(source, key) for key in keys} or {source})
        if found := [one for one in places if not any(reach.has_source(one) for reach in reaches)]:
            return _outside(found, reaches, "sources")
    return ""


def why_not_all(permission: str, what: str) -> str:
    """Return why the person who acts may not do `what`, which no bound covers; empty if it may."""
    reaches = next(iter(_limits_of(permission)), None)
    return "" if reaches is None else f"{what}, and that is more than {_told(reaches)}"


def require_configs(permission: str, ids: Collection[int]) -> None:
    """Raise Outside unless the person who acts may use this permission on all of these configs."""
    _require(why_not_configs(permission, ids))


def require_source(permission: str, source: str, keys: Iterable[str] = ()) -> None:
    """Raise Outside unless the person who acts may use this permission on this source. keys: what it touches there."""
    _require(why_not_source(permission, source, keys))


def require_all(permission: str, what: str) -> None:
    """Raise Outside if the person who acts may use this permission only within a bound. what: what it does, as a clause."""
    _require(why_not_all(permission, what))


def place_of(source: str, key: str) -> str:
    """Return what a bound names of an origin: its source, or of Kubernetes the namespace, as `kubernetes:shop`."""
    return f"{source}:{object_of(key)[1].partition('/')[0]}" if source == KUBERNETES else source


def narrows(permission: str) -> bool:
    """Return whether the person who acts may use this permission only within a bound."""
    return bool(_limits_of(permission))


def _require(why_not: str) -> None:
    if why_not:
        raise Outside(why_not)


def _limits_of(permission: str) -> Limits:
    limits = _limits.get()
    return limits(permission) if limits else ()


def _not_covered(reaches: Sequence[Reach], ids: Collection[int]) -> list[str]:
    """The titles of the first of these configs that none covers. What does not exist any more is not judged."""
    found: list[str] = []
    rows = Config.objects.filter(pk__in=ids).order_by("pk").only("title", "name", "digest", "scrubbed", "patched_with")
    for config in rows.iterator(chunk_size=1000):
        if not any(reach.has_check(config.name, lambda config=config: _tags(config)) for reach in reaches):  # type: ignore[misc]
            found.append(str(config))
        if len(found) > MOST_NAMED:
            break
    return found


def _tags(config: Config) -> list[list[str]]:
    """The tags of each of its instances. Not as its text has them: what is bound must not depend on how a text is laid out."""
    return patching.tags(bytes(config.scrubbed)) if made_by_us(config.patched_with) else []


def _outside(found: Sequence[str], reaches: Sequence[Reach], kind: str) -> str:
    first = [*found[:MOST_NAMED], "others"] if len(found) > MOST_NAMED else found
    return f"{listed(first, None)} {'are' if len(first) > 1 else 'is'} outside of {_told(reaches, kind)}"


def _told(reaches: Sequence[Reach], kind: str = "") -> str:
    """In words: `team:payments, the bound of the role payments`."""
    told = [f"{_covered(reach, kind)}, the bound of {reach.of}" for reach in reaches]
    return " and of ".join(told) or "what your roles allow"


def _covered(reach: Reach, kind: str) -> str:
    words = getattr(reach, kind) if kind else (*reach.sources, *reach.checks)
    return listed(list(words), None) or f"no {kind or 'thing'}"
