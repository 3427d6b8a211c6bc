"""Queries that the admin and the operators' API share."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self

from django.db.models import Aggregate, Count, Q, QuerySet, Sum

from checks.models import Assignment, Config, Origin
from checks.models.orders import Isolation, Pause, Pin
from checks.models.tags import TEAM, commonest, with_tag
from checks.models.troubles import Trouble
from checks.wire.scrub import scrub
from clusteragent.lib.database.bulk import TooSlow, within
from nodes.models import Node, NodeType, Runner
from operators.terms import BadQuery, Term, parse, written

# Wide columns of configs, which lists do not read.
WIDE_COLUMNS = ("original", "wire", "scrubbed", "text")
# The states of configs, and the configs in each.
CONFIG_STATES = {
    "assigned": Q(assignment__isnull=False),
    "dangling": Q(dangling_since__isnull=False),
    "paused": Q(pause__isnull=False),
    "endpoint": ~Q(node_name=""),
}


def of_node(name: str) -> QuerySet[Any]:
    """The ids of the configs that are assigned to the node of this name, and of its endpoint checks."""
    owned = Assignment.objects.filter(node__name=name).values("config_id")
    return owned.union(Config.objects.filter(node_name=name).exclude(node_name="").order_by().values("pk"))


# Configs by their orders.
ORDERED = {
    word: Q(pk__in=kind.objects.filter(config__isnull=False).order_by().values("config"))
    for word, kind in (("pinned", Pin), ("paused", Pause), ("isolated", Isolation))
}


def in_trouble(kind: str) -> Q:
    """Configs with this trouble where they are."""
    return Q(pk__in=Trouble.objects.current().filter(kind=kind).values("config"))


class States(NamedTuple):
    """How many configs there are, how many are in which state, and their load; None if none is measured.

    Each is in one state at most. What an endpoint check does, nobody tells: it is in none.
    """

    configs: int = 0
    # Has a node, and does not fail: whether each runs there, only its node's stats tell.
    assigned: int = 0
    failing: int = 0
    paused: int = 0
    dangling: int = 0
    load: float | None = None

    @staticmethod
    def aggregates(config: str = "") -> dict[str, Aggregate]:
        """The aggregates that `of` reads, of rows each of which has a config. config: the path to it, as `config__`."""
        # Sub-selects, which indexes answer: configs themselves are large to read.
        of_states: dict[str, QuerySet[Any]] = {
            "failing": Trouble.objects.current().filter(kind=Trouble.Kind.FAILING).values("config"),
            "paused": Pause.objects.filter(config__isnull=False).order_by().values("config"),
            "dangling": Config.objects.dangling().order_by().values("pk"),
            "endpoints": Config.objects.exclude(node_name="").order_by().values("pk"),
        }
        counts = {name: Count("pk", filter=Q(**{f"{config}pk__in": some})) for name, some in of_states.items()}
        return {"configs": Count("pk"), **counts, "load": Sum(f"{config}cost__workers_needed")}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The states that these aggregates tell."""
        # What is in no other state has a node: that is counted without looking for the node of each.
        assigned = row["configs"] - sum(row[name] for name in ("failing", "paused", "dangling", "endpoints"))
        return cls(row["configs"], assigned, row["failing"], row["paused"], row["dangling"], row["load"])


class Word(NamedTuple):
    """A filter of the bar. told: what it is, for its completion and the docs. values: its values that begin with a text."""

    told: str
    condition: Callable[[str], Q]
    values: Callable[[str], Iterable[str]]


# The last term of a query that is being typed.
_UNFINISHED = re.compile(r"""(?:^|(?<=\s))(-?)(?:([a-z]+):"?)?([^\s"]*)\Z""")
# The most values that a word is completed with.
MOST_VALUES = 20
# Milliseconds that a completion may take: a beginning that few tags have is looked for in all of them.
COMPLETING = 150


def _choice(told: str, conditions: Mapping[str, Callable[[], Q]]) -> Word:
    """A word that has one of these values."""

    def condition(value: str) -> Q:
        if value not in conditions:
            raise BadQuery(f"there is no {value}, there are {', '.join(conditions)}")
        return conditions[value]()

    return Word(told, condition, lambda beginning: [one for one in conditions if one.startswith(beginning)])


def _names(rows: QuerySet[Any], column: str) -> Callable[[str], list[str]]:
    """Values of a column that begin with a text."""

    def values(beginning: str) -> list[str]:
        found = rows.filter(**{f"{column}__startswith": beginning}).order_by(column)
        return [scrub(name) for name in found.values_list(column, flat=True).distinct()[:MOST_VALUES]]

    return values


def _tags(beginning: str) -> list[str]:
    return commonest(beginning, MOST_VALUES)


