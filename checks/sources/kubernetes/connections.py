"""Connections to the API server, as an access says."""

import os
import socket
import ssl

import httpx

from checks.sources.kubernetes.access import Channel
from checks.sources.kubernetes.errors import BadAccess
from clusteragent.lib.version import USER_AGENT

# Seconds until there is a connection.
CONNECT = 5.0
# A peer that vanished without a word is noticed after 15 + 3 * 5 s.
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "application/json",
    # The first events of a compressed watch come in several gzip members, of which httpx reads only the first.
    "Accept-Encoding": "identity",
}


def connect(channel: Channel) -> httpx.AsyncClient:
    """Return an HTTP client for the channel, without deadlines but for connecting. Raises BadAccess."""
    transport = httpx.AsyncHTTPTransport(
        verify=_tls(channel), proxy=channel.proxy or None, trust_env=False, socket_options=_KEEPALIVE
    )
    return httpx.AsyncClient(
        transport=transport,
        base_url=channel.server,
        headers=_HEADERS,
        timeout=httpx.Timeout(None, connect=CONNECT),
        follow_redirects=False,
        trust_env=False,
    )


def _tls(channel: Channel) -> ssl.SSLContext:
    """A context that trusts what kubectl would trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Each certificate of the authority counts, whether it signed itself or not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not channel.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif channel.ca:
        _trust(context, channel)
    else:
        context.load_default_certs()
    if channel.certificate:
        _show(context, channel)
    return context


def _trust(context: ssl.SSLContext, channel: Channel) -> None:
    try:
        context.load_verify_locations(cadata=channel.ca.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise BadAccess(f"the certificate authority of {channel.server}: no certificates in PEM") from None


def _show(context: ssl.SSLContext, channel: Channel) -> None:
    """Load the client's certificate. The library wants a file, so it gets one that is only in memory."""
    file = os.memfd_create("client-certificate")
    try:
        with os.fdopen(os.dup(file), "wb") as output:
            output.write(channel.certificate + b"\n" + channel.key)
        # Without a password the library would ask for one on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{file}", password=lambda: "")
    except (ssl.SSLError, OSError):
        raise BadAccess(
            f"the client certificate for {channel.server}: certificate and key are no PEM, do not belong together,"
            " or the key has a password"
        ) from None
    finally:
        os.close(file)
