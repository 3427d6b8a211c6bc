"""Pruning works in batches and by kind: neither many old rows nor a failing kind stops the others."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models.functions import Now
from django_q.models import Task
from knox.models import AuthToken

from acts.models import Act
from checks import pruning, tasks
from checks.models import ClusterStore, Cost, Move, Plan, TaskRun
from checks.models.freezes import Freeze
from clusteragent.lib.database import bulk
from nodes.heartbeats import note_heartbeat
from nodes.models import Node, NodeEvent, SharedTokenUse

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = Now() - timedelta(days=400)
NUMBER = 5
EACH = {
    "moves": NUMBER, "plans": NUMBER, "edits": 0, "freezes": NUMBER, "acts": NUMBER, "events": NUMBER, "nodes": NUMBER,
    "costs": NUMBER, "sessions": NUMBER, "task results": NUMBER, "tokens": NUMBER, "uses of the shared token": NUMBER,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _old_rows(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    ClusterStore.objects.update(term=7)
    user = User.objects.create_user("olga")
    for number in range(NUMBER):
        Move.objects.create(config_id=1, digest="d", name="n", reason="scheduled", term=1, time=LONG_AGO)
        NodeEvent.objects.create(node_name="ash", kind=NodeEvent.Kind.SILENT, time=LONG_AGO)
        Plan.objects.create(revision=1, time=LONG_AGO)
        Freeze.objects.create(until=LONG_AGO)
        Act.objects.create(person="olga", how=Act.How.ADMIN, verb=Act.Verb.PIN, time=LONG_AGO)
        Node.objects.create(name=f"lost-{number}", lost_at=LONG_AGO)
        Cost.objects.create(config_id=number + 1, workers_needed=0.5)
        SharedTokenUse.objects.create(name=f"node-{number}", last_used_at=LONG_AGO)
        Session.objects.create(session_key=f"key-{number}", session_data="", expire_date=LONG_AGO)
        Task.objects.create(
            id=f"{number}", name="x", func="x", started="2020-01-01T00:00Z", stopped="2020-01-01T00:00Z"
        )
        token, _ = AuthToken.objects.create(user)
        AuthToken.objects.filter(pk=token.pk).update(expiry=LONG_AGO)
    Move.objects.create(config_id=1, digest="d", name="new", reason="scheduled", term=1)


def stopping(table: str) -> Callable[..., Any]:
    """Makes a trigger that lets nobody delete from a table."""

    def make(action: str) -> None:
        with connection.cursor() as cursor:
            if action == "make":
                cursor.execute(
                    "CREATE OR REPLACE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$ BEGIN RAISE EXCEPTION 'it stays'; END $$"
                )
                cursor.execute(f"CREATE TRIGGER stay BEFORE DELETE ON {table} EXECUTE FUNCTION stay()")
            else:
                cursor.execute(f"DROP TRIGGER stay ON {table}")

    return make


@pytest.fixture
def kept_moves() -> Any:
    trigger = stopping("checks_move")
    trigger("make")
    yield
    trigger("drop")


def test_all_kinds_are_pruned_in_as_many_batches_as_it_takes() -> None:
    assert pruning.prune() == EACH
    assert [move.name for move in Move.objects.all()] == ["new"]
    assert pruning.prune() == dict.fromkeys(EACH, 0)


def test_a_run_goes_on_where_the_last_one_stopped() -> None:
    assert pruning.prune(3)["moves"] == 3
    assert pruning.prune(3)["moves"] == 2
    assert pruning.prune(3)["moves"] == 0


def test_each_batch_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([None])
    delete = bulk._delete

    def broken_off(*args: Any) -> int:
        if next(calls, "second") == "second":
            raise KeyboardInterrupt
        return delete(*args)

    with monkeypatch.context() as patched:
        patched.setattr(bulk, "_delete", broken_off)
        with pytest.raises(KeyboardInterrupt):
            pruning.prune()
    assert Move.objects.filter(name="n").count() == NUMBER - 2
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        pruning.KINDS["moves"](1)


@pytest.mark.usefixtures("kept_moves")
def test_a_kind_that_fails_keeps_no_other_from_being_pruned(caplog: pytest.LogCaptureFixture) -> None:
    assert tasks.prune(7) == tasks.FAILED
    assert (Move.objects.count(), Plan.objects.count(), NodeEvent.objects.count()) == (NUMBER + 1, 0, 0)
    assert not any(model.objects.exists() for model in (Session, Task, AuthToken))
    [record] = [record for record in caplog.records if "pruning_failed" in str(record.msg)]
    assert "moves" in str(record.msg)
    assert not TaskRun.objects.filter(name="prune").exists()
    with pytest.raises(CommandError, match="not pruned: moves"):
        call_command("pruneledger")


def test_a_kind_whose_rows_are_locked_keeps_no_other_from_being_pruned() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN; SELECT FROM checks_move FOR UPDATE")
        with pytest.raises(pruning.NotPruned, match="not pruned: moves") as failure:
            pruning.prune()
    finally:
        other.close()
        connection.close()
    assert failure.value.pruned == {kind: number for kind, number in EACH.items() if kind != "moves"}
    assert pruning.prune()["moves"] == NUMBER


def test_a_lost_node_that_is_back_before_its_batch_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    delete = bulk._delete

    def after_its_return(rows: Any, cascades: bool) -> int:
        if rows.model is Node:
            note_heartbeat("lost-0", last_change=0)
        return delete(rows, cascades)

    monkeypatch.setattr(bulk, "_delete", after_its_return)
    pruning.prune()
    assert [node.name for node in Node.objects.all()] == ["lost-0"]


def test_the_command_deletes_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("pruneledger")
    assert "5 moves deleted" in capsys.readouterr().out
    call_command("pruneledger", "--dry-run")
    assert capsys.readouterr().out == "Nothing would be deleted: nothing is older than its retention.\n"