def _teams(beginning: str) -> list[str]:
    return [tag.removeprefix(TEAM) for tag in _tags(TEAM + beginning)]


def _is(condition: Q) -> Callable[[], Q]:
    return lambda: condition


_STATES = {state: _is(condition) for state, condition in (CONFIG_STATES | ORDERED).items()}
_TROUBLES = {kind: lambda kind=kind: in_trouble(kind) for kind in Trouble.Kind.values}
# The ids of the configs that these words find.
_IDS: dict[str, Callable[[str], QuerySet[Any]]] = {
    "tag": with_tag,
    "team": lambda value: with_tag(TEAM + value),
    "check": lambda value: Config.objects.filter(name=value).order_by().values("pk"),
    "node": of_node,
    "source": lambda value: Origin.objects.filter(source=value).values("config"),
}


def _found_by(word: str, told: str, values: Callable[[str], Iterable[str]]) -> Word:
    return Word(told, lambda value: Q(pk__in=_IDS[word](value)), values)


# What the bar above the configs understands.
CONFIG_WORDS = {
    "tag": _found_by("tag", "a tag of an instance", _tags),
    "team": _found_by("team", "the tag team:", _teams),
    "check": Word("the check's name", lambda value: Q(name=value), _names(Config.objects.all(), "name")),
    "node": _found_by("node", "the node that has it", _names(Node.objects.all(), "name")),
    "state": _choice("what is wrong with it, or ordered", _STATES | _TROUBLES),
    "source": _found_by("source", "who sends it", _names(Origin.objects.all(), "source")),
}


def _running(word: str) -> Word:
    """The nodes that have a config which the bar above the configs finds by this word."""
    told, _, values = CONFIG_WORDS[word]

    def having(value: str) -> Q:
        owned = Assignment.objects.filter(config__in=_IDS[word](value))
        # Read now, once: a list asks several times.
        return Q(pk__in=list(owned.values_list("node", flat=True).distinct()))

    return Word(f"of a config that it has: {told}", having, values)


# What the bar above the nodes understands of themselves, as the search does. The rows are those of `with_state()`.
OWN_NODE_WORDS = {
    # And as the list and the first page say it.
    "state": _choice(
        "whether it is heard, takes configs, and tells stats",
        {state: _is(Q(state=state)) for state in ("alive", "silent", "lost")}
        | {
            word: _is(Q(intake=word) & ~Q(state="lost"))
            for word in ("draining", "cordoned", "leaving", "restarting", "flapping")
        }
        | {"no-stats": lambda: Q(pk__in=Runner.objects.unread().values("pk"))},
    ),
    "type": _choice("what it is", {type_.name.lower(): _is(Q(heartbeat__node_type=type_)) for type_ in NodeType}),
    "domain": Word(
        "its failure domain",
        lambda value: Q(domain=value),
        lambda beginning: [one for one in Node.objects.domains() if one.startswith(beginning)][:MOST_VALUES],
    ),
    "check": _running("check"),
}
# And of what they have.
NODE_WORDS = {
    "node": Word("its name", lambda value: Q(name=value), _names(Node.objects.all(), "name")),
    **OWN_NODE_WORDS,
    **{word: _running(word) for word in ("tag", "team", "source")},
}


def matching(rows: Any, query: str, words: Mapping[str, Word], free: Callable[[Any, str], Any]) -> Any:
    """The rows that all terms of a query let through. free: the rows that have a text. Raises BadQuery."""
    for term in parse(query, words):
        rows = rows.filter(_condition(term, words)) if term.word else free(rows, term.value)
    return rows


def completed(query: str, words: Mapping[str, Word]) -> list[tuple[str, str]]:
    """What the query may go on with: [(query, what its last word is)]."""
    found = _UNFINISHED.search(query)
    if not found:
        return []
    before, (sign, word, value) = query[: found.start(1)], found.groups()
    if word is None:
        named = ((name, words[name].told) for name in words if name.startswith(value))
        return [(f"{before}{sign}{name}:", told) for name, told in named]
    if word not in words:
        return []
    try:
        with within(COMPLETING):
            values = list(words[word].values(value))
    except TooSlow:
        return []
    return [(before + written([Term(word, one, sign == "-")]), words[word].told) for one in values if one]


def _condition(term: Term, words: Mapping[str, Word]) -> Q:
    try:
        condition = words[term.word].condition(term.value)
    except BadQuery as error:
        raise BadQuery(f"{term.word}: {error}") from None
    return ~condition if term.is_not else condition


def state_of(config: Config) -> str:
    """The state of a config, one of CONFIG_STATES."""
    if hasattr(config, "assignment"):
        return "assigned"
    return "endpoint" if config.node_name else "paused" if hasattr(config, "pause") else "dangling"
