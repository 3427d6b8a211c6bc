"""TLS towards servers whose certificates nobody can verify. Without Django: health checks import it."""

import ssl


def unverified() -> ssl.SSLContext:
    """Return a context for a server that signs its certificate itself, as agents and cluster agents do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
