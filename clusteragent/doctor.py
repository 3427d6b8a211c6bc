"""`clusteragent doctor`: whether this machine has what the program needs. A function for each topic; none changes anything."""

import asyncio
import enum
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from cryptography import x509
from django.core import checks
from django.db import connection

from checks.sources.kubernetes import access, options, resources
from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.errors import ApiError
from checks.sources.kubernetes.resources import Call
from clusteragent import weaknesses, web
from clusteragent.lib import certificates, clock, conf, locks
from clusteragent.lib.files import CredentialsError
from clusteragent.lib.words import duration, escape_controls, listed
from clusteragent.schema import compare
from nodes import statsclient
from nodes.models import Heartbeat, Node, NodeToken, SharedTokenUse
from nodes.models.runners import SHOWS_ANOTHER
from nodes.tokens import for_runners
from operators import provider
from operators.provider import Denied, Unreachable
from operators.roles import Role, unknown_groups

# PostgreSQL's oldest release that its makers still maintain.
OLDEST_POSTGRESQL = 14
# Times in logs and of certificates are this machine's, all others are the database's.
CLOCKS_DIFFER = timedelta(seconds=2)
# The most runners that are asked, and the most of those that fail that are named.
MOST_RUNNERS, NAMED = 500, 3
REVIEWS = resources.Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")


class Level(enum.StrEnum):
    """How good a finding is, the best first."""

    OK = enum.auto()
    # It can't be seen from here. The remedy says where it can.
    SKIP = enum.auto()
    # It works, and could be safer.
    WEAK = enum.auto()
    WARN = enum.auto()
    FAIL = enum.auto()


class Finding(NamedTuple):
    """What was found of a topic. remedy: what to do; empty if nothing."""

    topic: str
    level: Level
    text: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Yield the findings of all topics. What needs the database is left out when it can't be used."""
    for examine_topic in (options_and_settings, tokens, certificate):
        yield from examine_topic()
    reached = list(database())
    yield from reached
    is_usable = all(finding.level != Level.FAIL for finding in reached)
    if is_usable:
        yield from clocks()
        current = list(schema())
        yield from current
        is_usable = all(finding.level != Level.FAIL for finding in current)
    if is_usable:
        yield from shared_token()
        yield from ending_tokens()
        yield from groups()
        yield from runners()
    yield from single_sign_on()
    yield from kubernetes()
    yield from weak_defaults(with_database=is_usable)


def worst(findings: list[Finding]) -> int:
    """Return 2 if something fails, else 1 if there are warnings, else 0: all is well, could be safer or is not seen here."""
    codes = {Level.OK: 0, Level.SKIP: 0, Level.WEAK: 0, Level.WARN: 1, Level.FAIL: 2}
    return max((codes[finding.level] for finding in findings), default=0)


def options_and_settings() -> Iterator[Finding]:
    """Check the options by Django's system checks, ours and Django's own."""
    found = [one for one in checks.run_checks(include_deployment_checks=True) if not one.is_silenced()]
    for message in found:
        level = Level.FAIL if message.is_serious() else Level.WARN
        yield Finding("options", level, str(message.msg), str(message.hint or ""))
    if not found:
        yield Finding("options", Level.OK, "No option contradicts another, and none is misspelt.")


def tokens() -> Iterator[Finding]:
    """Check that the secrets are there, and that only their owner may read them. Options are not read if one is too short."""
    for name, value, file in web.shared_secrets():
        path = Path(os.environ.get(f"{name}_FILE") or conf.VAR / file)
        if not value:
            remedy = (
                f"Set {name} or {name}_FILE to the same value as on all replicas; `clusteragent all` makes a first one."
            )
            yield Finding("tokens", Level.FAIL, f"{name} is not set, and {path} is not there.", remedy)
        elif not os.environ.get(name) and _is_open(path):
            yield Finding("tokens", Level.WARN, f"Others on this machine may read {path}.", f"chmod 600 {path}")
        else:
            yield Finding("tokens", Level.OK, f"{name} is there, and has at least 32 characters.")


