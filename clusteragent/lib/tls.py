"""TLS towards servers whose certificates nobody can verify. Without Django: health checks import it."""

import ssl
from collections.abc import Callable


def unverified() -> ssl.SSLContext:
    """Return a context for a server that signs its certificate itself, as agents and cluster agents do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def looking(look: Callable[[bytes | None], None]) -> ssl.SSLContext:
    """Return a context as `unverified`, for which look() is called with the server's certificate (in DER) once the handshake is
    over and has proven that the server has its key. If it raises, nothing is sent on that connection.
    """

    class Looking(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            look(self.getpeercert(binary_form=True))

    context = unverified()
    context.sslobject_class = Looking
    return context
