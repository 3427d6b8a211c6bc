"""A pytest plugin: the tests' PostgreSQL, the embedded one unless DATABASE_URL names a server.

Workers get its URL from the environment, and each makes a database of its own there.
"""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

_folder: Path | None = None

# Tests start many processes of ours. Without stored bytecode each would compile the whole program, and each worker all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Settings are read before any hook of ours runs, so the URL and the tokens must be known on import.
if "DATABASE_URL" not in os.environ:
    from clusteragent.lib import postgres

    _folder = Path(tempfile.mkdtemp(prefix="clusteragent-tests-"))
    os.environ["DATABASE_URL"] = postgres.url(_folder / "pgdata")
os.environ["DD_CLUSTER_AGENT_AUTH_TOKEN"] = "test-token-of-the-node-agents-0123"
os.environ["CLUSTERAGENT_LOCAL_TOKEN"] = "test-token-of-the-local-routes-0123"
os.environ["CLUSTERAGENT_SECRET_KEY"] = "test-key-that-signs-nothing-outside-tests"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start PostgreSQL, and make signals end the session in an orderly way."""
    # Both raise KeyboardInterrupt, so that everything that tests started is ended.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    if _folder:
        postgres.initialise(_folder / "pgdata")
        postgres.start(_folder / "pgdata", "fsync=off", "max_connections=400")


def _interrupt(number: int, frame: object) -> None:
    # Once only: workers get Ctrl-C twice, from the terminal and from pytest. The second must not interrupt the clean-up.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop PostgreSQL, and delete its data."""
    if _folder and (_folder / "pgdata" / "postmaster.pid").exists():
        postgres.stop(_folder / "pgdata", "immediate")
    if _folder:
        shutil.rmtree(_folder, ignore_errors=True)
