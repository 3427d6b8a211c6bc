"""What every test may use: the rows that the migrations made, and options that a test changes."""

import pytest
from django.db import connection
from hypothesis import settings

from checks.models import ClusterStore, Source
from nodes.models import Hearing, Memory
from operators.pages import now
from operators.pages.shared import Shared

# A property says what is right, not how fast a busy machine shows it.
settings.register_profile("unhurried", deadline=None)
settings.register_profile("faults", deadline=None, max_examples=5_000)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """A test is one transaction, in which a busy machine may let it wait for seconds: that is no process that was stopped."""
    connection.settings_dict["OPTIONS"]["options"] += " -c idle_in_transaction_session_timeout=0"


@pytest.fixture(autouse=True)
def _rows_of_the_migrations(request: pytest.FixtureRequest) -> None:
    """The rows that always exist: the flush after a transactional test takes them away."""
    wants_database = {"db", "transactional_db", "warm"} & set(request.fixturenames)
    if wants_database or request.node.get_closest_marker("django_db"):
        request.getfixturevalue("db")
        ClusterStore.objects.get_or_create(pk=1)
        Source.objects.get_or_create(name="file")
        Hearing.objects.get_or_create(pk=1)
        Memory.objects.get_or_create(pk=1)


@pytest.fixture
def warm(db: None) -> None:
    """A database whose warm-up is over."""
    Hearing.objects.update(warmup=False)


@pytest.fixture(autouse=True)
def _own_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first page said in another test is nobody's answer."""
    monkeypatch.setattr(now, "_shared", Shared(now.snapshot, 0))
