"""Defaults that are easy to begin with and weaker than they could be: `clusteragent doctor` names those that are still on."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from knox.models import AuthToken

from clusteragent.lib import certificates, conf, credentials
from nodes.models import NodeToken, Runner


class Weakness(NamedTuple):
    """A weak default. holds: whether it is on; with `needs_database` it asks that. text: what it means. remedy: what to do."""

    name: str
    holds: Callable[[], bool]
    text: str
    remedy: str
    needs_database: bool = False


def _one_token_for_all() -> bool:
    return conf.SHARED_TOKEN_OPENS and not NodeToken.objects.valid().exists()


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
        "runners' token", lambda: conf.SHARED_TOKEN_OPENS and not conf.RUNNER_TOKENS and Runner.objects.exists(),
        "Whoever is taken for a runner is sent the token that opens all names.",
        "Set CLUSTERAGENT_RUNNER_TOKENS to the node tokens of runners.", needs_database=True,
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
        "environment", lambda: not conf.AD_ALLOWED_ENV_VARS,
        "Config files may read all variables of the leader's environment but this program's own secrets.",
        "Name those that they need in DD_AD_ALLOWED_ENV_VARS.",
    ),
    Weakness(
        "first password", lambda: (conf.VAR / credentials.ADMIN_PASSWORD).exists(),
        "The password that the first operator was made with lies in a file.",
        f"Change it in the admin, then remove {credentials.ADMIN_PASSWORD}.",
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
        "access log", lambda: not conf.ACCESS_LOG, "Which address called the agents' port is not on record.",
        "Set CLUSTERAGENT_ACCESS_LOG=true where a line for each call is worth it.",
    ),
    Weakness(
        "embedded database", lambda: not conf.DATABASE_URL, "The embedded PostgreSQL is of this machine alone, and for a trial.",
        "Set DATABASE_URL.",
    ),
)  # fmt: skip


def found(*, with_database: bool) -> list[Weakness]:
    """Return the weak defaults that are on; without those that only the database knows, unless it can be asked."""
    return [one for one in WEAKNESSES if (with_database or not one.needs_database) and one.holds()]
