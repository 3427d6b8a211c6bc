"""Who may try a password now.

Failures are counted before a password is checked. So many tries at once count like tries one after the other, and a locked-out
client costs no hashing. Nobody can lock everybody out: a browser that logged in before has a count of its own, and a name that
is tried from everywhere still has one try from each network.
"""

import secrets
from collections.abc import Mapping
from typing import Any, Self

import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import salted_hmac

from acts.models import Act
from acts.recording import record
from clusteragent.lib import clients
from clusteragent.lib.logs import RateLimit
from clusteragent.lib.words import escape_controls
from operators import hashing
from operators.models import Count, FailedLogins

# The most failures within WINDOW: for a name from one network, for a network, for a name from everywhere, for a known browser.
MOST_OF_PAIR = 10
MOST_OF_NETWORK = 50
MOST_OF_NAME = 100
MOST_OF_DEVICE = 10
# The tries that a name still has from each network while it is tried from everywhere.
MOST_OF_ATTACKED_PAIR = 1
# The failures that each process puts on record in an hour.
MOST_ON_RECORD = 100

DEVICE = f"{settings.COOKIE_PREFIX}device"
DEVICE_AGE = 90 * 86_400
_SALT = "operators.lockout"
_LONGEST_NAME = 64

log = structlog.get_logger()
_refusals = RateLimit(10)
_failures = RateLimit(MOST_ON_RECORD, seconds=3600)


class LockedOut(Exception):
    """Too many logins failed. retry_after: seconds."""

    status = 429

    def __init__(self, seconds: int) -> None:
        self.retry_after = seconds
        super().__init__(f"Too many logins failed. Try again in {-(-seconds // 60)} min.")


class Attempt:
    """A context for one check of a password; set `is_right` inside. Raises LockedOut at once after too many failures."""

    is_right = False

    def __init__(self, name: str, request: HttpRequest | None) -> None:
        self.name = escape_controls(name[:_LONGEST_NAME])
        client = clients.address(request.META) if request else None
        self.address = str(client or "nowhere")
        network = clients.network(client)
        self._device = _device(name, request)
        self._pair, self._of_name, self._of_network = _key(name, network), _key(name, "*"), _key("", network)
        objects = FailedLogins.objects
        counts = objects.counts([self._device, self._pair, self._of_name, self._of_network])
        if self._device and counts[self._device].number < MOST_OF_DEVICE:
            self._keys = [self._device]
            self._limits = {self._device: MOST_OF_DEVICE}
        else:
            self._keys = [self._pair, self._of_name, self._of_network]
            is_attacked = counts[self._of_name].number >= MOST_OF_NAME
            self._limits = {
                self._pair: MOST_OF_ATTACKED_PAIR if is_attacked else MOST_OF_PAIR,
                self._of_network: MOST_OF_NETWORK,
            }
        self._refuse(counts, spare=1)
        self._counts = objects.add(self._keys)
        try:
            # Count and check again: others may have tried at the same time.
            self._refuse(self._counts)
        except LockedOut:
            FailedLogins.objects.take_back(self._keys)
            raise

    def _refuse(self, counts: Mapping[bytes, Count], spare: int = 0) -> None:
        over = [counts[key].seconds for key, most in self._limits.items() if counts[key].number + spare > most]
        if over:
            more = _refusals.take()
            if more is not None:
                log.warning("login_refused", name=self.name, address=self.address, seconds=max(over), more=more)
            raise LockedOut(max(over))

    def __enter__(self) -> Self:
        self._before = hashing.slots.set(hashing.known if self._device in self._keys else hashing.strangers)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        hashing.slots.reset(self._before)
        if kind is None and not self.is_right:
            self._log_failure()
            return
        # The password was right, or it was not checked.
        FailedLogins.objects.take_back(self._keys)
        if self.is_right:
            FailedLogins.objects.forget([key for key in (self._device, self._pair) if key in self._keys])

    def _log_failure(self) -> None:
        log.warning("login_failed", name=self.name, address=self.address)
        # What was typed may be a password in the wrong field.
        is_known = get_user_model().objects.filter(username=self.name).exists()
        who = self.name if is_known else "no user's name"
        # One limit for all names: another for those of users would tell by the time it takes which there are.
        more = _failures.take()
        if more is not None:
            record(Act.Verb.FAIL, who, after={"more": more} if more else None)
        names = {self._device: "browser", self._pair: "name from this address", self._of_network: "address"}
        for key, most in self._limits.items():
            number, seconds = self._counts[key]
            if number >= most:
                about = {"name": self.name, "address": self.address, "what": names[key], "seconds": seconds}
                log.warning("login_locked_out", **about)
                if most == MOST_OF_ATTACKED_PAIR:
                    continue  # a name that is tried from everywhere: not an act for each of their networks
                record(Act.Verb.LOCK_OUT, f"{names[key]}: {who}", after={"failures": number, "seconds": seconds})


def remember(response: HttpResponse, user: Any) -> None:
    """Set the cookie by which a browser is known after a successful login."""
    value = signing.dumps([_key(user.get_username(), "device").hex(), secrets.token_hex(8)], salt=_SALT)
    response.set_cookie(
        DEVICE, value, max_age=DEVICE_AGE, secure=settings.SECURE_COOKIES, httponly=True, samesite="Lax"
    )


def _device(name: str, request: HttpRequest | None) -> bytes:
    """The key of the browser, if this name logged in with it before; else empty."""
    try:
        owner, number = signing.loads(
            request.COOKIES.get(DEVICE, "") if request else "", salt=_SALT, max_age=DEVICE_AGE
        )
    except (signing.BadSignature, ValueError, TypeError):
        return b""
    return _key("", f"device {number}") if owner == _key(name, "device").hex() else b""


def _key(name: str, where: str) -> bytes:
    """A short key of fixed length that reveals no name."""
    return salted_hmac(_SALT, f"{len(name)} {name} {where}", algorithm="sha256").digest()[:16]
