"""Authentication on the agents' port: each route accepts some bearer tokens, and a node token only for names of its pool."""

import enum
import hmac
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection
from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated, PermissionDenied

from clusteragent.lib import clients, conf, database
from clusteragent.lib.database.batching import Batcher
from clusteragent.lib.logs import RateLimit
from clusteragent.lib.words import escape_controls
from nodes.models import NodeToken, SharedTokenUse
from nodes.models.tokens import MOST_USES, SHAPE, USED_AGAIN, Pool, digest
from nodes.names import validate_node_name

# In seconds: how long a process goes by the node tokens that it read, so a revoked one opens for so long at most; and the time
# between two times that it reads them, however many unknown ones it is shown.
HOLDS, PAUSE = 2.0, 0.02
# The longest part of a name that a refusal repeats.
_LONGEST_NAME = 253

log = structlog.get_logger()
# Log lines a minute about refused tokens.
_refusals = RateLimit(10)


class Names(enum.Enum):
    """What the name in a route's path is the name of."""

    NODE = enum.auto()
    KUBERNETES_NODE = enum.auto()


class KnownTokens:
    """The node tokens, as this process read them last."""

    def __init__(self) -> None:
        self._pools: dict[bytes, Pool] = {}
        self._read_at = float("-inf")
        # Digests of what was shown since the last time that they were read.
        self._shown: set[bytes] = set()
        self._reading = threading.Lock()
        self._batches: Batcher[bytes, Pool | None] = Batcher(self._look_up)

    def recall(self, shown: bytes) -> Pool | None:
        """What the token with this digest opens, if that is known already."""
        pool = self._pools.get(shown)
        if pool is None or time.monotonic() - self._read_at > HOLDS:
            return None
        self._shown.add(shown)
        return pool

    def find(self, shown: bytes) -> Pool | None:
        """What the token with this digest opens; None if there is none. Raises Away."""
        return database.ask(lambda: self._look_up([shown]))[0]

    async def find_promptly(self, shown: bytes) -> Pool | None:
        """The same, on the event loop."""
        return await self._batches.ask(shown)

    def _look_up(self, shown: Sequence[bytes]) -> list[Pool | None]:
        asked = time.monotonic()
        with self._reading:
            # Another thread may have read them since.
            if self._read_at < asked:
                # Whoever guesses waits, and costs the database no more than this.
                time.sleep(max(0.0, self._read_at + PAUSE - asked))
                began, used = time.monotonic(), self._shown | set(shown)
                self._pools = NodeToken.objects.pools()
                self._shown = set()
                if known := used & self._pools.keys():
                    NodeToken.objects.note_use(known)
                self._read_at = began
        return [self._pools.get(one) for one in shown]


