"""The certificate of a replica is a need when it ends soon, and when its files can't be used. Metrics say how long it holds."""

from pathlib import Path

import pytest

from checks.explain import alerts
from clusteragent import metrics
from clusteragent.lib import conf, credentials
from tests.certificates import write_own
from tests.table import table

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "var"
    folder.mkdir()
    monkeypatch.setattr(conf, "VAR", folder)
    monkeypatch.setattr(conf, "REPLICA", "east")
    return folder


def causes() -> list[str]:
    return [alert.cause for alert in alerts.current() if alert.kind == alerts.Kind.CERTIFICATE]


def seconds_left() -> list[float]:
    [family] = [one for one in metrics.families() if one.name == "clusteragent_certificate_ends_seconds"]
    return [value for _, value in family.samples]


def test_a_machine_without_one_and_a_new_one_need_nobody(folder: Path) -> None:
    assert (causes(), seconds_left()) == ([], [])
    credentials.make_missing(folder)
    assert causes() == []
    [left] = seconds_left()
    assert 364 * 86_400 < left < 366 * 86_400


@table(
    ("begins", "ends", "said"),
    [
        (-300, 15, None),
        (-300, 13, "ends in 12 d"),
        (-300, -2, "ended 2 d"),
        # Of one that is renewed each day, the last third is no news.
        (-1, 1, None),
        (-9, 1, "ends in 23 h"),
    ],
)
def test_one_that_ends_soon_is_named(folder: Path, begins: int, ends: int, said: str | None) -> None:
    write_own(folder, begins, ends)
    found = causes()
    if said is None:
        assert found == []
    else:
        [cause] = found
        assert f"The certificate of east's web servers, {folder / 'cert.pem'}, {said}" in cause
    [left] = seconds_left()
    assert (ends - 0.1) * 86_400 < left <= ends * 86_400


def test_files_that_can_not_be_used_are_named_and_have_no_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_own(folder, -9, 900)
    monkeypatch.setattr(conf, "CERTIFICATE", folder / "cert.pem")
    monkeypatch.setattr(conf, "CERTIFICATE_KEY", folder / "other.pem")
    [cause] = causes()
    assert f"{folder / 'other.pem'}: No such file or directory" in cause
    assert cause.startswith("east's web servers go on with the certificate that they have, and could not start anew")
    assert seconds_left() == []
