"""`clusteragent`: which commands there are, what it shows of them, and what it says of one that there is not."""

import subprocess
import sys

import pytest
import structlog
from django.core.management import get_commands
from django.db import connection, transaction

from clusteragent import command
from clusteragent.command import GROUPS, INTERNAL, VERBS, errors_in_one_line
from clusteragent.lib.version import VERSION

# Django's.
THEIRS = {"createsuperuser"}


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["clusteragent", *words])
    try:
        command.main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_every_command_of_ours_is_listed_once() -> None:
    ours = {name for name, app in get_commands().items() if app in ("clusteragent", "operators", "nodes", "checks")}
    assert set(VERBS) == ours - INTERNAL - {"start"} | THEIRS
    assert len(VERBS) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_s_help_shows_its_own_options_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert called(monkeypatch, verb, "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: clusteragent {verb} ")
    for option in (
        "settings",
        "pythonpath",
        "traceback",
        "no-color",
        "force-color",
        "skip-checks",
        "verbosity",
        "version",
    ):
        assert f"--{option}" not in shown


@pytest.mark.parametrize(("word", "meant"), [("rebalence", "'rebalance'"), ("agent", "'agents'"), ("xyz", "--help")])
def test_a_command_that_there_is_not_is_an_error_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str, meant: str
) -> None:
    assert called(monkeypatch, word) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert word in told.err
    assert meant in told.err


def test_the_help_of_a_command_is_shown_either_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called(monkeypatch, "why", "--help")
    one = capsys.readouterr().out
    called(monkeypatch, "help", "why")
    assert capsys.readouterr().out == one


def test_the_list_is_shown_also_where_an_option_is_wrong() -> None:
    environment = {"DD_CLUSTER_CHECKS_REBALANCE_PERIOD": "soon", "PYTHONPATH": ":".join(sys.path)}
    words = [sys.executable, "-m", "clusteragent"]
    assert subprocess.run([*words, "--help"], env=environment, capture_output=True, check=False).returncode == 0
    done = subprocess.run([*words, "why", "x"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "DD_CLUSTER_CHECKS_REBALANCE_PERIOD" in done.stderr


def test_each_error_of_a_system_check_is_one_line_and_names_its_option() -> None:
    same = "the-same-secret-in-two-places-0123456789"
    environment = {
        "PYTHONPATH": ":".join(sys.path), "DATABASE_URL": "postgresql://127.0.0.1:1/none", "CLUSTERAGENT_BNID": "1",
        "DD_CLUSTER_AGENT_AUTH_TOKEN": same, "CLUSTERAGENT_LOCAL_TOKEN": same,
    }  # fmt: skip
    for words, code in ((["leader"], 1), (["adopt", "--file", "x"], 2)):
        line = [sys.executable, "-m", "clusteragent", *words]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        warning, error = done.stderr.splitlines()
        assert warning.startswith("warning: CLUSTERAGENT_BNID is no option")
        assert error.startswith("DD_CLUSTER_AGENT_AUTH_TOKEN and CLUSTERAGENT_LOCAL_TOKEN are the same. ")
        assert error.endswith("(clusteragent.E002)")


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    called(monkeypatch, "--version")
    assert capsys.readouterr().out.strip() == VERSION


@pytest.mark.django_db
def test_a_database_that_was_not_migrated_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(SystemExit, match="2"),
        errors_in_one_line(2),
        connection.cursor() as cursor,
        transaction.atomic(),
    ):
        cursor.execute("SELECT * FROM checks_of_later")
    told = "the database's schema is not this version's: `clusteragent migrate` brings it up to date\n"
    assert capsys.readouterr().err == told


def test_the_log_stays_as_it_was_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loggers that were used before keep its processors."""
    before = structlog.get_config()["processors"]
    assert called(monkeypatch, "unlock", "--help") == 0
    assert structlog.get_config()["processors"] is before