class SharedUses:
    """The names for which the shared token was shown, as this process saw it. Written once a minute, while no call waits."""

    def __init__(self) -> None:
        # {name: what says from where}. An address is read when it is written: reading it takes longer than all else.
        self._seen: dict[str, Mapping[str, str]] = {}
        self._written_at = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "shared-token")

    def note(self, request: HttpRequest, name: str) -> None:
        """Note that a call for this name had the shared token."""
        seen, now = self._seen, time.monotonic()
        if len(seen) < MOST_USES:
            seen[name] = {key: request.META.get(key, "") for key in ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR")}
        if now - self._written_at >= USED_AGAIN.total_seconds():
            self._seen, self._written_at = {}, now
            self._thread.submit(self._write, seen)

    def _write(self, seen: Mapping[str, Mapping[str, str]]) -> None:
        addresses = {name: clients.address(meta) for name, meta in seen.items() if _is_name(name)}
        told = {name: str(address) if address else None for name, address in addresses.items()}
        try:
            database.ask_aside(lambda: SharedTokenUse.objects.note(told))
        except (database.Away, DatabaseError) as error:
            # Agents show it again within seconds.
            log.info("shared_token_use_not_written", error=" ".join(str(error).split()))
        finally:
            # Not one more session of this process between two minutes.
            connection.close()


def _is_name(text: str) -> bool:
    try:
        validate_node_name(text)
    except ValidationError:
        return False
    return True


_known = KnownTokens()
_shared_uses = SharedUses()


class BearerToken:
    """`Authorization: Bearer <token>`, with the protocol's errors."""

    def __init__(self, *tokens: Callable[[], str], of_nodes: bool = False) -> None:
        """tokens: return the accepted tokens. An empty one is never accepted. of_nodes: whether node tokens are, too."""
        self._tokens, self._of_nodes = tokens, of_nodes

    def authenticate(self, request: HttpRequest, names: Names | None = None, name: str = "") -> None:
        """Return if the call bears an accepted token. Raises NotAuthenticated, PermissionDenied or Away.

        names: what `name` in its path is the name of. A node token opens names of its pool alone.
        """
        if shown := self._shown(request, name):
            _admit(_known.recall(shown) or _known.find(shown), request, names, name)

    async def authenticate_promptly(self, request: HttpRequest, names: Names | None = None, name: str = "") -> None:
        """The same, on the event loop."""
        if shown := self._shown(request, name):
            _admit(_known.recall(shown) or await _known.find_promptly(shown), request, names, name)

    def _shown(self, request: HttpRequest, name: str) -> bytes | None:
        """The digest of what may be a node token; None if the call bears another token that is accepted."""
        words = request.META.get("HTTP_AUTHORIZATION", "").split(" ")
        if words == [""]:
            raise NotAuthenticated("no session token provided")
        if words[0] != "Bearer":
            raise NotAuthenticated(f"unsupported authorization scheme: {words[0]}")
        # WSGI passes a header's bytes as Latin-1.
        given, accepted = words[-1].encode("latin-1", "replace"), [token() for token in self._tokens]
        if len(words) == 2 and any(hmac.compare_digest(given, token.encode()) for token in accepted if token):
            if name:
                _shared_uses.note(request, name)
            return None
        if self._of_nodes and len(words) == 2 and SHAPE.fullmatch(words[1]):
            return digest(words[1])
        raise _refused(request, "invalid session token")


def _admit(pool: Pool | None, request: HttpRequest, names: Names | None, name: str) -> None:
    """Return if a token that opens this pool may make the call. Raises PermissionDenied."""
    if pool is None:
        raise _refused(request, "invalid session token")
    token = f'the node token of "{pool.note}"'
    if pool.has_ended:
        raise _refused(request, f"{token} has ended")
    # Only some tokens have networks, and reading an address takes longer than all else.
    if pool.networks and not pool.is_for(address := clients.address(request.META)):
        raise _refused(request, f"{token} is not for the address {address or 'of this call'}")
    shown = escape_controls(name[:_LONGEST_NAME])
    if names == Names.NODE and not pool.has_node(name):
        raise _refused(request, f"{token} opens nodes {pool.pattern}, not {shown}")
    if names == Names.KUBERNETES_NODE and not pool.has_kubernetes_node(name):
        some = f"those of Kubernetes nodes {pool.kubernetes_pattern}" if pool.kubernetes_pattern else "none"
        raise _refused(request, f"{token} opens endpoint checks: {some}, not of {shown}")


def _refused(request: HttpRequest, reason: str) -> PermissionDenied:
    """The error for a refused token, which is logged now and then."""
    if (more := _refusals.take()) is not None:
        address = str(clients.address(request.META) or "nowhere")
        log.warning("node_agent_refused", address=address, reason=reason, more=more)
    return PermissionDenied(reason)


def shared_token() -> str:
    """The token that opens all names; empty where it is switched off."""
    return conf.AUTH_TOKEN if conf.SHARED_TOKEN_OPENS else ""


# For node agents' routes; for local routes (state, all endpoint configs, what changes the map); and for paths that do not
# exist, since only callers with a token learn that.
AGENT_TOKEN = BearerToken(shared_token, of_nodes=True)
LOCAL_TOKEN = BearerToken(lambda: conf.LOCAL_TOKEN)
ANY_TOKEN = BearerToken(shared_token, lambda: conf.LOCAL_TOKEN, of_nodes=True)
