"""Fixtures for tests of the image: it is built once, and has a PostgreSQL that containers reach."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from clusteragent.lib import postgres
from tests.image.containers import Engine, missing
from tests.replicas import Store
from tests.webserver import free_port

IMAGE = "clusteragent"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine that has built the image. All containers end with it."""
    if command := missing():
        told = f"the image can't be built here: `{command}`"
        # Where nobody reads the list of skipped tests, none must be skipped.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(told)
    # Not in pytest's folder: podman wants a path of at most 50 characters.
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        engine = Engine(Path(folder))
        try:
            engine.build(IMAGE)
            yield engine
        finally:
            engine.end()


class Database(NamedTuple):
    """A PostgreSQL server: its URL on the loopback interface, and the folder of its socket, which anybody may use."""

    url: str
    socket: Path


@pytest.fixture(scope="session")
def database_server() -> Iterator[Database]:
    """A PostgreSQL server for containers."""
    # Not in pytest's folder, which is for its owner alone.
    with tempfile.TemporaryDirectory(prefix="clusteragent-image-") as folder:
        pgdata, port = Path(folder) / "pgdata", free_port()
        postgres.initialise(pgdata)
        socket = Path(folder) / "socket"
        socket.mkdir()
        socket.chmod(0o777)
        words = ("fsync=off", "listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={socket}")
        postgres.start(pgdata, *words)
        try:
            yield Database(f"postgresql://postgres@127.0.0.1:{port}/postgres", socket)
        finally:
            postgres.stop(pgdata, "immediate")


@pytest.fixture(scope="session")
def database(database_server: Database) -> str:
    """The URL of the server."""
    return database_server.url


@pytest.fixture(scope="session")
def root(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the image."""
    folder = tmp_path_factory.mktemp("root")
    engine.save(IMAGE, folder)
    return folder


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """Queries to the containers' database."""
    store = Store(database)
    yield store
    store.close()