def _is_open(path: Path) -> bool:
    """Whether another user than the file's owner and root may read or change it: by its mode, and those of all folders above."""
    # Secrets are mounted read-only into a container. Who may read those is decided where they come from.
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return False
    real = path.resolve()
    file, folders = real.stat(), [folder.stat() for folder in real.parents]
    of_group = file.st_mode & stat.S_IRWXG and all(_admits(folder, file, stat.S_IXGRP) for folder in folders)
    of_others = file.st_mode & stat.S_IRWXO and all(_admits(folder, file, stat.S_IXOTH) for folder in folders)
    return bool(of_group or of_others)


def _admits(folder: os.stat_result, file: os.stat_result, mine: int) -> bool:
    """Whether those may enter a folder who are in the file's group, or in none of its: `mine` is their bit of a mode."""
    if folder.st_uid not in (0, file.st_uid):
        return True  # its owner may
    # Of those who are in the folder's group, and not in the file's, nothing is known.
    return bool(folder.st_mode & (mine if folder.st_gid == file.st_gid else stat.S_IXGRP | stat.S_IXOTH))


def certificate() -> Iterator[Finding]:
    """Check the certificate of both ports: its key, its names and its time."""
    pair, is_ours = certificates.served(), not certificates.own() and certificates.is_ours(conf.VAR)
    if not pair:
        text = f"There is none in {conf.VAR}, so nothing can be said of it: web servers run elsewhere, or did not start yet."
        yield Finding(
            "certificate", Level.SKIP, text, "Run this where they run: in a container of agents and one of operators."
        )
        return
    renew = f"Put a certificate and its key into {pair.certificate} and {pair.key}: running web servers take them up."
    try:
        found = certificates.read(pair).certificate
    except CredentialsError as error:
        yield Finding("certificate", Level.FAIL, f"{error}.", renew)
        return
    yield _validity(found, datetime.now(UTC), "Restart the web servers." if is_ours else renew)
    if not certificates.own() and certificates.signed_itself_here(found):
        text = "It signed itself, as earlier versions made it: nobody renews it, and it is trusted by itself, without a ca.pem."
        remedy = (
            f"Remove {pair.certificate} and restart the web servers: an authority signs a new one for the same key."
        )
        yield Finding("certificate", Level.WEAK, text, f"{remedy} Whoever trusts the old one needs ca.pem then.")
    if missing := sorted(web.names() - {"localhost", "::1", "127.0.0.1"} - certificates.names(found)):
        text = f"The certificate does not name {listed(missing, NAMED)}, by which the ports are reached."
        remedy = "Restart the web servers: they make it anew." if is_ours else renew
        yield Finding(
            "certificate", Level.WARN, text, f"Whoever verifies it refuses it, unless a proxy ends TLS. {remedy}"
        )
    for key in (pair.key, *([conf.VAR / certificates.AUTHORITY_KEY] if is_ours else [])):
        if _is_open(key):
            yield Finding("certificate", Level.WARN, f"Others on this machine may read {key}.", f"chmod 600 {key}")


def _validity(found: x509.Certificate, now: datetime, renew: str) -> Finding:
    begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
    if now < begins:
        return Finding("certificate", Level.FAIL, f"It is valid only from {begins:%Y-%m-%d %H:%M} UTC on.", renew)
    if now > ends:
        return Finding("certificate", Level.FAIL, f"It has ended at {ends:%Y-%m-%d %H:%M} UTC.", renew)
    if certificates.ends_soon(found, now):
        return Finding("certificate", Level.WARN, f"It ends in {duration(ends - now)}.", renew)
    return Finding("certificate", Level.OK, f"It is valid until {ends:%Y-%m-%d}.")


