"""`clusteragent status`: the first page's sentence and alerts, and an exit code for programs."""

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from checks.models import ClusterStore
from checks.models.freezes import freeze
from checks.tests.cast import report
from clusteragent.lib import conf
from nodes.models import Hearing, hearing
from operators import fingerprints
from operators.pages.now import snapshot


@pytest.fixture
def healthy(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node reports, and a pass has just ended. Limits are minutes, since a busy machine may be late by seconds."""
    Hearing.objects.update(last_pass=Now())
    monkeypatch.setattr(conf, "NODE_EXPIRATION_TIMEOUT", timedelta(hours=1))
    monkeypatch.setattr(hearing, "STALE_PASS", timedelta(minutes=10))
    report("ash")


def status(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_:
        call_command("status", *words)
    return int(exit_.value.code or 0), capsys.readouterr().out.strip()


@pytest.mark.usefixtures("healthy")
def test_a_healthy_cluster_is_told_in_the_first_page_s_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(capsys) == (0, "Healthy. 0 configs on 1 node, nothing needs you.")
    assert status(capsys)[1] == snapshot().sentence


@pytest.mark.usefixtures("healthy")
def test_what_needs_somebody_is_told_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    freeze(actor="olga")
    code, text = status(capsys)
    assert code == 1
    assert text.startswith("Needs attention. 0 configs on 1 node, 1 thing needs you.\n- ")
    code, text = status(capsys, "--json")
    document = json.loads(text)
    assert (code, document["state"], [need["kind"] for need in document["needs"]]) == (1, "Needs attention", ["frozen"])


@pytest.mark.usefixtures("healthy")
def test_a_cluster_without_a_pass_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    Hearing.objects.update(last_pass=Now() - timedelta(hours=1))
    code, text = status(capsys)
    assert code == 2
    assert text.startswith("Not healthy. ")
    assert "\n- No background pass runs" in text


@pytest.mark.usefixtures("healthy")
def test_a_process_without_the_secrets_says_nothing_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprints.publish(ClusterStore.objects.get().term)
    monkeypatch.setattr(conf, "AUTH_TOKEN", "")
    assert status(capsys)[0] == 0


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_database_that_is_away_is_one_answer(words: tuple[str, ...]) -> None:
    url = "postgresql://app:secret-word@127.0.0.1:1/none"
    done = run(url, *words)
    assert (done.returncode, done.stderr) == (2, "")
    sentence = json.loads(done.stdout)["sentence"] if words else done.stdout.removesuffix("\n")
    assert sentence.startswith("Not healthy. The database is away: ")
    assert "\n" not in sentence
    assert "secret-word" not in done.stdout


def test_a_database_without_our_tables_is_named() -> None:
    # The server's own database, where no test has tables.
    done = run(os.environ["DATABASE_URL"])
    assert done.returncode == 2
    assert "clusteragent migrate" in done.stdout


def run(url: str, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {"DATABASE_URL": url, "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    line = [sys.executable, "-m", "clusteragent", "status", *words]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
