"""Short IDs: what people who may not see secrets see in place of digests and check IDs.

Digests and check IDs are fast hashes of what configs say, passwords included: whoever knows the rest of a config tries a
dictionary in a second. A short ID is keyed with the server's secret key, so it names the same thing and tells nothing of it.
"""

import hashlib
import re
from functools import lru_cache

from django.conf import settings

from clusteragent.lib.scrub import scrub

# What no hexadecimal digest begins with.
_FIRST = "k"
MOST_IN_A_NAME = 600
_SALT = "clusteragent.shortids"
_IS_SHORT = re.compile(r"k[0-9a-f]{12}").fullmatch


def short_id(exact: str) -> str:
    """The short ID of a digest or a check ID; nothing of nothing."""
    return _FIRST + _keyed(exact, settings.SECRET_KEY)[:12] if exact else ""


def named_in(check_id: str) -> str:
    """The check and the instance's name in a check ID, without their secrets, and not too long to be shown."""
    return scrub(check_id.rpartition(":")[0])[:MOST_IN_A_NAME]


def told_check_id(check_id: str, shown_name: str, *, exact: bool = False) -> str:
    """A check ID as people see it: its name as it is shown, and its hash where they may see it, else a short ID."""
    last = check_id.rpartition(":")[2] if exact else short_id(check_id)
    # Scrubbed again, since an older version may have made the copy; without one nothing but the check is told.
    return f"{scrub(shown_name) or scrub(check_id.partition(':')[0])}:{last}"


def short_in(word: str) -> str:
    """The short ID that a word is, or that a check ID ends in as it is shown; nothing where there is none."""
    last = word.rpartition(":")[2]
    return last if _IS_SHORT(last) else ""


def keyed(text: str) -> str:
    """A hash of a text that only holders of the secret key can work out."""
    return _keyed(text, settings.SECRET_KEY)


def fingerprint() -> str:
    """Names the secret key that short IDs are made with."""
    return _keyed("", settings.SECRET_KEY)[:8]


def _keyed(text: str, secret: str) -> str:
    # Keyed BLAKE2 and no HMAC: a scan makes two short IDs of each config, and OpenSSL takes ten times as long for one.
    return hashlib.blake2b(text.encode(), key=_key(secret), digest_size=16).hexdigest()


@lru_cache(2)
def _key(secret: str) -> bytes:
    return hashlib.sha256(f"{_SALT}\0{secret}".encode()).digest()
