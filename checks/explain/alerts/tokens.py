"""Alerts about tokens and certificates: runners that refuse our token or are sent none, a token of all names, what ends soon."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Count, Min, OuterRef, Subquery
from django.db.models.functions import Coalesce

from checks.explain.alerts.kinds import NAMED, Alert, Kind, Target, named, some
from checks.models import ClusterStore
from clusteragent.lib import certificates, conf
from clusteragent.lib.files import CredentialsError
from clusteragent.lib.words import duration, listed
from nodes.models import Node, NodeEvent, NodeToken, Runner, SharedTokenUse


def of_tokens(now: datetime) -> Iterator[Alert]:
    """Runners that refuse our token, and a token that opens all names beside those that open some."""
    refusing = Runner.objects.refusing()
    if count := refusing.count():
        names, them = named(Node.objects.filter(runner__in=refusing), count), "it" if count == 1 else "them"
        cause = (
            f"{names} up, but {'refuses' if count == 1 else 'refuse'} our token when asked for stats, or we have none for {them},"
            " so load is estimated and failing checks are not noticed there. A runner accepts only the token that it has: see"
            " CLUSTERAGENT_RUNNER_TOKENS."
        )
        since = refusing.aggregate(since=Min("failing_since"))["since"]
        yield Alert(Kind.TOKEN_REFUSED, count, cause, Target.rows(Node), now, since)
    since = NodeToken.objects.valid().aggregate(since=Min("time"))["since"]
    if since and conf.SHARED_TOKEN_OPENS:
        still = SharedTokenUse.objects.lately().count()
        cause = (
            f"There are node tokens, and a thief of the shared one can be any node. {SharedTokenUse.objects.sentence()}"
        )
        yield Alert(Kind.SHARED_TOKEN, max(still, 1), cause, Target.rows(Node), now, since)


def of_ending_tokens(now: datetime) -> Iterator[Alert]:
    """Node tokens that are in use and end soon: their whole pools are refused then."""
    if not (found := NodeToken.objects.ending(now)):
        return
    first, count = found[0], len(found)
    assert first.expires_at is not None
    whose = listed([row.note for row in found], NAMED)
    which = (
        f"The node token of {whose} is in use and ends"
        if count == 1
        else f"Node tokens of {whose} are in use and end, the first"
    )
    cause = (
        f"{which} in {duration(first.expires_at - now)}: agents that show it get 403 then. Give them another before."
    )
    yield Alert(Kind.TOKEN_ENDS, count, cause, Target.rows(Node), now)


def of_runners_certificates(now: datetime) -> Iterator[Alert]:
    """Runners that show another certificate than the one that is kept of them."""
    runners = Runner.objects.showing_another().select_related("node").order_by("node__name")
    found = list(runners[:NAMED])
    if not found:
        return
    # It may have failed before, for another reason.
    noted = NodeEvent.objects.filter(kind=NodeEvent.Kind.CERTIFICATE, node_name=OuterRef("node__name")).order_by(
        "-time"
    )
    dated = runners.annotate(noted=Coalesce(Subquery(noted.values("time")[:1]), "failing_since"))
    count, since = dated.aggregate(count=Count("pk"), since=Min("noted")).values()
    is_one = count == 1
    shows, they = (
        ("shows another certificate than the one that it began with", "it is")
        if is_one
        else ("show other certificates than those that they began with", "they are")
    )
    names = some(runners.values_list("node__name", flat=True)[: NAMED + 1])
    cause = (
        f"{names} {shows}, so {they} sent no token and asked for no stats: load is estimated, and failing checks are not noticed"
        " there. Find out who answers there; if it is the node agent, accept its certificate on the node's page."
    )
    target = Target.row(found[0].node) if is_one else Target.rows(Node)
    parts = [] if is_one else [(runner.node.name, Target.row(runner.node)) for runner in found]
    yield Alert(Kind.RUNNER_CERTIFICATE, count, cause, target, now, since, parts=parts)


def of_the_certificate(now: datetime) -> Iterator[Alert]:
    """The certificate of this replica's web servers, where it ends soon or its files can't be used. Others may have another."""
    if not (pair := certificates.served()):
        return
    try:
        found = certificates.read(pair).certificate
    except CredentialsError as error:
        cause = f"{conf.REPLICA}'s web servers go on with the certificate that they have, and could not start anew: {error}."
        yield Alert(Kind.CERTIFICATE, 1, cause, Target.rows(ClusterStore), now)
        return
    if certificates.ends_soon(found, now):
        left = found.not_valid_after_utc - now
        ends = f"ends in {duration(left)}" if left > timedelta(0) else f"ended {duration(-left)} ago"
        cause = f"The certificate of {conf.REPLICA}'s web servers, {pair.certificate}, {ends}: who verifies it refuses it then."
        yield Alert(Kind.CERTIFICATE, 1, cause, Target.rows(ClusterStore), now)
