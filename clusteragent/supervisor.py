"""The process manager of `make run`: supervisord with a configuration, as a child process."""

import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, NamedTuple, Self
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from clusteragent.lib import files

# -P: nothing is imported from the folder that this is called in.
_SUPERVISORD = [sys.executable, "-P", "-m", "supervisor.supervisord"]

# Seconds that supervisord may take to stop all groups, one after the other.
STOP = 9.5


class SupervisorError(Exception):
    """The process manager, or one of its programs, does not run."""


class Program(NamedTuple):
    """A process that supervisor runs. The fields are options of supervisor's `[program:x]` section."""

    name: str
    command: Sequence[str]
    autorestart: bool = True
    user: str | None = None
    stopsignal: str = "TERM"
    stopwaitsecs: int = 4


class Group(NamedTuple):
    """Programs that start and stop together. Groups stop one after the other, in reverse order."""

    name: str
    programs: Sequence[Program]


def configuration(groups: Sequence[Group], folder: Path, sockets: Path, root: bool) -> str:
    """Return the content of supervisord.conf. Logs go to `folder`/log. No program starts by itself, all end with supervisord.

    root: whether supervisord runs as root.
    """
    logs = folder / "log"
    sections: dict[str, dict[str, Any]] = {
        "supervisord": {
            "nodaemon": "true",
            "silent": "true",
            "logfile": logs / "supervisord.log",
            "logfile_maxbytes": "10MB",
            "logfile_backups": 3,
            "pidfile": folder / "supervisord.pid",
            # Without it, supervisord warns when it runs as root.
            **({"user": "root"} if root else {}),
        },
        "unix_http_server": {"file": sockets / "supervisor.sock", "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisorctl": {"serverurl": f"unix://{sockets / 'supervisor.sock'}"},
    }
    for priority, group in enumerate(groups, 1):
        programs = {f"program:{program.name}": _program(program, logs) for program in group.programs}
        names = ",".join(program.name for program in group.programs)
        sections |= {f"group:{group.name}": {"programs": names, "priority": priority}, **programs}
    options = {
        name: "".join(f"{key} = {str(value).replace('%', '%%')}\n" for key, value in values.items())
        for name, values in sections.items()
    }
    return "\n".join(f"[{name}]\n{lines}" for name, lines in options.items())


def _program(program: Program, logs: Path) -> dict[str, Any]:
    # The kernel ends the programs when supervisord ends, however it ends.
    ending = ["setpriv", "--pdeathsig", program.stopsignal, "--"]
    return {
        "command": shlex.join([*ending, *program.command]),
        "autostart": "false",
        "autorestart": "true" if program.autorestart else "false",
        # The pause between two tries grows by a second each time.
        "startretries": 30,
        "stopsignal": program.stopsignal,
        "stopwaitsecs": program.stopwaitsecs,
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": logs / f"{program.name}.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 3,
        **({"user": program.user} if program.user else {}),
    }


class Supervisor:
    """supervisord as a child process. It stops all programs when the context ends, or when this process ends."""

    def __init__(self, groups: Sequence[Group], folder: Path, sockets: Path, *, root: bool, lock: IO[str]) -> None:
        self._logs, self._lock = folder / "log", lock
        self._config = folder / "supervisord.conf"
        self._logs.mkdir(exist_ok=True, mode=0o700)
        self._config.touch(mode=0o600)
        files.restrict_access(self._logs, *self._logs.iterdir(), self._config, folder / "supervisord.pid")
        self._config.write_text(configuration(groups, folder, sockets, root))
        url = f"unix://{sockets / 'supervisor.sock'}"
        self._transport = SupervisorTransport(serverurl=url)
        self._calls: Any = ServerProxy("http://localhost", self._transport).supervisor

    def __enter__(self) -> Self:
        setpriv = shutil.which("setpriv")
        if not setpriv:
            raise SupervisorError("the program setpriv (of util-linux) is missing")
        # Its standard input is the lock file, so it holds the lock as long as it runs. In a session of its own it does not get
        # the SIGINT of Ctrl-C.
        self._process = subprocess.Popen(  # noqa: S603
            [setpriv, "--pdeathsig", "TERM", "--", *_SUPERVISORD, "--configuration", str(self._config)],
            stdin=self._lock,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,
        )
        return self

    def __exit__(self, *error: object) -> None:
        for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(again, signal.SIG_IGN)
        self._process.terminate()
        try:
            self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def answers(self) -> bool:
        """Return whether supervisord has started. Raises SupervisorError when it has ended."""
        if self._process.poll() is not None:
            raise SupervisorError(f"the process manager ended: {self._last_line('supervisord')}")
        try:
            self._calls.getState()
        except (OSError, HTTPException):
            self._transport.close()  # else the next call would use the failed connection
            return False
        return True

    def start(self, group: str) -> None:
        """Start a group's programs and return without waiting for them."""
        self._calls.startProcessGroup(group, False)

    def require_running(self, program: str) -> None:
        """Raise SupervisorError, with the last line of the program's log, unless it runs or starts."""
        states = {process["name"]: process["statename"] for process in self._calls.getAllProcessInfo()}
        if states[program] not in {"STARTING", "RUNNING"}:
            raise SupervisorError(f"{program} does not start: {self._last_line(program)}")

    def wait(self) -> None:
        """Wait until supervisord ends, which it never does by itself, and raise SupervisorError then."""
        self._process.wait()
        raise SupervisorError(f"the process manager ended: {self._last_line('supervisord')}")

    def _last_line(self, name: str) -> str:
        log = self._logs / f"{name}.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
