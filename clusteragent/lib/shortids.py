"""Short IDs: shown in place of digests and check IDs to people who may not see secrets.

Digests and check IDs are fast hashes of configs, passwords included: whoever knows the rest of a config can find its password
by a dictionary attack within a second. A short ID is a hash that is keyed with the server's secret key. It names the same
thing and reveals nothing of it.
"""

import hashlib
import re
from functools import lru_cache

from django.conf import settings

from clusteragent.lib.scrub import scrub

# No hexadecimal digest begins with this letter.
_FIRST = "k"
MOST_IN_A_NAME = 600
_SALT = "clusteragent.shortids"
_IS_SHORT = re.compile(r"k[0-9a-f]{12}").fullmatch


def short_id(exact: str) -> str:
    """Return the short ID of a digest or a check ID; empty for an empty text."""
    return _FIRST + keyed(exact)[:12] if exact else ""


def displayed_name(check_id: str) -> str:
    """Return the names of check and instance in a check ID, scrubbed, and at most MOST_IN_A_NAME characters long."""
    return scrub(check_id.rpartition(":")[0])[:MOST_IN_A_NAME]


def displayed_check_id(check_id: str, shown_name: str, *, exact: bool = False) -> str:
    """Return a check ID as people see it: `shown_name`, and the exact hash if they may see it, else the short ID."""
    last = check_id.rpartition(":")[2] if exact else short_id(check_id)
    # Scrubbed again, since an older version may have made the copy. Without a copy only the check's name is shown.
    return f"{scrub(shown_name) or scrub(check_id.partition(':')[0])}:{last}"


def short_id_in(word: str) -> str:
    """Return the short ID that is the word, or its end after the last colon (a displayed check ID); empty if there is none."""
    last = word.rpartition(":")[2]
    return last if _IS_SHORT(last) else ""


def keyed(text: str) -> str:
    """Return a hash of the text that only holders of the secret key can compute."""
    # Keyed BLAKE2, not HMAC: a scan makes two short IDs of each config, and OpenSSL's HMAC takes ten times as long.
    return hashlib.blake2b(text.encode(), key=_key(settings.SECRET_KEY), digest_size=16).hexdigest()


def fingerprint() -> str:
    """Return a name of the secret key that short IDs are made with."""
    return keyed("")[:8]


@lru_cache(2)
def _key(secret: str) -> bytes:
    return hashlib.sha256(f"{_SALT}\0{secret}".encode()).digest()
