"""Making and revoking node tokens, on record."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.db import transaction

from acts.models import Act
from acts.recording import person, record
from clusteragent.lib import conf, deadlines
from clusteragent.lib.clock import ago
from clusteragent.lib.patterns import fits
from clusteragent.lib.words import duration, escape_controls, listed, plain_count, utc
from nodes.models import Node, NodeToken, Runner
from nodes.models.tokens import KEY, MOST_TOKENS, Pool, digest

# So long after a token was revoked, no name that it opened is sent the shared token: who has it may still count as alive.
REMEMBERED = timedelta(hours=1)
# So many nodes that a token opens, and runners that a new one cuts off, are named in its act.
MOST_NAMED = 1000
# How acts begin that are about one.
_KIND = "node token "


class NoSuchToken(LookupError):
    """No node token begins like this."""


class TooMany(ValidationError):
    """There are MOST_TOKENS already."""


@transaction.atomic
def make(row: NodeToken) -> str:
    """Store this new row and return its token, which is not kept. The row has `without_stats` then. Raises ValidationError."""
    token = row.draw()
    _store(row, cut_off(row.pattern))
    return token


def _store(row: NodeToken, cut: Sequence[str]) -> None:
    """Store a row, on record with the runners that tell no stats any more."""
    row.full_clean()
    check(row)
    row.save()
    row.without_stats = cut
    lost = {"without_stats": {"runners": len(cut), "names": cut[:MOST_NAMED]}} if cut else {}
    record(Act.Verb.MAKE, named(row), after=row.told() | lost, nodes={*cut, *_first_opened(row)})


@transaction.atomic
def declare(given: Sequence[str], *, expires_at: datetime | None = None, **fields: str) -> str:
    """Let the tokens with this note be the given ones, which people made, and say what was done. Raises ValidationError.

    Those that are missing, or open something else, are stored; others with the note are revoked.
    """
    wanted = {token[:KEY]: NodeToken(author=person(), expires_at=expires_at, **fields) for token in given}
    if len(wanted) < len(set(given)):
        raise ValidationError(f"Two of the tokens begin alike, by {KEY} characters: draw another.")
    for token in given:
        wanted[token[:KEY]].take(token)
    for row in NodeToken.objects.filter(key__in=wanted).exclude(note=fields["note"]):
        raise ValidationError(f"{named(row)} is there already: give this pool another one.")
    old = {row.key: row for row in NodeToken.objects.filter(note=fields["note"])}
    same = {key for key, row in wanted.items() if key in old and _is_same(old[key], row)}
    missing = [row for key, row in wanted.items() if key not in same]
    cut = cut_off(fields["pattern"])
    revoked = revoke([row for key, row in old.items() if key not in same])
    for row in missing:
        _store(row, cut)
    return " ".join(filter(None, (f"{plain_count(len(missing), 'node token')} stored. {revoked}", stats_lost(cut))))


def _is_same(one: NodeToken, other: NodeToken) -> bool:
    return one.told() == other.told() and bytes(one.digest) == other.digest


def check(row: NodeToken) -> None:
    """Raise ValidationError for an end that is over or too far away, and TooMany for one token too many."""
    if row.expires_at:
        try:
            deadlines.in_future(row.expires_at)
        except ValueError as error:
            raise ValidationError({"expires_at": str(error)}) from None
    if NodeToken.objects.count() >= MOST_TOKENS:
        raise TooMany(f"There are {MOST_TOKENS} node tokens already: revoke some.")


@transaction.atomic
def revoke(rows: Iterable[NodeToken]) -> str:
    """Delete these tokens and say so. They open nothing from two seconds later on."""
    chosen = list(rows)
    for row in chosen:
        record(Act.Verb.DELETE, named(row), before=row.told(), nodes=_first_opened(row))
        row.delete()
    return f"{plain_count(len(chosen), 'node token')} revoked."


def beginning_with(words: Iterable[str]) -> list[NodeToken]:
    """The tokens that begin like these words, each of which is the first characters that lists show, or more. Raises
    NoSuchToken.
    """
    rows = {row.key: row for row in NodeToken.objects.filter(key__in=[word[:KEY] for word in words])}
    for word in words:
        if word[:KEY] not in rows:
            raise NoSuchToken(f"no node token begins with {word[:KEY]}")
    return list(rows.values())


def opens(row: NodeToken) -> list[Node]:
    """The nodes that report and that this token opens, by their names, of which alone is read."""
    return [node for node in Node.objects.known().only("name").order_by("name") if fits(node.name, row.pattern)]


def _first_opened(row: NodeToken) -> list[str]:
    return [node.name for node in opens(row)[:MOST_NAMED]]


def opened(row: NodeToken) -> tuple[list[str], list[str]]:
    """What this token opens, for people: (sentences, what is bad about it)."""
    found = [f"Whoever has it gets the configs, with their secrets, of the nodes whose names fit {row.pattern}."]
    if row.kubernetes_pattern:
        found.append(f"It also opens the endpoint checks of the Kubernetes nodes {row.kubernetes_pattern}.")
    found.append(f"It opens from {row.networks} alone." if row.networks else "It opens from every address.")
    found.append(f"It ends {utc(row.expires_at)}." if row.expires_at else "It never ends.")
    wide = ["It opens all names, as the shared token does."] if _is_all(row.pattern) else []
    return found, [*wide, *(["It opens all endpoint checks."] if _is_all(row.kubernetes_pattern) else [])]


def _is_all(pattern: str) -> bool:
    return "*" in pattern and not pattern.strip("*?")


def cut_off(pattern: str) -> list[str]:
    """The runners that tell stats by the shared token now, and would be asked by it no more if a token opened this pattern:
    their names, sorted. See `RunnersTokens.has_shared`.
    """
    if not conf.SHARED_TOKEN_OPENS:
        return []
    known = {*_revoked_patterns(), *NodeToken.objects.values_list("pattern", flat=True)}
    found = (name for name in Runner.objects.telling().values_list("node__name", flat=True) if fits(name, pattern))
    return sorted(name for name in found if not any(fits(name, one) for one in known))


def stats_lost(cut: Sequence[str]) -> str:
    """What follows for the runners that a new token cuts off, for people; empty without any. cut: see `cut_off`."""
    if not cut:
        return ""
    many = len(cut) > 1
    return (
        f"{plain_count(len(cut), 'runner')} that {'tell' if many else 'tells'} stats by the shared token"
        f" {'are' if many else 'is'} not asked by it any more: {escape_controls(listed(cut))}. The load there is estimated until"
        f" {'they have' if many else 'it has'} this token, and the leader has it, too (CLUSTERAGENT_RUNNER_TOKENS)."
    )


def consequence(row: NodeToken) -> str:
    """What follows when this token is revoked, for people."""
    return (
        f"Node agents that show {named(row)} get 403 from then on, keep what they run, and count as silent. Runners of its names"
        f" are sent the shared token only {duration(REMEMBERED)} later again: those that know no other tell no stats until then."
    )


class RunnersTokens(NamedTuple):
    """What runners are sent. given: the tokens of CLUSTERAGENT_RUNNER_TOKENS that hold, each with its pool. patterns: of the
    names that any node token opens, or opened until it was revoked, for REMEMBERED. unknown: how many of the option's are no
    node tokens, or revoked.
    """

    given: Sequence[tuple[str, Pool]]
    patterns: Collection[str]
    unknown: int

    def of(self, name: str) -> list[str]:
        """The tokens that a runner of this name may be sent: those of its pools, or of none the shared one."""
        found = [token for token, pool in self.given if pool.has_node(name)]
        return found or ([conf.AUTH_TOKEN] if self.has_shared(name) else [])

    def has_shared(self, name: str) -> bool:
        """Whether a runner of this name may be sent the shared token. One in whose name a node token reports may be somebody
        who has that alone, even after it ended or was revoked. Which names the option's unknown ones opened is not known.
        """
        return conf.SHARED_TOKEN_OPENS and not self.unknown and not any(fits(name, one) for one in self.patterns)


def for_runners() -> RunnersTokens:
    """Read what runners are sent."""
    pools = NodeToken.objects.pools()
    known = [(token, pools[digest(token)]) for token in conf.RUNNER_TOKENS if digest(token) in pools]
    given = [(token, pool) for token, pool in known if not pool.has_ended]
    patterns = {*_revoked_patterns(), *(pool.pattern for pool in pools.values())}
    return RunnersTokens(given, patterns, len(conf.RUNNER_TOKENS) - len(known))


def _revoked_patterns() -> set[str]:
    """The patterns of the tokens that were revoked, or declared anew with another one, lately."""
    acts = Act.objects.filter(time__gte=ago(REMEMBERED), verb=Act.Verb.DELETE, object__startswith=_KIND)
    return {pattern for pattern in acts.values_list("before__pattern", flat=True) if pattern}


def named(row: NodeToken) -> str:
    """A token in words: how it begins, and whose it is."""
    return f"{_KIND}{row}"