def database() -> Iterator[Finding]:
    """Check each URL of the database: it is reached, is new enough and takes writes, and the direct one is no pooler's."""
    pooled, direct = conf.DATABASE_URL, conf.DIRECT_DATABASE_URL
    if direct and pooled:
        yield _reached("DATABASE_URL", {"conninfo": pooled, "connect_timeout": 2})
    name = "CLUSTERAGENT_DIRECT_DATABASE_URL" if direct else "DATABASE_URL" if pooled else "The embedded PostgreSQL"
    parameters = connection.get_connection_params()
    reached = _reached(name, {key: parameters[key] for key in parameters if key not in ("cursor_factory", "context")})
    yield reached if reached.level == Level.FAIL else _own_session(name) or reached


def _reached(name: str, parameters: dict[str, Any]) -> Finding:
    try:
        with psycopg.connect(**parameters) as session:
            version, standby = session.info.server_version // 10_000, session.info.parameter_status("in_hot_standby")
    except psycopg.Error as error:
        text = f"{name} can't be reached: {' '.join(str(error).split())}"
        return Finding("database", Level.FAIL, text, "Is the server up, and are host, name, user and password right?")
    if standby == "on":
        text, remedy = f"{name} leads to a standby, which takes no writes.", "Name the primary's host."
        return Finding("database", Level.FAIL, text, remedy)
    if version < OLDEST_POSTGRESQL:
        text, remedy = f"{name} is PostgreSQL {version}.", f"Upgrade it to {OLDEST_POSTGRESQL} at least."
        return Finding("database", Level.FAIL, text, remedy)
    return Finding("database", Level.OK, f"{name} is reached, PostgreSQL {version}.")


def _own_session(name: str) -> Finding | None:
    try:
        locks.require_own_session(connection)
    except locks.Pooled as error:
        text = f"{name} leads through a pooler that shares its sessions."
        return Finding("database", Level.FAIL, text, str(error))
    return None


def clocks() -> Iterator[Finding]:
    """Compare this machine's clock with the database's."""
    before = datetime.now(UTC)
    theirs = clock.now()
    after = datetime.now(UTC)
    # The database read its clock between the two.
    difference = max(before - theirs, theirs - after, timedelta(0))
    if difference > CLOCKS_DIFFER:
        text = f"This machine's clock and the database's differ by {duration(difference)}."
        yield Finding(
            "clock", Level.WARN, text, "Let both follow a time server: times in logs don't fit those in the admin."
        )
    else:
        yield Finding("clock", Level.OK, "This machine's clock and the database's agree.")


def schema() -> Iterator[Finding]:
    """Compare the migrations that the database has with those of this version."""
    missing, newer = compare()
    if newer:
        text = f"The database is newer than this version: it has {listed(newer, NAMED)}."
        remedy = "One version back that is no harm; install what the other replicas run, unless you are going back."
        yield Finding("schema", Level.WARN, text, remedy)
    if missing:
        text = f"The database is older than this version: {listed(missing, NAMED)} not applied."
        yield Finding("schema", Level.FAIL, text, "Run `clusteragent migrate`.")
    if not newer and not missing:
        yield Finding("schema", Level.OK, "The database has this version's schema.")


def shared_token() -> Iterator[Finding]:
    """Check that a token which opens all names is not left on beside node tokens. Alone it is a weak default."""
    has_node_tokens = NodeToken.objects.valid().exists()
    if not has_node_tokens and conf.SHARED_TOKEN_OPENS:
        return
    if not has_node_tokens:
        text = "CLUSTERAGENT_SHARED_TOKEN is off, and no node token holds: no node agent is let in."
        yield Finding("node tokens", Level.FAIL, text, "Make one: docs/howto/rotate-node-tokens.md.")
    elif conf.SHARED_TOKEN_OPENS:
        remedy = "Give them node tokens, then set CLUSTERAGENT_SHARED_TOKEN=off: docs/howto/rotate-node-tokens.md."
        yield Finding("node tokens", Level.WARN, SharedTokenUse.objects.sentence(), remedy)
    else:
        yield Finding("node tokens", Level.OK, "Node tokens alone open the agents' port.")


