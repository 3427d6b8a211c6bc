"""What `make run` does: everything that this machine needs, started in order, watched and stopped together."""

import fcntl
import functools
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import django.db
import httpx
from django.core import checks
from django.db import connection

from checks.models import Config
from clusteragent import upgrade, web
from clusteragent.lib import conf, credentials, postgres, sockets
from clusteragent.supervisor import Group, Program, Supervisor, SupervisorError, manage, module
from nodes.models import Hearing, Node
from simulation.runners import named_address

PGDATA = conf.VAR / "pgdata"
NAMES = ("ash", "birch", "cedar")

# Seconds that each part may take until it answers. A database that crashed takes its time.
PATIENCE = 60
# Seconds in which a program may fail to start, and be started again.
RETRIES = 6
# Seconds after which the map is shown as it is.
SETTLED = 12


class LaunchError(Exception):
    """What keeps us from running, in a line."""


@contextmanager
def launched() -> Iterator[Supervisor]:
    """Everything up and running until the context ends. Raises LaunchError, and KeyboardInterrupt on a signal."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    try:
        lock = _prepare()
        with Supervisor(_groups(), conf.VAR, _sockets(), root=os.geteuid() == 0, lock=lock) as supervisor:
            _bring_up(supervisor)
            yield supervisor
    except credentials.CredentialsError as error:
        raise LaunchError(f"CLUSTERAGENT_VAR: {error}") from error
    except (postgres.PostgresError, upgrade.DatabaseError, SupervisorError, web.Unavailable) as error:
        raise LaunchError(str(error)) from error


def settle() -> None:
    """Wait until the simulated node agents run everything, but not for long."""
    if conf.DEMO_NODES:
        _wait(_settled, SETTLED)


def _prepare() -> IO[str]:
    """What must be so before anything starts, and what a first start makes; VAR is ours while what it returns is open."""
    for problem in checks.run_checks():
        if problem.is_serious():
            raise LaunchError(f"{problem.msg} {problem.hint or ''}".strip())
    try:
        credentials.make_missing(conf.VAR, given=_given())
        lock = _lock()
        for server in web.servers().values():
            web.address(server)
        for name in demo_nodes():
            web.free("DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT", named_address(name), conf.CLC_RUNNERS_PORT)
        if not conf.DATABASE_URL:
            postgres.initialise(PGDATA)
            postgres.forget_dead_server(PGDATA)
    except OSError as error:
        raise LaunchError(f"CLUSTERAGENT_VAR: {error.filename or conf.VAR}: {error.strerror or error}") from error
    return lock


def _given() -> set[str]:
    """The secrets that need no file."""
    secrets = {
        credentials.NODE_AGENTS_TOKEN: conf.AUTH_TOKEN,
        credentials.LOCAL_TOKEN: conf.LOCAL_TOKEN,
        credentials.SECRET_KEY: conf.SECRET_KEY,
    }
    return {name for name, value in secrets.items() if value}


def _lock() -> IO[str]:
    # Whoever may open it may hold it, for reading too, and keep us from starting.
    descriptor = os.open(conf.VAR / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    lock = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LaunchError(f"{conf.VAR} is in use: `make run` runs there already, as process {lock.read()}") from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _sockets() -> Path:
    return sockets.make_folder_of(conf.VAR, os.geteuid())


def _groups() -> list[Group]:
    """In the order in which they start. The database stops last, and quickly: SIGINT ends what its clients do."""
    groups = []
    if not conf.DATABASE_URL:
        # Each wait for the leader's lock that ends is an error to PostgreSQL, two lines a second; its clients log errors.
        server = postgres.command(PGDATA, "max_connections=200", "log_min_messages=fatal")
        groups += [Group("database", [Program("postgres", server, True, postgres.system_user(), "INT", 3)])]
    groups += [Group("web", [Program(f"web-{port}", manage("serve", port)) for port in web.servers()])]
    if names := demo_nodes():
        # SIGTERM would let them say goodbye, and what they run would move about while everything ends.
        agents = [Program(name, _simulation(name), False, stopsignal="INT", stopwaitsecs=1) for name in names]
        groups += [Group("nodes", agents)]
    replicas = [Program(f"runagent-{number}", manage("runagent")) for number in (1, 2)]
    return [*groups, Group("clusteragent", replicas)]


def demo_nodes() -> list[str]:
    """The names of the simulated node agents. `manage.py simulatenodes --nodes` makes none of them by default."""
    numbered = (f"demo-{number}" for number in itertools.count(len(NAMES) + 1))
    return list(itertools.islice(itertools.chain(NAMES, numbered), conf.DEMO_NODES))


def _simulation(name: str) -> list[str]:
    url = web.servers()["agents"].url
    return module("simulation", "--name", name, "--url", url, "--stats-port", str(conf.CLC_RUNNERS_PORT))


def _bring_up(supervisor: Supervisor) -> None:
    if not _wait(supervisor.answers, PATIENCE):
        raise LaunchError("the process manager does not answer")
    if not conf.DATABASE_URL:
        supervisor.start("database")
        _insist(_database_answers, supervisor, "postgres")
    upgrade.upgrade()
    supervisor.start("web")
    for server in web.servers().values():
        _insist(functools.partial(_answers, server.url), supervisor, f"web-{server.port}")
    if conf.DEMO_NODES:
        supervisor.start("nodes")
        # On a slow machine a node that is late for the warm-up would find all work given out.
        _wait(_all_report, SETTLED)
    supervisor.start("clusteragent")


def _insist(condition: Callable[[], bool], supervisor: Supervisor, program: str) -> None:
    """Wait for it, as long as the program runs. What a killed server left may fail the first tries of the next one."""
    last_try = time.monotonic() + RETRIES

    def holds() -> bool:
        if time.monotonic() > last_try:
            supervisor.insist_on(program)
        return condition()

    if not _wait(holds, PATIENCE):
        raise LaunchError(f"{program} does not answer after {PATIENCE} s")


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds


def _database_answers() -> bool:
    try:
        connection.ensure_connection()
    except django.db.Error:
        return False
    return True


def _answers(url: str) -> bool:
    try:
        httpx.get(f"{url}/healthz", verify=False, timeout=2, trust_env=False)  # noqa: S501
    except httpx.HTTPError:
        return False
    return True


def _all_report() -> bool:
    return Node.objects.alive().filter(name__in=demo_nodes()).count() == conf.DEMO_NODES


def _settled() -> bool:
    warmup = Hearing.objects.filter(warmup=True).exists()
    return not warmup and Config.objects.exists() and not Config.objects.dangling().exists()
