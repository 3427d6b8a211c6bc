"""The webhook: a message to the URL CLUSTERAGENT_WEBHOOK when an alert begins or ends."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from checks import tasks
from checks.explain import alerts
from checks.models import ClusterStore
from clusteragent.lib import conf
from clusteragent.lib.version import USER_AGENT
from clusteragent.models import Announcement
from operators.admin.base import told

# Seconds that connecting may take, and each wait for data.
TIMEOUT = 5
# The pause between attempts doubles after each failure.
FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(minutes=10)
# The most lines of the message's text.
MOST_LINES = 10

Told = Mapping[str, Mapping[str, Any]]

log = structlog.get_logger()


def announce(term: int) -> str:
    """A task: send the changes of alerts since the last message, or try the pending message again. Returns what it did."""
    return tasks.run("announce", term, _announce)


def _announce(term: int) -> str:
    ClusterStore.objects.require(term)
    if not conf.WEBHOOK:
        return "no webhook"
    message = due(alerts.current())
    if message is None:
        return "nothing to tell"
    problem = _post(message)
    if problem:
        log.warning("webhook_failed", number=message["number"], error=problem)
        return f"message {message['number']} failed"
    arrived(message["number"])
    return f"message {message['number']} told"


@transaction.atomic
def due(found: list[alerts.Alert]) -> dict[str, Any] | None:
    """Return the message to send now: the pending one, else a new one if alerts changed; None if there is nothing to send now.

    Message and attempt are stored before the message is sent, so the next leader sends the same one, and not too early. The
    row is locked: two processes that both lead for a moment must not give two messages the same number.
    """
    Announcement.objects.get_or_create(pk=1)
    row: Any = Announcement.objects.select_for_update(no_key=True).annotate(now=Now()).get()
    if row.pending is None:
        _compose(row, {alert.key: told(alert) for alert in found})
    if row.pending is None or (row.next_attempt and row.next_attempt > row.now):
        return None
    row.next_attempt = row.now + min(FIRST_PAUSE * 2 ** min(row.attempts, 10), LONGEST_PAUSE)
    row.attempts += 1
    row.save()
    return dict(row.pending)


def arrived(number: int) -> None:
    """Note that the message of this number was accepted. Does nothing when another leader noted it already."""
    pending = Announcement.objects.filter(number=number, pending__isnull=False)
    pending.update(told=F("then_told"), pending=None, then_told=None, attempts=0, next_attempt=None)


def _compose(row: Announcement, now: Told) -> None:
    """Make a pending message of the difference between `now` and what was told before, if there is one."""
    new = [one for key, one in now.items() if key not in row.told]
    over = [one for key, one in row.told.items() if key not in now]
    if new or over:
        row.number += 1
        row.then_told = now
        row.pending = {
            "number": row.number,
            "cluster": conf.CLUSTER_NAME,
            "text": _text(new, over),
            "new": new,
            "over": over,
            "needs_you": len(now),
        }


def _text(new: list[Any], over: list[Any]) -> str:
    """Return the message as text for people: chat programs show the field `text`."""
    lines = [
        f"{word} ({one['kind']}, {one['count']}): {one['cause']}"
        for word, ones in (("New", new), ("Over", over))
        for one in ones
    ]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"… and {len(lines) - MOST_LINES} more"]
    return "\n".join((f"Cluster agent {conf.CLUSTER_NAME}".strip(), *lines))


def _post(message: Mapping[str, Any]) -> str:
    """Send the message. Returns why it failed, without the secret URL, or an empty text. The answer's body is not read."""
    # The public certificate authorities, and those of this machine.
    trusted = httpx.create_ssl_context()
    trusted.load_default_certs()
    try:
        with (
            httpx.Client(trust_env=False, timeout=TIMEOUT, verify=trusted) as client,
            client.stream("POST", conf.WEBHOOK, json=message, headers={"User-Agent": USER_AGENT}) as response,
        ):
            return "" if response.is_success else f"it answered {response.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__
