"""The OpenID provider, as its client: where a login begins, what the provider says of a person, and whether it still says so."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import requests
from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]
from authlib.integrations.base_client import BaseApp, FrameworkIntegration, OAuth2Mixin, OAuthError, OpenIDMixin  # type: ignore[import-untyped]
from joserfc.errors import JoseError

from clusteragent.lib import conf
from clusteragent.lib.words import escape_controls
from operators.calls import Session, ending_within

# Signatures that only the provider can make. A provider may offer `none` and secrets that clients share, too.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
# What a login needs of its description of itself.
NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
# Where a person's name is taken from: the first of these claims that there is, else the subject.
NAMES = ("preferred_username", "email")
# The most that is kept of a person: OpenID allows a subject 255 letters, Django a name 150 and an address 254.
MOST_OF_SUBJECT, MOST_OF_NAME, MOST_OF_EMAIL, MOST_GROUPS = 255, 150, 254, 20_000
# Seconds that its clock may differ from ours, that it may be silent, that all calls of a login or renewal may take together, and
# for which its description holds.
LEEWAY = 60
PATIENCE = 5
ALL_WITHIN = 15
DESCRIBED_FOR = 3600
# Calls to it at once, in each process: as many for logins, which strangers may begin, as for people who are asked about again.
# Others wait for a short while.
MOST_CALLS = 4
# Seconds for which a provider that did not answer is not asked again.
AWAY_FOR = 3

_logins, _renewals = threading.BoundedSemaphore(MOST_CALLS), threading.BoundedSemaphore(MOST_CALLS)


class Unreachable(Exception):
    """The provider did not answer as a provider does, now. It says nothing about the person."""


class Denied(Exception):
    """The provider, or what it sent, does not confirm the person. The text says why."""


class Misnamed(Denied):
    """What answered is not the provider of CLUSTERAGENT_OIDC_ISSUER."""


@dataclass(frozen=True)
class Person:
    """What the provider says of a person. renewal: what it is asked with again, empty where it gives nothing for that."""

    subject: str
    name: str
    email: str
    groups: tuple[str, ...]
    renewal: str


class Pending(dict[str, Any]):
    """What a login that began keeps until its answer: `state`, `nonce`, `code_verifier`, `redirect_uri`."""


class Provider(OAuth2Mixin, OpenIDMixin, BaseApp):  # type: ignore[misc]
    """The provider of CLUSTERAGENT_OIDC_ISSUER: the library's client."""

    client_cls = Session

    def _on_update_token(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: who renews keeps what comes."""

    def load_server_metadata(self) -> Any:
        """The provider's description of itself, read again each hour. Raises Misnamed if another issuer is named in it."""
        if time.time() - self.server_metadata.get("_loaded_at", 0) > DESCRIBED_FOR:
            self.server_metadata.clear()
        metadata = super().load_server_metadata()
        if (named := metadata.get("issuer")) != conf.OIDC_ISSUER:
            self.server_metadata.clear()
            raise Misnamed(f"the provider calls itself {named!r}, not {conf.OIDC_ISSUER!r}")
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        metadata["id_token_signing_alg_values_supported"] = [name for name in offered if name in ALGORITHMS]
        return metadata


@cache
def provider() -> Any:
    """The provider. One object a process: it keeps the description and the keys."""
    return Provider(
        FrameworkIntegration("oidc"),
        name="oidc",
        client_id=conf.OIDC_CLIENT_ID,
        client_secret=conf.OIDC_CLIENT_SECRET,
        server_metadata_url=f"{conf.OIDC_ISSUER.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={
            "scope": " ".join(conf.OIDC_SCOPES),
            "code_challenge_method": "S256",
            "default_timeout": PATIENCE,
        },
    )


@contextmanager
def _asking(*, again: bool = False) -> Iterator[Any]:
    """Within it the provider may be called. Raises Unreachable and Denied for what the library raises.

    again: about somebody who has logged in. Then no error that is answered is about the person but `invalid_grant`: an ingress
    without a provider behind it answers 404, one that is asked too often 429, and neither is a word about anybody.
    """
    calls = _renewals if again else _logins
    if time.monotonic() < _away.until:
        raise Unreachable("it was away a moment ago")
    if not calls.acquire(timeout=PATIENCE / 10):
        raise Unreachable("too many logins wait for the provider")
    ending = None
    try:
        with ending_within(ALL_WITHIN) as ending:
            yield provider()
    except (Denied, Unreachable, requests.RequestException, AuthlibBaseError, JoseError, *_ODD) as error:
        if ending and ending.is_over:
            # What came until then may look like anything.
            raise _unanswered(f"it did not answer within {ALL_WITHIN} s") from error
        if isinstance(error, Misnamed) and again:
            raise Unreachable(str(error)) from error
        if isinstance(error, Denied | Unreachable):
            raise
        raise _meant(error, is_answered=not again) from error
    finally:
        calls.release()


# What the library raises over an answer that is not as it should be.
_ODD = (RuntimeError, ValueError, KeyError, TypeError, AttributeError)


