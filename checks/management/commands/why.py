from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from checks.explain import facts, why
from checks.explain.facts import Facts
from checks.explain.why import Others, Why
from checks.management import commandline
from checks.models import Config
from checks.wire.scrub import scrub
from clusteragent.lib.words import ago, escape_controls, listed, plain_count


class Command(BaseCommand):
    help = "Show why a config runs where it runs: what placed it, the best nodes then and now, and the nodes that can't have it."

    def add_arguments(self, parser: CommandParser) -> None:
        commandline.add(parser, "config", nargs=None)
        commandline.add(parser, "--json")

    def handle(self, *args: Any, **options: Any) -> None:
        config = Config.objects.get(pk=commandline.ids([options["config"]])[0])
        told = config, why.explain(config), why.others(config), facts.of(config)
        commandline.answer(self, options, document(*told), lines(*told))


def lines(config: Config, reasons: Why, others: Others, known: Facts) -> Iterator[str]:
    """Yield the reasons and facts of a config as lines of text."""
    yield f"{config}: {reasons.sentence}"
    yield f"Sent by {listed(_senders(config), None)}."
    yield from reasons.orders
    yield from (f"{fact.name}: {fact.truth}, {fact.text} {ago(fact.age)}".rstrip() for fact in known.three)
    if known.error:
        yield f"Last error: {known.error}"
    if reasons.best:
        yield f"The best of {plain_count(reasons.of, 'node')} then:"
    yield from (f"  {name}  {100 * load:.1f} %" for name, load in reasons.best)
    if others.best:
        yield "The best other nodes now:"
    yield from (f"  {name}  {100 * load:.1f} %" for name, load in others.best)
    if others.refused:
        yield "Can't have it now:"
    yield from (f"  {listed(names)}: {reason}" for reason, names in others.refused.items())


def document(config: Config, reasons: Why, others: Others, known: Facts) -> dict[str, Any]:
    """Return the reasons and facts of a config as JSON data. Ages are in seconds."""
    return {
        "digest": config.digest,
        "name": scrub(config.name),
        "title": str(config),
        "sentence": reasons.sentence,
        "origins": _senders(config),
        "orders": reasons.orders,
        "facts": {
            fact.name.lower(): {
                "name": fact.name,
                "truth": fact.truth,
                "text": fact.text,
                "age": fact.age.total_seconds() if fact.age is not None else None,
            }
            for fact in known.three
        },
        "error": known.error,
        "reason": reasons.move.reason if reasons.move else None,
        "actor": reasons.move.actor if reasons.move else None,
        "time": reasons.move.time if reasons.move else None,
        # As the operators' API has it.
        "handover": {
            "from_node": reasons.handover.source.name,
            "promise": reasons.handover.promise,
            "since": reasons.handover.since,
        }
        if reasons.handover
        else None,
        "best": [{"node": name, "load": load} for name, load in reasons.best],
        "of": reasons.of,
        "now": [{"node": name, "load": load} for name, load in others.best],
        "refused": others.refused,
    }


def _senders(config: Config) -> list[str]:
    """Its origins, as people read them."""
    return sorted(escape_controls(str(origin)) for origin in config.origins.all())
