"""What is kept or sent encrypted, by keys that are made of the secret key."""

import base64

from cryptography.fernet import Fernet
from django.utils.crypto import salted_hmac

from clusteragent.lib import conf


def cipher(of: str, value: str) -> Fernet:
    """The cipher of one use, and of one value in it. With another secret key it opens nothing of before."""
    key = salted_hmac(of, value, secret=conf.SECRET_KEY, algorithm="sha256").digest()
    return Fernet(base64.urlsafe_b64encode(key))
