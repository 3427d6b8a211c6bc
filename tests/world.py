"""A cluster in the tests' database in which every text that others can write is chosen by the test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User

from checks import dispatcher, plans, sources
from checks.dispatcher import deciding
from checks.models import ClusterStore, Config
from checks.models.orders import Rule
from checks.models.troubles import Trouble
from checks.sources import FileSource, files
from checks.sources.kubernetes.configs import Options
from checks.sources.kubernetes.objects import read_service
from checks.sources.kubernetes.resources import SERVICES
from checks.sources.kubernetes.secrets import Handle, Secrets, Value
from checks.sources.kubernetes.source import KubernetesSource
from checks.sources.kubernetes.watching import Listed
from checks.sources.sync import sync_watched
from checks.tests.cast import report, sent, silence
from checks.tests.kubernetes.cast import service
from checks.wire.scrub import scrub
from clusteragent.lib import conf
from nodes.models import Node, NodeEvent, NodeRule, Runner, RunnerStats
from operators.models import SavedView

Word = Callable[[str], str]
"""Returns the text for a place, by the name of the place."""
ORIGINS = (("file", "plain"), ("file", "pinned"), ("file", "paused"), ("api:shop", "alone"), ("admin", "hand"))


def furnish(word: Word, actor: str, instance: str, **fields: Any) -> None:
    """Make nodes, configs with this instance, orders, moves, plans, events and troubles. `word` gives all texts of others."""
    report("ash", "birch", "cedar")
    for edition in ("first", "second"):
        for source, key in ORIGINS:
            instances = (f"mark: {key} {edition}\n{instance}",)
            dispatcher.schedule([sent(word(f"key {key}"), source=source, instances=instances, **fields)], actor=actor)
    _order(word, actor)
    _trouble(word)
    _leave(word, actor)


def follow(*values: str) -> None:
    """Sync with a cluster in which a Service names a Secret that is rotated: it has one of these values after the other."""
    named, known = "ENC[k8s_secret@shop/db/key]", Secrets()
    check = {"instances": [{"url": named, "tags": [named], "deep": [{"a": named}]}], "init_config": {"proxy": named}}
    source = KubernetesSource(Options(secrets=known))
    source.note(complete=True, refusals=(), unknown=())
    for value in values:
        known.known[Handle("shop", "db", "key")] = Value(value)
        source.take(Listed(SERVICES, [read_service(service({"service.checks": {"http_check": check}}))]))
        source.look()
        sync_watched(source, ClusterStore.objects.get().term)


def _ids(word: Word, key: str) -> list[int]:
    return list(Config.objects.filter(origins__key=word(f"key {key}")).values_list("pk", flat=True))


def _order(word: Word, actor: str) -> None:
    given: dict[str, Any] = {"actor": actor, "note": word("note")}
    dispatcher.pin(_ids(word, "pinned"), word("aim"), kind="pattern", **given)
    dispatcher.pause(_ids(word, "paused"), **given)
    dispatcher.isolate(_ids(word, "alone"), **given)
    Rule.objects.create(name=word("rule"), author=actor, note=word("note of a rule"), required={"zone": word("label")})
    NodeRule.objects.create(
        pattern="ash", labels={"zone": word("label")}, author=actor, note=word("note of a node rule")
    )
    Node.objects.update(labels={"zone": word("label")})
    owner = User.objects.filter(username=actor).first() or User.objects.create_user(actor)
    for name, query in (("view", {"q": "port"}), ("old view", {scrub(word("filter")): scrub(word("value"))})):
        SavedView.objects.create(
            owner=owner, of="checks.config", name=scrub(word(name))[:100], query=query, is_shared=True
        )
    dispatcher.reassign(_ids(word, "plain"), "birch", actor=actor)
    plans.store(deciding.pin(_ids(word, "plain"), "ash", note=given["note"]), author=actor)
    plans.store(deciding.drain(["birch"]), author=actor)


def _trouble(word: Word) -> None:
    """Make each check fail on its node."""
    reported = {"execution_ms": 90_000, "total_runs": 9, "total_errors": 9, "failed": True}
    for number, config in enumerate(Config.objects.filter(assignment__isnull=False)):
        error = word("last error")
        last_error = json.dumps([{"message": error, "traceback": error}]) if number % 2 else error
        stats = {**reported, "node": config.assignment.node, "last_error": last_error}
        RunnerStats.objects.create(check_id=config.instances.get().check_id, **stats)
    for node in Node.objects.all():
        Runner.objects.create(node=node, failures=3, failed_total=3, error=word("error of a runner"))
    Trouble.objects.note()


def _leave(word: Word, actor: str) -> None:
    NodeEvent.objects.create(node_name="ash", kind=NodeEvent.Kind.DECLARED, cause=word("cause"))
    silence("cedar")
    dispatcher.expire_nodes(force=True, actor=actor)
    Node.objects.cordon(actor=actor)


def scan(confd: Path, contents: dict[str, str], monkeypatch: Any) -> None:
    """Write files into `conf.d` and scan them. contents: {path: content}."""
    for name, content in contents.items():
        file = confd / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    monkeypatch.setattr(conf, "CONFD", (confd,))
    monkeypatch.setattr(conf, "CONFD_GIVEN", True)
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    sources.sync(sources=[FileSource()])
