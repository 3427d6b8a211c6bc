"""What a config's page shows around its fields: facts, why it is where it is, the YAML that was sent, its timeline."""

import re
from typing import Any

from checks.explain import facts, timeline, why
from checks.explain.facts import Fact, Facts, Run, Truth
from checks.explain.instances import Written
from checks.models import Config, Move, Source
from checks.models.troubles import Trouble
from checks.sources import origins
from checks.sources.authored import text_of
from checks.wire import scrub, written, yamlnodes
from checks.wire.patching import IntegrationConfig
from checks.wire.sharding import parent_of
from checks.wire.yamlnodes import InvalidYAML
from clusteragent.lib import clock
from clusteragent.lib.words import listed, load_in_words, milliseconds, percent, visible
from operators.admin.base import Table, aged, dated, list_url

MOST_LINES = 50
MOST_INSTANCES = 100
MOST_TEXTS = 5
INSTANCE_HEADERS = ("check ID", "run time", "of its interval", "runs", "failed", "last error")
# Line breaks as YAML counts them.
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# An icon beside the word, so that nobody has to tell colours apart.
_SIGNS = {Truth.YES: "check_circle", Truth.NO: "cancel", Truth.UNKNOWN: "help"}


def context(config: Any, *, exact: bool = False) -> dict[str, Any]:
    """The context of admin/checks/config_*.html. exact: with node agents' check IDs, for users who may see digests."""
    known, reasons = facts.of(config), why.explain(config)
    lines, more = timeline.of(config, MOST_LINES)
    now = config.now
    return {
        "facts": [(fact, *_word(fact, known), fact.age and aged(now - fact.age, now)) for fact in known.three],
        "error": known.error,
        "failing": _failing(config, known) if known.error else None,
        "broken": [
            (scrub.scrub(where), line, scrub.scrub(error)) for where, line, error in Source.objects.errors_about(config)
        ],
        "warnings": [
            (scrub.scrub(one.where), one.line, scrub.scrub(one.warning))
            for one in Source.objects.warnings_about(config)
        ],
        "run_time": _run_time(known.slowest),
        "why": reasons,
        "move_time": dated(reasons.move.time, now) if reasons.move else "",
        "moves_url": list_url(Move, config_id=config.pk),
        "best_then": [(name, load_in_words(load, is_assumed=reasons.assumed)) for name, load in reasons.best],
        "sent": [(title, _LINE_BREAK.split(text.removesuffix("\n"))) for title, text in sent_texts(config)],
        "text": config.display_text,
        "instances": Table("", INSTANCE_HEADERS, [_instance(run, exact) for run in known.runs[:MOST_INSTANCES]]),
        "instances_left": max(len(known.runs) - MOST_INSTANCES, 0),
        "timeline": [(line, dated(line.time, now)) for line in lines],
        "timeline_is_cut": more,
    }


def sent_texts(config: Config) -> list[tuple[str, str]]:
    """[(title, text)]: what its authors wrote, without secrets. The title names the origin if there are several."""
    senders = sorted({(origin.source, parent_of(origin.key)) for origin in config.origins.all()})
    texts = [
        (scrub.scrub(f"{source}:{key}") if len(senders) > 1 else "", written.shown(text))
        for source, key in senders[:MOST_TEXTS]
        if (text := origins.written(source, key))
    ]
    return texts or [("", sent_text(config))]


def sent_text(config: Config) -> str:
    """What its origin sent, formatted anew and without secrets. For configs whose original text was not stored."""
    try:
        root = yamlnodes.read(text_of(IntegrationConfig.from_json(config.original)))
    except InvalidYAML as error:
        return f"# It can't be shown: {error}"
    if root is None:
        return ""
    scrub.hide(root)
    return yamlnodes.write(root)


def _word(fact: Fact, known: Facts) -> tuple[str, str]:
    """A fact's truth in a word, and its sign. What a node runs without success is no good news."""
    if fact is known.running and fact.truth is Truth.YES and known.error:
        return "yes, but its last run failed", "error"
    return str(fact.truth), _SIGNS[fact.truth]


def _failing(config: Config, known: Facts) -> dict[str, Any]:
    """Since when a config fails, when what fails of it last succeeded, and of several instances which fail and whose these are;
    empty where nothing says so.
    """
    now, written = clock.now(), Written.of([config.pk])[config.pk]
    noted = Trouble.objects.filter(config=config, kind=Trouble.Kind.FAILING).values_list("since", "last_good")
    since, kept = noted.first() or (None, None)
    told = (run.stats.last_good for run in known.runs if run.stats and run.error)
    good = max(filter(None, (kept, *told)), default=None)
    return {
        "since": aged(since, now) if since else "",
        "last_good": aged(good, now) if good else "",
        "which": (which := written.which(known.failing)),
        "teams": listed([scrub.scrub(team) for team in sorted(written.teams(known.failing))], None) if which else "",
    }


def _run_time(run: Run | None) -> str:
    """The run time of an instance against its interval; empty if no runner reported one."""
    if run is None or run.stats is None:
        return ""
    interval = milliseconds(run.instance.interval * 1000)
    shown = f"{milliseconds(run.stats.execution_ms)} of {interval}, {percent(run.share)}"
    return f"{shown}: longer than the time between two runs" if run.share > 1 else shown


def _instance(run: Run, exact: bool) -> tuple[Any, ...]:
    check_id, stats = visible(run.instance.shown_id(exact=exact)), run.stats
    if stats is None:
        return (check_id, "", "", "", "", "")
    # Old runners report none.
    counts = ("not told" if number is None else str(number) for number in (stats.total_runs, stats.total_errors))
    return check_id, milliseconds(stats.execution_ms), percent(run.share), *counts, run.error