def ending_tokens() -> Iterator[Finding]:
    """Name the node tokens that agents use and that end soon."""
    for row in NodeToken.objects.ending(clock.now()):
        text = f"{row.key}… is in use and ends soon ({row.described()}): its agents get 403 then."
        yield Finding("node tokens", Level.WARN, text, "Give them another before: docs/howto/rotate-node-tokens.md.")


def groups() -> Iterator[Finding]:
    """Check that the groups of CLUSTERAGENT_GROUP_ROLES are there: members of the provider's get nothing by one that is not."""
    if missing := unknown_groups(conf.GROUP_ROLES):
        said = "is no group of the admin, and gives" if len(missing) == 1 else "are no groups of the admin, and give"
        text = f"Of CLUSTERAGENT_GROUP_ROLES {listed(missing, NAMED)} {said} nobody a role."
        remedy = f"Name a role ({listed(Role.values, None)}), or let an admin make the group."
        yield Finding("groups", Level.WARN, text, remedy)
    elif conf.GROUP_ROLES:
        yield Finding("groups", Level.OK, "All groups of CLUSTERAGENT_GROUP_ROLES are there.")


def single_sign_on() -> Iterator[Finding]:
    """Ask the OpenID provider of CLUSTERAGENT_OIDC_ISSUER what it is."""
    if not conf.OIDC_ISSUER:
        return
    try:
        provider.ask()
    except (Denied, Unreachable) as error:
        text = f"{conf.OIDC_ISSUER} does not answer as its provider: {escape_controls(str(error))}."
        remedy = "Its people are out an hour later. `clusteragent breakglass` lets an admin in until it answers."
        yield Finding("single sign-on", Level.FAIL, text, remedy)
    else:
        yield Finding("single sign-on", Level.OK, f"{conf.OIDC_ISSUER} answers.")


def weak_defaults(*, with_database: bool) -> Iterator[Finding]:
    """Name the defaults that are on and weaker than they could be."""
    weak = weaknesses.found(with_database=with_database)
    for one in weak:
        yield Finding(f"weak default, {one.name}", Level.WEAK, one.text, one.remedy)
    if not weak:
        yield Finding("weak defaults", Level.OK, "None is on.")


def runners() -> Iterator[Finding]:
    """Ask the nodes that report for the stats of their checks, from this machine, as the leader does."""
    alive = Heartbeat.objects.filter(node__in=Node.objects.alive(), client_ip__isnull=False).order_by("node_id")
    sent = for_runners()
    if unused := len(conf.RUNNER_TOKENS) - len(sent.given):
        verb = "is no node token" if unused == 1 else "are no node tokens"
        nor = (
            " Nor is the shared token: whose they were is not known."
            if sent.unknown and conf.SHARED_TOKEN_OPENS
            else ""
        )
        text = f"Of CLUSTERAGENT_RUNNER_TOKENS {unused} {verb} that open anything, so nobody is sent them.{nor}"
        yield Finding("runners", Level.WARN, text, "Take them out; `clusteragent nodetoken list` has those that hold.")
    columns = ("node_id", *statsclient.TARGET)
    rows = {pk: statsclient.target_of(*of) for pk, *of in alive.values_list(*columns)[:MOST_RUNNERS]}
    if not rows:
        yield Finding("runners", Level.OK, "No node that reports has an address to ask.")
        return
    answers = statsclient.ask(rows)
    failed = [f"{rows[pk].name} ({rows[pk].address}: {answer.error})" for pk, answer in answers.items() if answer.error]
    if failed:
        text = f"{len(failed)} of {len(answers)} nodes give no stats of their checks: {listed(failed, NAMED)}."
        remedy = f"Is port {conf.CLC_RUNNERS_PORT} open from here, and is clc_runner_enabled on? Without stats load is estimated."
        if any(answer.error.startswith(SHOWS_ANOTHER) for answer in answers.values()):
            remedy += " Who shows another certificate: docs/troubleshooting.md#runner_certificate."
        yield Finding("runners", Level.WARN, text, remedy)
    else:
        yield Finding("runners", Level.OK, f"All {len(answers)} nodes that were asked give stats of their checks.")


