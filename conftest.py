"""Fixtures for all tests: the rows that migrations make, and options that a test changes."""

import pytest
from django.db import connection
from hypothesis import settings

from checks.models import ClusterStore, Source
from nodes.models import Hearing, Memory
from operators.pages import now
from operators.pages.shared import Shared
from operators.tests.cast import make_missing_roles

# No deadline: property tests check results, not the speed of a busy machine.
settings.register_profile("unhurried", deadline=None)
settings.register_profile("faults", deadline=None, max_examples=5_000)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Switch off the limit of idle transactions: a test is one transaction, and may wait for seconds on a busy machine."""
    connection.settings_dict["OPTIONS"]["options"] += " -c idle_in_transaction_session_timeout=0"


@pytest.fixture(autouse=True)
def _rows_of_the_migrations(request: pytest.FixtureRequest) -> None:
    """Make the rows that always exist again: the flush after a transactional test deletes them."""
    wants_database = {"db", "transactional_db", "warm"} & set(request.fixturenames)
    if wants_database or request.node.get_closest_marker("django_db"):
        request.getfixturevalue("db")
        ClusterStore.objects.get_or_create(pk=1)
        Source.objects.get_or_create(name="file")
        Hearing.objects.get_or_create(pk=1)
        Memory.objects.get_or_create(pk=1)
        make_missing_roles()


@pytest.fixture
def warm(db: None) -> None:
    """A database whose warm-up is over."""
    Hearing.objects.update(warmup=False)


@pytest.fixture(autouse=True)
def _own_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't share the first page's answer between tests."""
    monkeypatch.setattr(now, "_shared", Shared(now.snapshot, 0))
