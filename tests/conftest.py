"""Servers that tests share: a web server for node agents, and PostgreSQL servers that they may stop."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from tests.faults.database import Server, make_template
from tests.webserver import WebServer, database_url, serving


@pytest.fixture(scope="session")
def web(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """The agents' web server, on the tests' database."""
    with serving(database_url(), tmp_path_factory.mktemp("web")) as server:
        yield server


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """The data folder of a migrated database."""
    folder = _folder()
    try:
        yield make_template(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def own_server(template: Path) -> Iterator[Server]:
    """A PostgreSQL server with a migrated database, which the tests of a file may stop."""
    folder = _folder()
    server = Server.copy(template, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder)


def _folder() -> Path:
    # Not pytest's folder: its parents are private to us, and PostgreSQL may run as another user.
    folder = Path(tempfile.mkdtemp(prefix="clusteragent-tests-"))
    folder.chmod(0o755)
    return folder
