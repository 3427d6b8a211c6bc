"""A pytest plugin: the tests' PostgreSQL, started from the wheel unless DATABASE_URL names one."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

_folder: Path | None = None

# Settings are read before any hook of ours runs, so the URL and the tokens must be known on import.
if "DATABASE_URL" not in os.environ:
    from clusteragent.lib import postgres

    _folder = Path(tempfile.mkdtemp(prefix="clusteragent-tests-"))
    os.environ["DATABASE_URL"] = postgres.url(_folder / "pgdata")
os.environ["DD_CLUSTER_AGENT_AUTH_TOKEN"] = "test-token-of-the-node-agents-0123"
os.environ["CLUSTERAGENT_LOCAL_TOKEN"] = "test-token-of-the-local-routes-0123"
os.environ["CLUSTERAGENT_SECRET_KEY"] = "test-key-that-signs-nothing-outside-tests"


def pytest_sessionstart(session: pytest.Session) -> None:
    # As Ctrl-C does, so that all that tests started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if _folder:
        postgres.initialise(_folder / "pgdata")
        postgres.start(_folder / "pgdata", "fsync=off", "max_connections=200")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _folder and (_folder / "pgdata" / "postmaster.pid").exists():
        postgres.stop(_folder / "pgdata", "immediate")
    if _folder:
        shutil.rmtree(_folder, ignore_errors=True)
