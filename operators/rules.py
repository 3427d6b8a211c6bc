"""Saving and deleting rules, and what follows, in the admin and in the operators' API alike."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, transaction
from django.forms.models import model_to_dict
from psycopg.errors import UniqueViolation

from acts.models import Act
from acts.recording import record
from checks.explain.ruling import AnyRule
from checks.models.orders import Rule
from clusteragent.lib.words import plain_count
from nodes.models import NodeRule


class Taken(Exception):
    """Another rule of this name was stored at the same moment."""


def save(rule: AnyRule, store: Callable[[], AnyRule | None]) -> str:
    """Store a rule by `store`, on record, and let it take effect. Returns a sentence that says how.

    rule: as it will be stored; a new one has no key yet. One that is stored is locked before. store: returns what it stored, if
    that is another object. Raises Taken.
    """
    with _names(rule), transaction.atomic():
        old = type(rule)._base_manager.select_for_update().filter(pk=rule.pk).first()
        rule = store() or rule
        verb, before = (Act.Verb.CHANGE, _told(old)) if old else (Act.Verb.MAKE, None)
        record(verb, _named(rule), before=before, after=_told(rule), reason=rule.note)
    return _apply(type(rule), _follows(rule) if isinstance(rule, Rule) else "")


@contextmanager
def _names(rule: AnyRule) -> Iterator[None]:
    """Raise Taken where somebody else has just stored another one of this name."""
    try:
        yield
    except IntegrityError as error:
        if isinstance(error.__cause__, UniqueViolation):
            raise Taken(f"Somebody else has just stored {_named(rule)}.") from error
        raise


def delete(rules: Iterable[AnyRule]) -> str:
    """Delete rules of one kind, on record, and let that take effect. Returns a sentence that says how."""
    rules = list(rules)
    with transaction.atomic():
        for rule in rules:
            record(Act.Verb.DELETE, _named(rule), before=_told(rule))
            rule.delete()
    return _apply(type(rules[0]), "What it kept away may go there from the next pass on.") if rules else ""


def _follows(rule: Rule) -> str:
    """What happens to configs that are where this rule would not place them."""
    said = ["It holds for all placements from now on."]
    if rule.required or rule.forbidden:
        said.append("Configs on nodes that it forbids move within seconds.")
    if rule.max_per_node:
        said.append(f"A node that has more than {rule.max_per_node} of them keeps them, and gets no more.")
    if rule.spread or rule.apart_from or rule.together_with:
        said.append("What should be elsewhere by it moves within the budget.")
    return " ".join(said)


def _named(rule: AnyRule) -> str:
    return f"{rule._meta.verbose_name} {rule}"


def _told(rule: AnyRule) -> dict[str, Any]:
    return model_to_dict(rule)


def _apply(kind: type[AnyRule], of_configs: str) -> str:
    """Let changed rules of this kind take effect, outside of a transaction. Returns what to say of it.

    Those about configs need nothing here, as storing one has called the leader: `of_configs` is said of them.
    """
    if kind is NodeRule:
        return f"It changes {plain_count(NodeRule.objects.apply(), 'node')}."
    return of_configs
