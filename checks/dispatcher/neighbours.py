"""What rules say of configs and their neighbours: at most so many on a node, spread over domains, apart from others, together.

It counts where such configs are, and answers for one of them which nodes have as many of its kind as they may, how many each
domain has, which nodes have what it is kept apart from, and which have what it should be together with. It chooses nothing and
writes nothing: the snapshot of `eligibility` asks it, and tells it of each config that comes to a node or leaves one.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import NamedTuple

from checks.balancing import Bar
from checks.dispatcher.changes import Entry
from checks.dispatcher.inventory import Candidate, Inventory
from checks.dispatcher.refusals import Reason, Refusal
from checks.models.orders import Rule, patterns_of
from nodes.models.nodes import named_domain


class Side(NamedTuple):
    """How a rule with `apart_from` concerns a config: it covers it, or keeps its own apart from it, or both."""

    rule: Rule
    is_covered: bool
    is_named: bool

    @property
    def is_both(self) -> bool:
        return self.is_covered and self.is_named

    def refusal(self, node: Candidate) -> Refusal:
        """Why a node that clashes may not have the config."""
        named = {"rule": self.rule.name, "checks": self.rule.check_pattern}
        if self.is_covered:
            named["checks"] = ", ".join(patterns_of(self.rule.apart_from))
        if not self.rule.apart_by_domain:
            return Refusal(Reason.APART, named)
        # Nodes without a domain are one domain, and "which no zone has" would say that nobody has it.
        domain = named_domain(node.domain) if node.domain else f"a node of {named_domain('')}"
        return Refusal(Reason.APART_IN_DOMAIN, {**named, "domain": domain})


class Neighbours:
    """Where the configs are that rules limit on a node, spread, keep apart or want together.

    nodes: {id: node}, of which alone it counts domains. about: returns the rules that cover a config. What is read is read when
    it is first needed.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        nodes: Mapping[int, Candidate],
        inventory: Inventory,
        about: Callable[[Entry], Sequence[Rule]],
    ) -> None:
        self._counted = [
            rule for rule in rules if rule.max_per_node or rule.spread or rule.apart_from or rule.together_with
        ]
        self._limited = [rule for rule in rules if rule.max_per_node]
        self._spread = [rule for rule in rules if rule.spread]
        self._apart = [rule for rule in rules if rule.apart_from]
        self._together = [rule for rule in rules if rule.together_with]
        self.spreads, self.parts, self.joins = bool(self._spread), bool(self._apart), bool(self._together)
        self._nodes = nodes
        self._inventory = inventory
        self._about = about
        # Where no domain would spread a config better than that of its node, as nodes are now.
        self.well_spread: set[object] = set()
        self._sides_of: dict[tuple[str, ...], list[Side]] = {}
        # How often a place got free for configs that are kept apart.
        self._freed = 0

    def prefetch(self) -> None:
        """Read now what is needed."""
        _ = self._held, self._in_places, self._company

    def count(self, entry: Entry, node: int, more: int) -> list[int]:
        """Count more or fewer configs like this for a node. Returns the ids of rules whose configs now have company there."""
        known = self._nodes.get(node)
        if known is None:
            return []
        for rule in self.spreading(entry):
            self._of_domains[rule.pk][known.domain] += more
            self.well_spread.clear()
        for side in self.sides(entry):
            place = _place_of(side.rule, known)
            for is_own, counts in ((True, side.is_covered), (False, side.is_named)):
                if counts:
                    places = self._in_places[side.rule.pk, is_own]
                    places[place] += more
                    # A config that is on both sides counts itself.
                    if more < 0 and places[place] <= 1:
                        self._freed += 1
        return self.count_company(entry, node, more)

    @cached_property
    def _held(self) -> dict[int, Counter[int]]:
        """How many configs of each rule each node has: {rule's id: {node's id: number}}."""
        return self._inventory.held_by_rule(self._counted)

    # At most so many on a node.

    def limits(self, entry: Entry) -> list[Rule]:
        """The rules that let a node have only so many configs like this."""
        return [rule for rule in self._about(entry) if rule.max_per_node] if self._limited else []

    def has_most(self, rule: Rule, node: int) -> bool:
        """Whether a node has as many configs of a rule as that lets it have, or more."""
        return self._of_limited[rule.pk][node] >= (rule.max_per_node or math.inf)

    def above(self, rule: Rule) -> int:
        """How many nodes have more configs of a rule than it lets each have."""
        most = rule.max_per_node
        return sum(number > most for number in self._of_limited[rule.pk].values()) if most else 0

    def count_limited(self, entry: Entry, node: int, more: int) -> bool:
        """As `count`, but only for rules that limit. Returns whether the node has the most of one now, or no longer."""
        is_other = False
        for rule in self.limits(entry):
            had_most = self.has_most(rule, node)
            self._of_limited[rule.pk][node] += more
            is_other |= self.has_most(rule, node) != had_most
        return is_other

    @cached_property
    def _of_limited(self) -> dict[int, Counter[int]]:
        return {rule.pk: Counter(self._held[rule.pk]) for rule in self._limited}

    # Spread over domains.

    def spreading(self, entry: Entry) -> list[Rule]:
        """The rules that spread a config, in their order."""
        return [rule for rule in self._about(entry) if rule.spread] if self.spreads else []

    def crowd(self, rules: Sequence[Rule], owner: Candidate | None) -> Callable[[str], list[int]]:
        """Return a function from a domain to how many configs of each of these rules it has, but for one that `owner` has."""
        counts = [self._of_domains[rule.pk] for rule in rules]

        def crowd(domain: str) -> list[int]:
            itself = owner is not None and owner.domain == domain
            return [count[domain] - itself for count in counts]

        return crowd

    def crowded(self, rules: Sequence[Rule], owner: Candidate | None, domain: str, other: str) -> Refusal | None:
        """Return why a config of these rules should be in the other domain; None if that has no fewer of their configs."""
        crowd = self.crowd(rules, owner)
        if crowd(other) >= crowd(domain):
            return None
        both = zip(rules, crowd(domain), crowd(other), strict=True)
        rule, number, fewer = next(one for one in both if one[1] != one[2])
        named = {"domain": named_domain(domain), "other": named_domain(other)}
        return Refusal(Reason.SPREAD, {"rule": rule.name, "number": number, "fewer": fewer, **named})

    @cached_property
    def _of_domains(self) -> dict[int, Counter[str]]:
        """How many configs of each rule that spreads its own each domain has: {rule's id: {domain: number}}."""
        found: dict[int, Counter[str]] = {rule.pk: Counter() for rule in self._spread}
        for rule, counts in found.items():
            for node, number in self._held[rule].items():
                if node in self._nodes:
                    counts[self._nodes[node].domain] += number
        return found

    # Apart from others.

    def sides(self, entry: Entry) -> list[Side]:
        """How rules keep a config apart from others."""
        if not self.parts:
            return []
        key = (entry.name, *entry.sent_as)
        if key not in self._sides_of:
            about = self._about(entry)
            sides = (Side(rule, rule in about, rule.is_apart_from(entry.name)) for rule in self._apart)
            self._sides_of[key] = [side for side in sides if side.is_covered or side.is_named]
        return self._sides_of[key]

    def clash(self, entry: Entry, node: Candidate, owner: Candidate | None) -> Side | None:
        """Return how a rule keeps a config apart from one that a node, or its domain, has. owner: of the config, if counted."""
        return next((side for side in self.sides(entry) if self._clashes(side, node, owner)), None)

    def bar(self, entry: Entry, owner: Candidate | None) -> Bar[int] | None:
        """The nodes that have something, or whose domain has, that the config is kept apart from."""
        if not (sides := self.sides(entry)):
            return None
        by_domain = any(side.is_both and side.rule.apart_by_domain for side in sides)
        key = (tuple(sides), owner.domain if owner is not None and by_domain else None, self._freed)
        return Bar(key, lambda id_: any(self._clashes(side, self._nodes[id_], owner) for side in sides))

    def _clashes(self, side: Side, node: Candidate, owner: Candidate | None) -> bool:
        place = _place_of(side.rule, node)
        itself = side.is_both and owner is not None and _place_of(side.rule, owner) == place
        own, named = (self._in_places[side.rule.pk, is_own][place] - itself for is_own in (True, False))
        return (side.is_covered and named > 0) or (side.is_named and own > 0)

    @cached_property
    def _in_places(self) -> dict[tuple[int, bool], Counter[int | str]]:
        """How many configs each place has that a rule with `apart_from` covers, and how many that it keeps them apart from:
        {(rule's id, whether they are its own): {node's id or domain: number}}.
        """
        named = self._inventory.held_by_checks({rule.pk: patterns_of(rule.apart_from) for rule in self._apart})
        found: dict[tuple[int, bool], Counter[int | str]] = {}
        for rule in self._apart:
            for is_own, counts in ((True, self._held[rule.pk]), (False, named[rule.pk])):
                places: Counter[int | str] = Counter()
                found[rule.pk, is_own] = places
                for node, number in counts.items():
                    if node in self._nodes:
                        places[_place_of(rule, self._nodes[node])] += number
        return found

    # Together with others.

    def joining(self, entry: Entry) -> list[Rule]:
        """The rules that want a config together with others, in their order."""
        return [rule for rule in self._about(entry) if rule.together_with] if self.joins else []

    def is_together(self, entry: Entry, node: Candidate) -> bool:
        """Whether a config's node has another one that a rule wants together with it, or it with that."""
        joining = self.joining(entry)
        has_company = any(self._company[rule.pk, False][node.id] > rule.joins(entry.name) for rule in joining)
        return has_company or any(
            self._company[rule.pk, True][node.id] > (rule in joining) for rule in self._wanting(entry)
        )

    def alone(self, entry: Entry, bar: Bar[int] | None) -> Iterator[tuple[Rule, Bar[int]]]:
        """For each rule of `joining`, the nodes without company for the config; those that `bar` stops are among them."""
        for rule in self.joining(entry):
            stops = partial(_is_alone, self._company[rule.pk, False], bar and bar.stops)
            yield rule, Bar((rule.pk, bar and bar.key), stops, rule.pk)

    def count_company(self, entry: Entry, node: int, more: int) -> list[int]:
        """As `count`, but only for rules that want configs together."""
        for rule in self.joining(entry):
            self._company[rule.pk, True][node] += more
        first = []
        for rule in self._wanting(entry):
            others = self._company[rule.pk, False]
            others[node] += more
            if more > 0 and others[node] == 1:
                first.append(rule.pk)
        return first

    def _wanting(self, entry: Entry) -> Iterator[Rule]:
        return (rule for rule in self._together if rule.joins(entry.name))

    @cached_property
    def _company(self) -> dict[tuple[int, bool], Counter[int]]:
        """How many configs each node has that a rule with `together_with` covers, and how many that it wants them together with:
        {(rule's id, whether they are its own): {node's id: number}}.
        """
        named = self._inventory.held_by_checks({rule.pk: patterns_of(rule.together_with) for rule in self._together})
        return {
            (rule.pk, is_own): Counter((self._held if is_own else named)[rule.pk])
            for rule in self._together
            for is_own in (True, False)
        }


def _is_alone(held: Mapping[int, int], stops: Callable[[int], bool] | None, node: int) -> bool:
    """Whether a node has none of these configs, or is stopped anyway."""
    return not held.get(node) or (stops is not None and stops(node))


def _place_of(rule: Rule, node: Candidate) -> int | str:
    """Where a rule lets no two configs be together that it keeps apart: a node's id, or a domain."""
    return node.domain if rule.apart_by_domain else node.id
