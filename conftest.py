"""Fixtures for all tests: the database, and options that a test changes."""

import os
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import TransactionTestCase
from hypothesis import settings
from pytest_django import DjangoDbBlocker
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

from acts import recording
from clusteragent.lib.logs import RateLimit
from nodes.models import Hearing
from operators import lockout
from operators.pages import now
from operators.pages.shared import Shared
from tests.rows import Rows

# Tests name the cluster of Kubernetes that they mean: none is that in which they may run.
os.environ.pop("KUBERNETES_SERVICE_HOST", None)

# No deadline: property tests check results, not the speed of a busy machine.
settings.register_profile("unhurried", deadline=None)
settings.register_profile("faults", deadline=None, max_examples=5_000)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Switch off the limit of idle transactions: a test is one transaction, and may wait for seconds on a busy machine."""
    connection.settings_dict["OPTIONS"]["options"] += " -c idle_in_transaction_session_timeout=0"


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Make the tests' database. Django would empty all tables after a test that commits: roles would be missing then.

    At the end, sessions of processes that were killed a moment ago may be there still, and threads of ours may connect again. No
    database can be deleted then.
    """
    with django_db_blocker.unblock():
        migrated = Rows()
    TransactionTestCase._fixture_teardown = lambda _: migrated.restore()
    yield
    # From another database: nobody may come back to this one.
    name = connection.settings_dict["NAME"]
    with django_db_blocker.unblock():
        connection.close()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {connection.ops.quote_name(name)} ALLOW_CONNECTIONS false")
            cursor.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name])


@pytest.fixture(scope="session", autouse=True)
def _static_files_read_once() -> Iterator[None]:
    """Describe the static files for the first client alone, as a server does once: it takes longer than most answers."""
    read: dict[str, dict[str, StaticFile]] = {}
    from_finders = WhiteNoiseMiddleware.add_files_from_finders

    def add(self: WhiteNoiseMiddleware) -> None:
        if self.static_prefix not in read:
            from_finders(self)
            read[self.static_prefix] = self.files
        self.files = read[self.static_prefix]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add)
        yield


@pytest.fixture
def warm(db: None) -> None:
    """A database whose warm-up is over."""
    Hearing.objects.update(warmup=False)


@pytest.fixture(autouse=True)
def _own_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't count refusals and failed logins of other tests."""
    recording._refused.clear()
    monkeypatch.setattr(lockout, "_failures", RateLimit(lockout.MOST_ON_RECORD, seconds=3600))


@pytest.fixture(autouse=True)
def _own_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't share the first page's answers between tests."""
    monkeypatch.setattr(now, "_shared", Shared(now.snapshot, 0))
