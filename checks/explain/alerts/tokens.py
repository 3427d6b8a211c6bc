"""Alerts about tokens: runners that refuse ours, and the token that opens all names."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Min

from checks.explain.alerts.kinds import Alert, Kind, Target, named
from clusteragent.lib import conf
from nodes.models import Node, NodeToken, Runner, SharedTokenUse


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
