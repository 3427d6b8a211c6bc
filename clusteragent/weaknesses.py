"""Defaults that are easy to begin with and weaker than they could be: `clusteragent doctor` names those that are still on."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

from django.contrib.auth.models import Group, User
from django.db.models import Q
from knox.models import AuthToken
from psycopg.conninfo import conninfo_to_dict

from acts.models import Act
from checks.models.bounds import STEERING, WRITING
from checks.sources import httpsd
from clusteragent.lib import certificates, conf, credentials
from clusteragent.lib.clock import ago
from clusteragent.lib.patterns import overlap
from clusteragent.upgrade import ADMIN
from nodes import tokens
from nodes.models import NodeToken, Runner
from operators import identities


class Weakness(NamedTuple):
    """A weak default. holds: whether it is on; with `needs_database` it asks that. text: what it means. remedy: what to do."""

    name: str
    holds: Callable[[], bool]
    text: str
    remedy: str
    needs_database: bool = False


def _one_token_for_all() -> bool:
    return conf.SHARED_TOKEN_OPENS and not NodeToken.objects.valid().exists()


def _pools_overlap() -> bool:
    """Whether two node tokens have some names in common, and others not. One of all names is a weakness of its own."""
    patterns = NodeToken.objects.valid().exclude(pattern="*").values_list("pattern", flat=True).distinct()
    return any(overlap(one, other) for one, other in combinations(patterns, 2))


def _first_password_holds() -> bool:
    """Whether the first operator logs in by the password that it was made with. Nobody knows where acts are gone already."""
    first = User.objects.filter(
        username=ADMIN, is_active=True, broken_glass=None, date_joined__gte=ago(conf.ACT_RETENTION)
    ).first()
    if first is None or not first.has_usable_password() or not identities.logs_in_by_password(first):
        return False
    return not Act.objects.filter(verb=Act.Verb.CHANGE, object=f"login of user {ADMIN}").exists()


def _discovers_in_clear() -> bool:
    try:
        return any(one.url.lower().startswith("http://") for one in httpsd.discoveries_of_options())
    except httpsd.InvalidDiscovery:
        return False  # the topic of options says so


def _steers_unbound() -> bool:
    """Whether an operators' token may steer or write all there is: neither it nor its user's role is bound."""
    changing = {name.partition(".")[2] for name in STEERING | WRITING}
    wide = Group.objects.filter(bound=None, permissions__codename__in=changing)
    return bool(AuthToken.objects.filter(Q(user__groups__in=wide) | Q(user__is_superuser=True), bound=None).exists())


def _sends_shared_token() -> bool:
    """Whether there is a runner that is sent the shared token."""
    sent = tokens.for_runners()
    return any(map(sent.has_shared, Runner.objects.values_list("node__name", flat=True)))


def _sends_anywhere() -> bool:
    """Whether runners are looked for in whole private ranges, as by default."""
    return {*conf.PRIVATE} <= {*map(str, conf.RUNNER_NETWORKS)} and Runner.objects.exists()


def _trusts_anybody() -> bool:
    return any(one.prefixlen == 0 for one in (*conf.TRUSTED_PROXIES, *conf.AGENT_PROXIES, *conf.LOGIN_PROXIES))


def _database_unverified() -> bool:
    """Whether the database is on another machine, and may be anybody's that answers there."""
    if not conf.DATABASE_URL:
        return False
    asked = conninfo_to_dict(conf.DATABASE_URL)
    host = str(asked.get("host") or asked.get("hostaddr") or "")
    is_here = not host or host.startswith("/") or host in ("localhost", "127.0.0.1", "::1")
    return not is_here and str(asked.get("sslmode", "")) not in ("verify-ca", "verify-full")


def _made_here() -> bool:
    """Whether the certificate is of our own authority. The topic of the certificate names one that signed itself."""
    return not certificates.own() and certificates.is_ours(conf.VAR)


