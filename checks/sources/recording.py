"""What is on record of a person who has sources scanned: what was held, and what came of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from acts.models import Act
from acts.recording import MOST_ABOUT, Outcome, deed, record, someone_acts
from checks.models import Source
from checks.sources import origins
from checks.sources.source import ConfigSource
from clusteragent.lib.words import listed

# So many held removals are told in an act.
MOST_HELD = 1000


@contextmanager
def recorded(sources: Sequence[ConfigSource], *, accept_removals: bool, is_begun: bool = False) -> Iterator[Outcome]:
    """Record that a person scans these sources, and what came of it. It takes several transactions."""
    names = [source.name for source in sources if not source.is_leaders]
    is_asked = accept_removals and not is_begun and someone_acts()
    rows = list(Source.objects.filter(name__in=names).exclude(held_removals=[])) if is_asked else []
    if rows:
        record_accepted(listed(names), rows)
    with deed(Act.Verb.SCAN, listed(names), is_begun=is_begun or bool(rows)) as outcome:
        yield outcome


def record_accepted(what: str, rows: Sequence[Source]) -> None:
    """Record that a person accepts what these sources hold: the first MOST_HELD keys of each, and how many there are."""
    held = {row.name: row.held_removals[:MOST_HELD] for row in rows}
    after = {row.name: len(row.held_removals) for row in rows}
    stops = [one for row in rows for one in origins.stopped_without(origins.held(row))] if someone_acts() else []
    first = stops[:MOST_ABOUT]
    record(
        Act.Verb.ACCEPT,
        what,
        before=held,
        after=after,
        configs={pk for pk, *_ in first},
        nodes={node for *_, node in first},
    )
