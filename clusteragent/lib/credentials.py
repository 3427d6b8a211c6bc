"""Tokens, keys and a certificate: made at the first start, in files that only their owner can read.

A file that exists is never changed, so operators may replace each by their own; only a certificate that our authority signed is
renewed. Two starts at the same time use the same secrets: a file appears complete, and the first writer wins.
"""

import secrets
from collections.abc import Collection
from pathlib import Path

from clusteragent.lib import certificates, files
from clusteragent.lib.files import CredentialsError as CredentialsError

NODE_AGENTS_TOKEN = "cluster_agent.auth_token"  # noqa: S105
LOCAL_TOKEN = "auth_token"  # noqa: S105
SECRET_KEY = "secret_key"  # noqa: S105
ADMIN_PASSWORD = "admin_password"  # noqa: S105
# What all replicas must have in common.
SHARED = NODE_AGENTS_TOKEN, LOCAL_TOKEN, SECRET_KEY
_SECRETS = *SHARED, ADMIN_PASSWORD


def make_missing(
    folder: Path,
    *,
    given: Collection[str] = (),
    names: Collection[str] = (),
    own: certificates.Pair | None = None,
) -> None:
    """Make the folder, the two tokens, the secret key and a certificate where they are missing.

    given: names of secrets that have a value already (in an option); no file is made for them. names: more names and addresses
    that the certificate is for. own: an operator's certificate elsewhere, with which none is made. Raises CredentialsError when
    something can't be written, or when the certificate can't be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # An earlier version or another tool may have made them with wider permissions. PostgreSQL, which may run as another
        # user, must be able to pass through the folder.
        files.restrict_access(folder, allowed=0o711)
        kept = (*_SECRETS, certificates.KEY, certificates.AUTHORITY_KEY)
        files.restrict_access(*(folder / name for name in kept))
        for name in set(SHARED).difference(given):
            files.make(folder / name, lambda: secrets.token_hex(32))
        if not own:
            certificates.make_missing(folder, names)
    except OSError as error:
        raise CredentialsError(f"{error.filename or folder} can't be made: {error.strerror}") from error
    certificates.read(own or certificates.Pair(folder / certificates.CERTIFICATE, folder / certificates.KEY))


def make_admin_password(folder: Path) -> str:
    """Return the password of the first operator from its file in the folder; make both if missing. Raises CredentialsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return files.make(folder / ADMIN_PASSWORD, lambda: secrets.token_urlsafe(18)).strip()
    except OSError as error:
        raise CredentialsError(f"{error.filename or folder} can't be made or read: {error.strerror}") from error
