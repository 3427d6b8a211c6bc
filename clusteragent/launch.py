"""`make run`: starts all programs of this machine in order, watches them, and stops them together."""

import fcntl
import functools
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import django.db
import httpx
from django.core import checks
from django.db import connection

from checks.models import Config
from clusteragent import upgrade, web
from clusteragent.lib import conf, credentials, postgres, sockets
from clusteragent.lib.processes import manage, module
from clusteragent.lib.words import plain_count
from clusteragent.supervisor import Group, Program, Supervisor, SupervisorError
from nodes.models import Hearing, Node
from simulation.runners import named_address

PGDATA = conf.VAR / "pgdata"
NAMES = ("ash", "birch", "cedar")

# Seconds that each program may take until it answers. A database that crashed recovers first.
PATIENCE = 60
# Seconds during which a program that fails to start is started again.
RETRIES = 6
# Seconds after which the greeting is printed even when not every check has a node yet.
SETTLED = 12


class LaunchError(Exception):
    """Why `make run` can't start, in one line."""


@contextmanager
def launched(say: Callable[[str], None]) -> Iterator[Supervisor]:
    """Start everything, and stop it when the context ends. Raises LaunchError, and KeyboardInterrupt on a signal.

    say: is told each step as it begins. What is wrong with options is found before the first.
    """
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    try:
        lock = _prepare(say)
        folder = sockets.make_folder_of(conf.VAR, os.geteuid())
        with Supervisor(_groups(), conf.VAR, folder, root=os.geteuid() == 0, lock=lock) as supervisor:
            _start_all(supervisor, say)
            yield supervisor
    except credentials.CredentialsError as error:
        raise LaunchError(f"CLUSTERAGENT_VAR: {error}") from error
    except (postgres.PostgresError, upgrade.DatabaseError, SupervisorError, web.Unavailable) as error:
        raise LaunchError(str(error)) from error


def wait_until_settled() -> None:
    """Wait until the simulated node agents run every check, for at most SETTLED seconds."""

    def is_settled() -> bool:
        warmup = Hearing.objects.filter(warmup=True).exists()
        return not warmup and Config.objects.exists() and not Config.objects.dangling().exists()

    if conf.DEMO_NODES:
        _wait(is_settled, SETTLED)


def _prepare(say: Callable[[str], None]) -> IO[str]:
    """Check options, ports and folders, and make what a first start needs. VAR is locked while the returned file is open."""
    for problem in checks.run_checks():
        if problem.is_serious():
            raise LaunchError(f"{problem.msg} {problem.hint or ''}".strip())
    try:
        web.make_missing({secret.file for secret in web.shared_secrets() if secret.value})
        lock = _lock()
        for server in web.servers().values():
            web.address(server)
        for name in demo_nodes():
            web.free_address("DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT", named_address(name), conf.CLC_RUNNERS_PORT)
        if not conf.DATABASE_URL:
            if not PGDATA.exists():
                say(f"Making an embedded PostgreSQL in {PGDATA}")
            postgres.initialise(PGDATA)
            postgres.forget_dead_server(PGDATA)
    except OSError as error:
        raise LaunchError(f"CLUSTERAGENT_VAR: {error.filename or conf.VAR}: {error.strerror or error}") from error
    return lock


def _lock() -> IO[str]:
    # For its owner only: whoever may open the file, even for reading, could lock it and keep us from starting.
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


def _groups() -> list[Group]:
    """Return the groups in the order in which they start. The database stops last, and quickly: SIGINT ends its sessions."""
    groups = []
    if not conf.DATABASE_URL:
        # Only fatal messages: each wait for the leader's lock that times out would be an error, two lines a second.
        server = postgres.command(PGDATA, "max_connections=200", "log_min_messages=fatal")
        groups += [Group("database", [Program("postgres", server, True, postgres.system_user(), "INT", 3)])]
    groups += [Group("web", [Program(f"web-{port}", manage("serve", port)) for port in web.servers()])]
    if names := demo_nodes():
        # On SIGTERM they would say goodbye, and their configs would move from node to node while everything ends.
        words = ("--url", web.servers()["agents"].url, "--stats-port", str(conf.CLC_RUNNERS_PORT))
        commands = {name: module("simulation", "--name", name, *words) for name in names}
        agents = [Program(name, line, False, stopsignal="INT", stopwaitsecs=1) for name, line in commands.items()]
        groups += [Group("nodes", agents)]
    replicas = [Program(f"runagent-{number}", manage("runagent")) for number in (1, 2)]
    return [*groups, Group("clusteragent", replicas)]


def demo_nodes() -> list[str]:
    """Return the names of the simulated node agents. `manage.py simulatenodes --nodes` uses other names by default."""
    numbered = (f"demo-{number}" for number in itertools.count(len(NAMES) + 1))
    return list(itertools.islice(itertools.chain(NAMES, numbered), conf.DEMO_NODES))


def _start_all(supervisor: Supervisor, say: Callable[[str], None]) -> None:
    if not _wait(supervisor.answers, PATIENCE):
        raise LaunchError("the process manager does not answer")
    if conf.DATABASE_URL:
        # A database that is away is all that is said.
        upgrade.connect()
    else:
        say("Starting PostgreSQL")
        supervisor.start("database")
        _require(_database_answers, supervisor, "postgres")
    say("Migrating the database")
    upgrade.upgrade()
    say("Starting the web servers")
    supervisor.start("web")
    for server in web.servers().values():
        _require(functools.partial(_answers, server.url), supervisor, f"web-{server.port}")
    if conf.DEMO_NODES:
        say(f"Starting {plain_count(conf.DEMO_NODES, 'simulated node agent')}")
        supervisor.start("nodes")
        # On a slow machine a node that is late for the warm-up would get no configs.
        alive = Node.objects.alive().filter(name__in=demo_nodes())
        _wait(lambda: alive.count() == conf.DEMO_NODES, SETTLED)
    say("Starting two candidates for the leader's work, who read the config files and place the checks")
    supervisor.start("clusteragent")


def _require(condition: Callable[[], bool], supervisor: Supervisor, program: str) -> None:
    """Wait for the condition. Raises LaunchError after PATIENCE seconds, and SupervisorError when the program has ended.

    In the first RETRIES seconds the program may end and be started again: what a killed server left may let it fail at first.
    """
    last_try = time.monotonic() + RETRIES

    def holds() -> bool:
        if time.monotonic() > last_try:
            supervisor.require_running(program)
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