def _meant(error: Exception, *, is_answered: bool) -> Denied | Unreachable:
    """What an error of a call means: is it about the person, or does the provider not answer as one."""
    answered = Denied if is_answered else Unreachable
    match error:
        case requests.HTTPError(response=requests.Response() as answer):
            said = f"the provider answered {answer.status_code}"
            return Unreachable(said) if answer.status_code >= 500 else answered(said)
        case requests.RequestException():
            return _unanswered(f"{type(error).__name__}: {error}")
        case OAuthError():
            said = f"{error.error}: {error.description}".rstrip(": .")
            return Denied(said) if error.error == "invalid_grant" else answered(said)
        case AuthlibBaseError() | JoseError():
            return Denied(f"{error.error}: {error.description}".rstrip(": ."))
    return answered(f"what the provider sent can't be understood ({type(error).__name__}: {error})")


def _unanswered(why: str) -> Unreachable:
    """The error for a provider that does not answer. It is not called again at once."""
    _away.until = time.monotonic() + AWAY_FOR
    return Unreachable(why)


class _Away:
    """Until when the provider is not called, by the process's clock: strangers would hold a thread with each try."""

    until = 0.0


_away = _Away()


def ask() -> None:
    """Let the provider describe itself. Raises Unreachable and Denied unless it does, with what a login needs."""
    with _asking() as client:
        described = client.load_server_metadata()
        if missing := [name for name in NEEDED if name not in described]:
            raise Denied(f"its description lacks {' and '.join(missing)}")


def begin(redirect_uri: str) -> tuple[str, Pending]:
    """Return the provider's URL where a person logs in, and what the answer will be compared with."""
    with _asking() as client:
        started = client.create_authorization_url(redirect_uri)
    url = started.pop("url")
    return url, Pending(started, redirect_uri=redirect_uri)


def finish(pending: Pending, code: str) -> Person:
    """Return who logged in, for the code that the provider sent back.

    The ID token's signature, issuer, audience, times and nonce are checked.
    """
    with _asking() as client:
        token = client.fetch_access_token(
            redirect_uri=pending["redirect_uri"], code=code, code_verifier=pending["code_verifier"]
        )
        if not token.get("id_token"):
            raise Denied("the provider sent no ID token")
        claims = client.parse_id_token(token, nonce=pending["nonce"], leeway=LEEWAY)
        return _person(_with_info(client, claims, token), token)


def renew(subject: str, renewal: str) -> Person:
    """Return what the provider says now of the person whom it gave this renewal."""
    with _asking(again=True) as client:
        with Session(conf.OIDC_CLIENT_ID, conf.OIDC_CLIENT_SECRET, default_timeout=PATIENCE) as session:
            url = client.load_server_metadata()["token_endpoint"]
            token = session.refresh_token(url, refresh_token=renewal)
        if not token.get("access_token"):
            raise Unreachable("the provider renewed nothing")
        claims = client.parse_id_token(token, nonce=None, leeway=LEEWAY) or {"sub": subject}
        if claims["sub"] != subject:
            raise Denied("the provider spoke of another person")
        # A provider that gives no new renewal lets the old one go on.
        return _person(
            _with_info(client, claims, token), {"refresh_token": renewal} | {k: v for k, v in token.items() if v}
        )


def _with_info(client: Any, claims: Any, token: Any) -> dict[str, Any]:
    """The claims, and what the provider's page about the person says now, if it has one: many put groups there alone."""
    if "userinfo_endpoint" not in client.load_server_metadata():
        if "id_token" not in token:
            raise Unreachable(
                "the provider says nothing of the person when it renews: neither an ID token nor a userinfo page"
            )
        return dict(claims)
    info = client.userinfo(token=token)
    if info.get("sub") != claims["sub"]:
        raise Denied("the provider spoke of another person")
    return {**claims, **info}


def _person(claims: Any, token: Any) -> Person:
    groups = claims.get(conf.OIDC_GROUPS_CLAIM, [])
    # One group may come as a word.
    groups = [groups] if isinstance(groups, str) else groups
    if not isinstance(groups, list):
        raise Denied(f"the claim {conf.OIDC_GROUPS_CLAIM} is no list of groups")
    named = [claims.get(claim) for claim in NAMES]
    return person(
        str(claims["sub"]),
        next((name for name in named if isinstance(name, str) and name.strip()), str(claims["sub"])),
        str(claims.get("email") or ""),
        map(str, groups),
        str(token.get("refresh_token") or ""),
    )


def person(subject: str, name: str, email: str, groups: Iterable[str], renewal: str = "") -> Person:
    """A person as the database can keep it. Raises Denied for a subject that it can't: another one might become the same."""
    if not subject or len(subject) > MOST_OF_SUBJECT or subject != _kept(subject):
        raise Denied("the person's subject is empty, too long, or has odd characters")
    kept = sorted({_kept(group) for group in groups})[:MOST_GROUPS]
    return Person(subject, _kept(name.strip())[:MOST_OF_NAME], _kept(email)[:MOST_OF_EMAIL], tuple(kept), renewal)


def _kept(text: str) -> str:
    """A text without control characters and halves of letters."""
    return escape_controls(text.encode("utf-8", "replace").decode())
