"""Do all replicas have the same secrets? The leader's fingerprints are in the database, and every other compares its own.

Replicas with different tokens refuse each other's node agents; with different secret keys, each other's log-ins.
"""

import hashlib

from checks.models import ClusterStore
from clusteragent.lib import conf


def ours() -> dict[str, str]:
    """{secret's name: fingerprint} of this process. A token has at least 32 characters, so its hash tells nothing of it."""
    secrets = {
        "the node agents' token": conf.AUTH_TOKEN,
        "the local token": conf.LOCAL_TOKEN,
        "the secret key": conf.SECRET_KEY,
    }
    return {name: hashlib.sha256(f"{name}\0{secret}".encode()).hexdigest()[:16] for name, secret in secrets.items()}


def publish(term: int) -> None:
    """Make ours those that others compare with, as long as we lead."""
    ClusterStore.objects.filter(term=term).update(fingerprints=ours())


def differing() -> list[str]:
    """The names of our secrets that are not the leader's."""
    leaders = ClusterStore.objects.get().fingerprints
    return [name for name, fingerprint in ours().items() if leaders.get(name, fingerprint) != fingerprint]
