"""Node tokens: each opens the agents' port for the nodes of a pool."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import connection, models
from django.db.models import Case, Q, Value, When
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clients import Address
from clusteragent.lib.clock import ago
from clusteragent.lib.database import bulk
from clusteragent.lib.database.arrays import array
from clusteragent.lib.patterns import fits
from clusteragent.lib.words import listed, plain_count, utc
from nodes.models.words import validate_words

# How a token looks: its beginning, by which people tell tokens apart, and 224 bits more that only its node agents know.
SHAPE = re.compile(r"nt-[0-9a-f]{64}")
FORM = "nt- and 64 digits of 0-9 and a-f, as of: echo nt-$(openssl rand -hex 32)"
KEY = 11
# A process keeps all of them in its memory.
MOST_TOKENS = 1000
# The use of a token is written again after this time.
USED_AGAIN = timedelta(minutes=1)
# Who showed the shared token in this time uses it still. Agents report each ten seconds.
LATELY = timedelta(minutes=5)
# A token that is used should be replaced this long before it ends, or in the last part of its time, if that is less.
SOON, PART = timedelta(days=7), 6
# Names that are kept of those for which the shared token was shown, and for how long.
MOST_USES, USES_KEPT = 100_000, timedelta(days=1)


def digest(token: str) -> bytes:
    """The hash by which a token is kept and found. A token can't be guessed, so a fast one does."""
    return hashlib.sha256(token.encode()).digest()


def validate_networks(text: str) -> None:
    """Ranges of addresses with commas between, as 10.1.0.0/16, fd00::/8."""
    try:
        found = _networks(text)
    except ValueError as error:
        raise ValidationError(f"{error}: give ranges such as 10.1.0.0/16, fd00::/8") from None
    for network in found:
        # Addresses are compared as IPv4 then, so it would cover none.
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
            raise ValidationError(f"{network} is of IPv4: give it as such, as 10.1.0.0/16")


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(word.strip(), strict=False) for word in text.split(",")) if text else ()


class Pool(NamedTuple):
    """What a token opens, as a process remembers it."""

    id: int
    note: str
    pattern: str
    kubernetes_pattern: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    has_ended: bool

    def is_for(self, address: Address | None) -> bool:
        """Whether the token may be shown from this address."""
        return not self.networks or (address is not None and any(address in network for network in self.networks))

    def has_node(self, name: str) -> bool:
        """Whether the token opens what belongs to the node of that name."""
        return fits(name, self.pattern)

    def has_kubernetes_node(self, name: str) -> bool:
        """Whether the token opens the endpoint checks of the Kubernetes node of that name."""
        return bool(self.kubernetes_pattern) and fits(name, self.kubernetes_pattern)


class NodeTokenQuerySet(models.QuerySet["NodeToken"]):
    def valid(self) -> NodeTokenQuerySet:
        """Tokens that have not ended, by the database's clock."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()))

    def ending(self, now: datetime) -> list[NodeToken]:
        """Tokens that end within a week (or a sixth of their time, if that is less) and are in use, the first to end first."""
        found = self.filter(expires_at__gt=now, expires_at__lt=now + SOON, last_used_at__gte=now - LATELY)
        return [row for row in found.order_by("expires_at", "pk") if row.ends_soon(now)]

    def pools(self) -> dict[bytes, Pool]:
        """What each token opens: {its digest: pool}."""
        ended = Case(When(expires_at__lte=Now(), then=Value(True)), default=Value(False))
        columns = ("digest", "id", "note", "pattern", "kubernetes_pattern", "networks")
        return {
            bytes(digest): Pool(number, note, pattern, kubernetes_pattern, _networks(networks), has_ended)
            for digest, number, note, pattern, kubernetes_pattern, networks, has_ended in self.annotate(
                has_ended=ended
            ).values_list(*columns, "has_ended")
        }

    def note_use(self, digests: Collection[bytes]) -> None:
        """Write that these tokens were shown just now, unless that was written a minute ago or another process writes it."""
        values: list[Any] = [list(digests), USED_AGAIN]
        with connection.cursor() as cursor:
            # Not the ORM, which locks only in a transaction: a call must not wait for somebody who changes a token.
            cursor.execute(
                "UPDATE nodes_nodetoken SET last_used_at = statement_timestamp() WHERE id IN ("
                "SELECT id FROM nodes_nodetoken WHERE digest = ANY(%s)"
                " AND (last_used_at IS NULL OR last_used_at < statement_timestamp() - %s)"
                " FOR NO KEY UPDATE SKIP LOCKED)",
                values,
            )


class NodeToken(models.Model):
    """A token of the node agents of a pool. Only its hash is kept."""

    key = models.CharField("begins with", max_length=KEY, unique=True, editable=False)
    digest = models.BinaryField(unique=True, editable=False)
    note = models.CharField(
        max_length=100, validators=[validate_words], help_text="Whose it is. Who is refused reads it: runners in zone b"
    )
    pattern = models.CharField(
        "nodes",
        max_length=253,
        validators=[validate_words],
        help_text="The names that it opens, with * and ?: runner-*",
    )
    kubernetes_pattern = models.CharField(
        "Kubernetes nodes",
        max_length=253,
        blank=True,
        validators=[validate_words],
        help_text="Those whose endpoint checks it opens, with * and ?. Empty: none.",
    )
    networks = models.CharField(
        max_length=500,
        blank=True,
        validators=[validate_networks],
        help_text="Where it may be shown from: 10.1.0.0/16, fd00::/8. Empty: everywhere.",
    )
    expires_at = models.DateTimeField("ends", null=True, blank=True, help_text="In UTC. Empty: never.")
    author = models.CharField("made by", max_length=253, blank=True, editable=False)
    time = models.DateTimeField("made", db_default=Now(), editable=False)
    last_used_at = models.DateTimeField("last used", null=True, editable=False)

    objects = NodeTokenQuerySet.as_manager()

    # The runners that a token which was just made cuts off: they tell stats by the shared one.
    without_stats: Sequence[str] = ()

    class Meta:
        ordering = ["note", "id"]
        default_permissions = ("add", "delete", "view")

    def __str__(self) -> str:
        return f"{self.key}… of {self.note}"

    def ends_soon(self, now: datetime) -> bool:
        """Whether agents should have another one: of a token for a day that is news in its last hours alone."""
        return self.expires_at is not None and self.expires_at - now < min(SOON, (self.expires_at - self.time) / PART)

    def described(self) -> str:
        """Whose it is and what it opens, for people."""
        return f"{self.note}: {self.opened()}"

    def opened(self) -> str:
        """What it opens, from where and until when, for people."""
        parts = [f"nodes {self.pattern}"]
        parts += [f"endpoint checks of {self.kubernetes_pattern}"] if self.kubernetes_pattern else []
        parts += [f"from {self.networks}"] if self.networks else []
        parts += [f"until {utc(self.expires_at)}"] if self.expires_at else []
        return ", ".join(parts)

    def draw(self) -> str:
        """Give this row a token that nobody knows yet, and return it: it is not kept."""
        token = f"nt-{secrets.token_hex(32)}"
        self.take(token)
        return token

    def take(self, token: str) -> None:
        """Give this row a token that somebody made. Raises ValidationError, which doesn't quote it, for one of another form."""
        if not SHAPE.fullmatch(token):
            raise ValidationError(f"A token is {FORM}; one of {len(token)} characters is something else.")
        self.key, self.digest = token[:KEY], digest(token)

    def told(self) -> dict[str, Any]:
        """What is known of it, as JSON data, without the hash."""
        names = ("key", "note", "pattern", "kubernetes_pattern", "networks")
        ends = self.expires_at.astimezone(UTC).isoformat(timespec="seconds") if self.expires_at else None
        return {name: getattr(self, name) for name in names} | {"expires": ends}