def kubernetes() -> Iterator[Finding]:
    """Ask the API server which features' calls it allows, if a cluster is watched."""
    if not options.is_watched():
        return
    try:
        refused = asyncio.run(_refused(features()))
    except ApiError as error:
        yield Finding("kubernetes", Level.FAIL, f"{error}.", "docs/kubernetes.md says how the cluster is reached.")
        return
    for feature, names in refused.items():
        level = Level.FAIL if feature == SERVICES else Level.WARN
        text = f"No permission for {feature}: {listed(names, None)}."
        yield Finding("kubernetes", level, text, "Add the rule of deploy/kubernetes/rbac.yaml to its role.")
    if not refused:
        yield Finding("kubernetes", Level.OK, "The API server allows what every feature needs.")


SERVICES = "checks that are annotated on Services"


def features() -> dict[str, list[Call]]:
    """Return {feature that is on: its calls}, as in `deploy/kubernetes/rbac.yaml`."""
    endpoints = resources.ENDPOINTSLICES if conf.KUBERNETES_USE_ENDPOINT_SLICES else resources.ENDPOINTS
    found = {
        SERVICES: _reading(resources.SERVICES),
        "checks of the endpoints of Services": _reading(endpoints),
        "ClusterChecks": _reading(resources.CLUSTERCHECKS),
        "the status of ClusterChecks": _telling(resources.CLUSTERCHECKS),
        "DatadogInstrumentations": _reading(resources.INSTRUMENTATIONS),
        "the status of DatadogInstrumentations": _telling(resources.INSTRUMENTATIONS),
        "events of problems": [
            Call("get", resources.SERVICES),
            Call("create", resources.EVENTS),
            Call("patch", resources.EVENTS),
        ],
    }
    if conf.KUBERNETES_RUNNER_PODS:
        namespace, _ = conf.KUBERNETES_RUNNER_PODS
        found["pods of runners"] = [Call(verb, resources.PODS, namespace) for verb in ("list", "watch", "get")]
        found["zones of Kubernetes nodes"] = _reading(resources.NODES)
    return found | ({"handles of Secrets": [Call("get", resources.SECRETS)]} if conf.KUBERNETES_SECRETS else {})


def _reading(resource: resources.Resource) -> list[Call]:
    return [Call("list", resource), Call("watch", resource)]


def _telling(resource: resources.Resource) -> list[Call]:
    return [Call("get", resource), Call("patch", resource, subresource="status")]


async def _refused(asked: dict[str, list[Call]]) -> dict[str, list[str]]:
    """Return {feature: calls that are not allowed}. Raises ApiError."""
    client = Client(access.choose(conf.KUBECONFIG))
    try:
        answers = {
            feature: [str(call) for call in calls if not await _is_allowed(client, call)]
            for feature, calls in asked.items()
        }
    finally:
        await client.close()
    return {feature: calls for feature, calls in answers.items() if calls}


async def _is_allowed(client: Client, call: Call) -> bool:
    attributes = {"verb": call.verb, "group": call.resource.group, "resource": call.resource.plural}
    more = {"subresource": call.subresource} if call.subresource else {}
    more |= {"namespace": call.namespace} if call.namespace else {}
    body = {"apiVersion": REVIEWS.api_version, "kind": "SelfSubjectAccessReview"}
    answer = await client.create(REVIEWS, "", body | {"spec": {"resourceAttributes": attributes | more}})
    return bool(answer.get("status", {}).get("allowed"))
