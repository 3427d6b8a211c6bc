"""Commands report errors in one line, and never give the process ID of another machine."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from checks.models import ClusterStore
from clusteragent.lib import conf
from nodes.models import Hearing

MANAGE = Path(__file__).parents[2] / "manage.py"
COMMANDS = ["clusterchecks", "expirenodes", "leader", "pruneledger", "redispatch", "syncconfigs"]


def output(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


@pytest.mark.django_db
def test_the_leader_is_told_with_its_term_and_last_pass(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("leader")
    assert output(capsys) == "nobody, term 0, last pass None"
    ClusterStore.objects.update(term=5, leader="east:17")
    Hearing.objects.note_pass()
    call_command("leader")
    assert output(capsys) == f"east:17, term 5, last pass {Hearing.objects.get().last_pass}"


@pytest.mark.django_db
def test_the_leader_s_process_is_told_on_its_own_machine(capsys: pytest.CaptureFixture[str]) -> None:
    ClusterStore.objects.update(leader=f"{conf.REPLICA}:4711")
    call_command("leader", "--pid")
    assert output(capsys) == "4711"


@pytest.mark.django_db
@pytest.mark.parametrize("leader", ["elsewhere:4711", ""])
def test_the_leader_s_process_is_not_told_on_another(leader: str) -> None:
    ClusterStore.objects.update(leader=leader)
    with pytest.raises(CommandError, match=f"the leader runs on {leader.partition(':')[0] or 'no machine yet'}"):
        call_command("leader", "--pid")


@pytest.mark.django_db
def test_a_check_that_no_config_has_is_named() -> None:
    with pytest.raises(CommandError, match="nope"):
        call_command("clusterchecks", "--check", "nope")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_that_is_away_is_a_line(command: str) -> None:
    environment = {"DATABASE_URL": "postgresql://app:secret-word@127.0.0.1:1/none", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, MANAGE, command], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("the database is away: ")
    assert len(done.stderr.splitlines()) == 1
    assert "secret-word" not in done.stderr
