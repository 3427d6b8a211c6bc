"""Compares the secrets of all replicas. The leader stores fingerprints of its secrets, and each replica compares its own.

Replicas with different tokens refuse each other's node agents; with different secret keys, each other's sessions.
"""

import hashlib

from checks.models import ClusterStore
from clusteragent.lib import conf


def ours() -> dict[str, str]:
    """{name: fingerprint} of the secrets that this process has. A token has at least 32 characters, so its hash does not
    reveal it.
    """
    secrets = {
        "the node agents' token": conf.AUTH_TOKEN,
        "the tokens for runners": " ".join(conf.RUNNER_TOKENS),
        "the local token": conf.LOCAL_TOKEN,
        "the secret key": conf.SECRET_KEY,
    }
    return {
        name: hashlib.sha256(f"{name}\0{secret}".encode()).hexdigest()[:16]
        for name, secret in secrets.items()
        if secret
    }


def publish(term: int) -> None:
    """Store our fingerprints for comparison, if `term` is still the leader's term."""
    ClusterStore.objects.filter(term=term).update(fingerprints=ours())


def differing() -> list[str]:
    """The names of our secrets that differ from the leader's."""
    leaders = ClusterStore.objects.get().fingerprints
    return [name for name, fingerprint in ours().items() if leaders.get(name, fingerprint) != fingerprint]
