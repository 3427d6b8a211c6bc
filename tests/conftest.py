"""The web server process that tests of the protocol share."""

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests.webserver import WebServer, database_url, serving


@pytest.fixture(scope="session")
def web(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """The agents' web server, on the tests' database."""
    with serving(database_url(), tmp_path_factory.mktemp("web")) as server:
        yield server
