"""The text that `make run` prints when everything runs."""

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from checks.models import Config, Source
from clusteragent import upgrade, web
from clusteragent.lib import conf, credentials, peer_options
from clusteragent.lib.processes import IS_CHECKOUT
from clusteragent.lib.words import listed
from nodes.models import Hearing, Node

# The most rows of the table of configs.
ROWS = 40


def greeting() -> str:
    """Return the addresses and credentials, the table of configs and their nodes, and commands to try."""
    return "\n".join([*_places(), *_options(), "", *_map(), "", *_suggestions(), "", "Ctrl-C stops everything."])


def _places() -> Iterator[str]:
    servers = web.servers()
    yield "The cluster agent runs."
    yield f"  admin             {servers['operators'].url}/admin/"
    file = conf.VAR / credentials.ADMIN_PASSWORD
    password = f"in {_shown(file)}" if file.exists() else "as the machine that started first on this database made it"
    yield f"  user              {upgrade.ADMIN}, password {password}"
    shown = f"token in {_token(credentials.NODE_AGENTS_TOKEN)}" if conf.SHARED_TOKEN_OPENS else "each with a node token"
    yield f"  node agents       {servers['agents'].url}, {shown}"
    yield f"  local routes      same URL, token in {_token(credentials.LOCAL_TOKEN)}"
    yield f"  logs              {_shown(conf.VAR / 'log')}{os.sep}"


def _options() -> Iterator[str]:
    """Say which variables of the environment are no options or have no effect."""
    for name, nearest in peer_options.unknown().items():
        yield f"{name} is no option.{f' Is {nearest} meant?' if nearest else ''}"
    if without_effect := peer_options.line():
        yield without_effect


def _token(name: str) -> str:
    option = {
        credentials.NODE_AGENTS_TOKEN: "DD_CLUSTER_AGENT_AUTH_TOKEN",
        credentials.LOCAL_TOKEN: "CLUSTERAGENT_LOCAL_TOKEN",
    }[name]
    return _shown(conf.VAR / name) if (conf.VAR / name).exists() else option


def _map() -> Iterator[str]:
    """A row for each config: its node, its check, its origin."""
    configs = Config.objects.described()
    rows = sorted((row["node"] or "(nobody)", row["check"], row["origin"] or "") for row in configs)
    if not Node.objects.known().exists():
        yield "No node agent reports yet."
    if Hearing.objects.filter(warmup=True).exists():
        yield "The warm-up lasts: sources are read, and nothing is placed until it is over. The first page shows when it is."
    elif not rows:
        unread = list(Source.objects.filter(read_at=None).order_by("name").values_list("name", flat=True))
        yield (
            f"No config is known: {listed(unread)} not read yet."
            if unread
            else "No config is known: no source has one."
        )
    if not rows:
        return
    head = ("NODE", "CHECK", "ORIGIN")
    widths = [max(map(len, column)) for column in zip(head, *rows[:ROWS], strict=True)][:2]
    for row in (head, *rows[:ROWS]):
        yield f"  {row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}"
    if len(rows) > ROWS:
        yield f"  and {len(rows) - ROWS} more: {_environment()}{_typed('clusterchecks')}"


def _suggestions() -> Iterator[str]:
    """Commands to paste into another terminal."""
    database = ", with the same DATABASE_URL" if conf.DATABASE_URL else ""
    yield f"Try it in another terminal, in {Path.cwd()}{database}:"
    yield "# Kill the leader: another takes over, and nothing moves."
    yield f"kill -9 $({_environment()}{_typed('leader', '--pid')})"
    if conf.DEMO_NODES:
        silent = f"{conf.NODE_EXPIRATION_TIMEOUT.total_seconds():g} s"
        # No proof without stats: the port is the agent's only once it answered with them.
        proven = conf.PROOF_OF_DEATH in ("all", "port") and conf.ADVANCED_DISPATCHING_ENABLED
        soon = f"some 15 s (its port proves its death; else {silent})" if proven else silent
        yield f"# Kill a node: after {soon} its configs go to other nodes, and only those move."
        yield f"{_python()} -m supervisor.supervisorctl -c {_shown(conf.VAR / 'supervisord.conf')} signal KILL nodes:ash"
    yield from _real_agent()


def _real_agent() -> Iterator[str]:
    yield "# Attach a real agent (by its address instead of 127.0.0.1 from another machine)."
    if not conf.SHARED_TOKEN_OPENS:
        # A variable, as where no file has the shared one.
        yield f"TOKEN=$({_environment()}{_typed('nodetoken', 'add', '--note', 'dogwood', '--nodes', 'dogwood')})"
    token = _token(credentials.NODE_AGENTS_TOKEN) if conf.SHARED_TOKEN_OPENS else "TOKEN"
    environment = {
        "DD_API_KEY": "0" * 32,
        "DD_HOSTNAME": "dogwood",
        "DD_CLUSTER_AGENT_ENABLED": "true",
        "DD_CLUSTER_AGENT_URL": web.servers()["agents"].url,
        "DD_CLUSTER_AGENT_AUTH_TOKEN": f'"${token}"' if token.isupper() else f'"$(cat {token})"',
        "DD_EXTRA_CONFIG_PROVIDERS": "clusterchecks",
        "DD_CLC_RUNNER_REMOTE_TAGGER_ENABLED": "false",
    }
    words = " ".join(f"-e {name}={value}" for name, value in environment.items())
    yield f"docker run --rm --network host {words} datadog/agent:7"


def _environment() -> str:
    """The variable that a command in another shell needs to find this run. DATABASE_URL may have a password: not shown."""
    return f"CLUSTERAGENT_VAR={_shown(conf.VAR)} " if conf.VAR != conf.DEFAULT_VAR else ""


def _typed(*words: str) -> str:
    return " ".join([_python(), "manage.py", *words] if IS_CHECKOUT else ["clusteragent", *words])


def _python() -> str:
    return _shown(Path(sys.executable))


def _shown(path: Path) -> str:
    """The path as it is typed in the current folder, quoted if necessary."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
