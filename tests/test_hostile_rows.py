"""Rows that someone else wrote into the queue's tables: a real leader and its worker run none of them, and go on."""

import base64
import hashlib
import os
import pickle
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import signing
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.scheduler import scheduler
from django_q.signing import PickleSerializer, SignedPackage
from psycopg.conninfo import make_conninfo

from clusteragent.lib import conf
from clusteragent.worker import Broker
from tests.replicas import Cluster, Replica, descendants, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


class Obeyed:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def cluster(transactional_db: None, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(make_conninfo(conf.DATABASE_URL, dbname=connection.settings_dict["NAME"]), tmp_path)
    try:
        cluster.store.furnish()
        yield cluster
    finally:
        cluster.end()


def hostile(folder: Path, term: int) -> Iterator[str]:
    """Payloads that make a folder if they are obeyed: by their name, by their signature, by being unpickled."""
    task = {"id": "1", "name": "x", "started": timezone.now(), "kwargs": {}, "ack_failure": True}
    passing = task | {"func": "checks.tasks.background_pass", "args": (term,)}
    yield "os.system"
    yield pickle.dumps(Obeyed(folder / "pickle")).hex()
    yield signing.dumps("", key="x" * 50, salt="clusteragent", serializer=PickleSerializer)
    for call in (
        task | {"func": "os.mkdir", "args": (str(folder / "function"),)},
        task | {"func": "subprocess.call", "args": (["mkdir", str(folder / "program")],)},
        passing | {"hook": "pathlib.Path.mkdir"},
        passing | {"chain": [("os.mkdir", (str(folder / "chain"),), {})], "group": "g", "cached": False, "sync": False},
        passing | {"args": (Obeyed(folder / "argument"),)},
    ):
        yield SignedPackage.dumps(call)


def test_no_row_makes_the_worker_run_anything_but_our_tasks(cluster: Cluster, tmp_path: Path) -> None:
    [replica] = cluster.start()
    cluster.led()
    term, made = cluster.store.term(), tmp_path / "made"
    made.mkdir()
    key = f"pass-{term}"
    results, now = base64.b64encode(pickle.dumps(Obeyed(made / "result"))).decode(), timezone.now()
    columns = "(id, name, func, args, kwargs, result, started, stopped, success, attempt_count)"
    cluster.store.run(
        f"INSERT INTO django_q_task {columns} VALUES ('1', 'x', 'y', %s, %s, %s, now(), now(), true, 1)", *[results] * 3
    )
    Schedule.objects.create(
        func="os.mkdir", args=repr(str(made / "schedule")), cluster=key, next_run=now - timedelta(1)
    )
    # As a worker's own scheduler would, if somebody let it.
    scheduler(Broker(key))
    OrmQ.objects.bulk_create(OrmQ(key=key, payload=one, lock=now) for one in hostile(made, term))

    wait_for("all are refused", lambda: replica.logged("tasks_refused"))
    wait_for("the queue has none", lambda: not OrmQ.objects.exclude(payload__startswith="checks.tasks.").exists())
    passed = cluster.store.now()
    for _ in range(3):
        passed = cluster.store.next_pass(after=passed)
    assert list(made.iterdir()) == []
    assert cluster.store.term() == term
    assert replica.logged("worker_restarted") == 0


def test_no_process_is_told_a_secret_by_its_environment_or_command_line(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        "DD_CLUSTER_AGENT_AUTH_TOKEN": "cluster_agent.auth_token",
        "CLUSTERAGENT_LOCAL_TOKEN": "auth_token",
        "CLUSTERAGENT_SECRET_KEY": "secret_key",
    }
    secrets = {file: hashlib.sha256(file.encode()).hexdigest() for file in names.values()}
    for name, file in names.items():
        monkeypatch.delenv(name)
        (tmp_path / file).write_text(secrets[file])
    [replica] = cluster.start()
    cluster.led()
    told = "".join(map(_told, _processes(replica)))
    assert "runworker" in told
    assert not [file for file, secret in secrets.items() if secret in told]


def _processes(replica: Replica) -> list[int]:
    return [replica.pid, *descendants(replica.pid)]


def _told(pid: int) -> str:
    return "".join(Path(f"/proc/{pid}/{file}").read_text() for file in ("environ", "cmdline"))