class SharedTokenUseQuerySet(models.QuerySet["SharedTokenUse"]):
    def note(self, addresses: Mapping[str, str | None]) -> None:
        """Write that the shared token was shown for these names just now, {name: from where}, if there are node tokens."""
        values: list[Any] = [array(addresses), array(addresses.values()), MOST_USES, USED_AGAIN / 2]
        with connection.cursor() as cursor:
            # Not the ORM, whose upsert can't leave alone what another process has just written. In the order of names, so that
            # two of these wait for each other in one direction.
            cursor.execute(
                "INSERT INTO nodes_sharedtokenuse AS u (name, address, last_used_at)"
                " SELECT t.name, t.address, statement_timestamp() FROM unnest(%s::text[], %s::inet[]) AS t (name, address)"
                " WHERE EXISTS (SELECT FROM nodes_nodetoken) AND ((SELECT count(*) FROM nodes_sharedtokenuse) < %s"
                " OR EXISTS (SELECT FROM nodes_sharedtokenuse AS k WHERE k.name = t.name))"
                " ORDER BY t.name ON CONFLICT (name) DO UPDATE"
                " SET address = excluded.address, last_used_at = excluded.last_used_at"
                " WHERE u.last_used_at < statement_timestamp() - %s",
                values,
            )

    def lately(self) -> SharedTokenUseQuerySet:
        """Names whose node agents use the shared token still."""
        return self.filter(last_used_at__gte=ago(LATELY))

    def prune(self, most: float) -> int:
        """Delete what is older than a day. Returns how many."""
        return bulk.delete(self.filter(last_used_at__lt=ago(USES_KEPT)).order_by("last_used_at"), most=most)

    def sentence(self) -> str:
        """What the shared token opens, and who uses it, for people."""
        if not conf.SHARED_TOKEN_OPENS:
            return "The shared token is switched off (CLUSTERAGENT_SHARED_TOKEN)."
        if not NodeToken.objects.filter(time__lt=ago(LATELY)).exists():
            return (
                "The shared token opens all names. Who uses it is known five minutes after there is a first node token."
            )
        last = self.order_by("-last_used_at", "name").first()
        if last is None:
            return "The shared token opens all names. Nobody uses it: set CLUSTERAGENT_SHARED_TOKEN=off."
        used = f"Last used {utc(last.last_used_at)} for {last.name} from {last.address or 'nowhere'}."
        names = list(self.lately().order_by("name").values_list("name", flat=True))
        if not names:
            return f"The shared token opens all names. {used} Nobody uses it now: set CLUSTERAGENT_SHARED_TOKEN=off."
        still = f"{plain_count(len(names), 'name')} in the last five minutes: {listed(names)}"
        return f"The shared token opens all names. {used} It was used for {still}."


class SharedTokenUse(models.Model):
    """When the shared token was shown last for a name: of a node, or of a Kubernetes node for its endpoint checks."""

    name = models.CharField(max_length=253, primary_key=True)
    address = models.GenericIPAddressField(null=True)
    last_used_at = models.DateTimeField(db_default=Now())

    objects = SharedTokenUseQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name

    def told(self) -> dict[str, Any]:
        """What is known of it, as JSON data."""
        return {"name": self.name, "address": self.address, "last_used": self.last_used_at}