# In the order of docs/security.md, which has a row for each.
WEAKNESSES: Sequence[Weakness] = (
    Weakness(
        "shared token", _one_token_for_all, "One token opens the configs of all node agents.",
        "Give each pool a node token: docs/howto/rotate-node-tokens.md.", needs_database=True,
    ),
    Weakness(
        "one address", lambda: conf.ONE_ADDRESS != "refuse",
        "Whoever has a node agent's token may report in a name that another address reports in.",
        "Where addresses are the agents' own, set CLUSTERAGENT_ONE_ADDRESS=refuse.",
    ),
    Weakness(
        "token of all names", lambda: NodeToken.objects.valid().filter(pattern="*").exists(),
        "A node token of the pattern * opens the configs of all node agents, as the shared one does.",
        "Make one for each pool, with a pattern of its names, and revoke it.", needs_database=True,
    ),
    Weakness(
        "overlapping pools", _pools_overlap, "Two pools have names in common: a thief of either token can be them.",
        "Give pools patterns that have no name in common, and revoke the former tokens.", needs_database=True,
    ),
    Weakness(
        "endless node tokens", lambda: NodeToken.objects.valid().filter(expires_at=None).exists(),
        "There are node tokens that never end.", "Make them with --until: docs/howto/rotate-node-tokens.md.",
        needs_database=True,
    ),
    Weakness(
        "runners' token", _sends_shared_token,
        "Whoever is taken for a runner whose name no node token opens is sent the one that opens all names.",
        "Give runners node tokens, and CLUSTERAGENT_RUNNER_TOKENS: docs/howto/rotate-node-tokens.md.", needs_database=True,
    ),
    Weakness(
        "runners' networks", _sends_anywhere, "Tokens are sent to runners in all private ranges.",
        "Set CLUSTERAGENT_RUNNER_NETWORKS to the runners' own.", needs_database=True,
    ),
    Weakness(
        "runners' certificates", lambda: not conf.RUNNER_CERTIFICATES_PINNED and Runner.objects.exists(),
        "Whoever takes over a runner's address, or stands in between, is sent its token.",
        "Set CLUSTERAGENT_RUNNER_CERTIFICATES=pinned: docs/howto/runners.md.", needs_database=True,
    ),
    Weakness(
        "certificate", _made_here,
        "The certificate was made here: agents that verify need to be given its authority.",
        "docs/howto/certificates.md says how.",
    ),
    Weakness(
        "authority's key", lambda: (conf.VAR / certificates.AUTHORITY_KEY).exists(),
        f"Whoever reads {certificates.AUTHORITY_KEY} here can sign certificates that agents trust.",
        "Keep it elsewhere: docs/howto/certificates.md.",
    ),
    Weakness(
        "environment", lambda: not (conf.AD_ALLOWED_ENV_VARS or conf.AD_DISABLE_ENV_VAR_RESOLUTION),
        "Config files may read all variables of the leader's environment but this program's own secrets.",
        "Name those that they need in DD_AD_ALLOWED_ENV_VARS.",
    ),
    Weakness(
        "first password", lambda: (conf.VAR / credentials.ADMIN_PASSWORD).exists(),
        "The password that the first operator was made with lies in a file.",
        f"Change it in the admin, then remove {credentials.ADMIN_PASSWORD}.",
    ),
    Weakness(
        "unchanged password", _first_password_holds,
        f"Nobody is on record as having changed the password of the first operator, {ADMIN}: whoever can read the file or Secret"
        " where it was made has it.", "Change it in the admin.", needs_database=True,
    ),
    Weakness(
        "passwords", lambda: not (conf.OIDC_ISSUER or conf.LOGIN_PROXIES),
        "A password alone opens the admin: there is no second factor.",
        "Let people log in by a provider that asks for one: docs/howto/single-sign-on.md.",
    ),
    Weakness(
        "unbound tokens", _steers_unbound, "There are operators' tokens that may change all checks, or all sources.",
        "Bind each to what it is for: createtoken --sources, --checks.", needs_database=True,
    ),
    Weakness(
        "endless tokens", lambda: AuthToken.objects.filter(expiry=None).exists(), "There are operators' tokens that never end.",
        "Replace them by some that do: docs/howto/rotate-secrets.md.", needs_database=True,
    ),
    Weakness(
        "public metrics", lambda: conf.METRICS_PUBLIC,
        "Who reaches the operators' port reads names of nodes, checks and sources.",
        "Give Prometheus a viewer's token, and set CLUSTERAGENT_METRICS_PUBLIC=false.",
    ),
    Weakness(
        "check IDs in metrics", lambda: conf.METRICS_CONFIGS_INFO,
        "A viewer's token reads check IDs from /metrics, which pages and API hide: a secret may be guessed by them.",
        "Set CLUSTERAGENT_METRICS_CONFIGS_INFO=false where nobody counts configs by them.",
    ),
    Weakness(
        "trusted ranges", _trusts_anybody, "Whoever calls is a trusted proxy.",
        "Name the proxies' own addresses in CLUSTERAGENT_TRUSTED_PROXIES, CLUSTERAGENT_AGENT_PROXIES and"
        " CLUSTERAGENT_LOGIN_PROXIES.",
    ),
    Weakness(
        "webhook in clear", lambda: conf.WEBHOOK.startswith("http://"), "Who reads the wire reads what is sent to the webhook.",
        "Set CLUSTERAGENT_WEBHOOK to an https:// URL.",
    ),
    Weakness(
        "discovery in clear", _discovers_in_clear,
        "Who can change what is on the wire has node agents call what it likes: targets are asked for by plain http.",
        "Name https:// URLs in DD_PROMETHEUS_HTTP_SD_CONFIGS.",
    ),
    Weakness(
        "access log", lambda: not conf.ACCESS_LOG, "Which address called the agents' port is not on record.",
        "Set CLUSTERAGENT_ACCESS_LOG=true where a line for each call is worth it.",
    ),
    Weakness(
        "embedded database", lambda: not conf.DATABASE_URL, "The embedded PostgreSQL is of this machine alone, and for a trial.",
        "Set DATABASE_URL.",
    ),
    Weakness(
        "database's name", _database_unverified, "Whoever answers at the database's address is taken for it.",
        "Add sslmode=verify-full to DATABASE_URL.",
    ),
)  # fmt: skip


def found(*, with_database: bool) -> list[Weakness]:
    """Return the weak defaults that are on; without those that only the database knows, unless it can be asked."""
    return [one for one in WEAKNESSES if (with_database or not one.needs_database) and one.holds()]
