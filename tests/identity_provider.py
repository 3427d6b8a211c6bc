"""A real OpenID provider on this machine: Canaille, with people and groups that tests make.

It is a process of its own, since it changes what a process has one of: log, warnings, environment. It does what lines of JSON on
its standard input say, and ends with it.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import make_server

import httpx
from joserfc.jwk import JWKRegistry

# Of everybody there.
PASSWORD = "correct horse battery"
CLIENT_ID = "clusteragent"


class IdentityProvider:
    """The provider, as tests see it. This program is its only client."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.client_secret = secrets.token_hex(16)
        told = self._tell("describe")
        self.issuer: str = told["issuer"]
        self.key: Any = JWKRegistry.import_key(told["key"])

    def _tell(self, what: str, **how: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"what": what, **how}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def expect(self, *redirect_uris: str) -> None:
        """Know this program, at these addresses."""
        self._tell("expect", uris=redirect_uris, secret=self.client_secret)

    def hold(self, *held: str) -> None:
        """Take these secrets from this program, and no other."""
        self._tell("hold", held=held)

    def takes(self, secret: str) -> bool:
        """Whether it takes this secret: it judges that before the code that comes with it."""
        answer = httpx.post(
            f"{self.issuer}/oauth/token",
            data={"grant_type": "authorization_code", "code": "none"},
            auth=(CLIENT_ID, secret),
        )
        return answer.json()["error"] != "invalid_client"

    def put(self, name: str, *groups: str) -> str:
        """Let a person, who is made if need be, be in these groups and no other. Returns the name."""
        self._tell("put", name=name, groups=groups)
        return name

    def revoke(self) -> None:
        """Forget all that was given to clients: no login is confirmed any more."""
        self._tell("revoke")

    def log_in(self, name: str, url: str) -> str:
        """Log in at the provider's pages as a browser does, and return the URL to which it sends the browser back."""
        with httpx.Client() as browser:
            answer = browser.get(url)
            for field in ({"login": name}, {"password": PASSWORD}):
                answer = self._follow(browser, answer)
                answer = browser.post(answer.url, data=field)
            answer = self._follow(browser, answer)
        assert answer.is_redirect, answer.text
        return answer.headers["Location"]

    def _follow(self, browser: httpx.Client, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect and answer.next_request.url.netloc.decode() == urlsplit(self.issuer).netloc:
            answer = browser.get(answer.next_request.url)
        return answer


@contextmanager
def running(folder: Path) -> Iterator[IdentityProvider]:
    """A provider that ends with the block, with its database in the folder."""
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(folder)]
    with (folder / "provider.log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    with process:
        try:
            yield IdentityProvider(process)
        finally:
            process.kill()


def main(folder: str) -> None:
    """Serve until standard input ends."""
    # Its own: it speaks plain HTTP on loopback.
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    from canaille import create_app
    from canaille.backends import Backend
    from canaille.oidc import models, provider

    # Its own are alike for one person within a second, and it can't store the second of them.
    provider.generate_access_token = lambda **_: secrets.token_hex()
    # Its own clients have one secret; most providers let a client have two while it is rotated.
    models.Client.check_client_secret = lambda self, secret: secret in self.client_secret.split()

    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    key = JWKRegistry.generate_key("RSA", 2048)
    key.ensure_kid()
    app = create_app(
        config={
            "TESTING": True,
            "SECRET_KEY": secrets.token_hex(),
            "WTF_CSRF_ENABLED": False,
            "PREFERRED_URL_SCHEME": "http",
            "SERVER_NAME": f"127.0.0.1:{port}",
            # Not its database in memory: that finds codes of other logins, too.
            "CANAILLE_SQL": {"DATABASE_URI": f"sqlite:///{folder}/provider.sqlite", "PASSWORD_SCHEMES": "plaintext"},
            "CANAILLE": {"DATABASE": "sql", "JAVASCRIPT": False, "ACL": {"DEFAULT": {"PERMISSIONS": ["use_oidc"]}}},
            "CANAILLE_OIDC": {
                "ACTIVE_JWKS": [key.as_dict(private=True)],
                "TRUSTED_DOMAINS": ["127.0.0.1"],
                "USERINFO_MAPPING": {"PREFERRED_USERNAME": "{{ user.user_name }}"},
            },
        },
        env_file="",
        env_prefix="CANAILLE_OF_TESTS_",
    )
    threading.Thread(target=make_server("127.0.0.1", port, app).serve_forever, daemon=True).start()
    there = _There(Backend.instance, f"http://127.0.0.1:{port}", key)
    for line in sys.stdin:
        said = json.loads(line)
        with app.app_context():
            answer = getattr(there, said.pop("what"))(**said)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class _There:
    """What tests tell the provider, done in its process."""

    def __init__(self, backend: Any, issuer: str, key: Any) -> None:
        from canaille.app import models

        self._backend, self._models, self._issuer, self._key = backend, models, issuer, key

    def describe(self) -> Any:
        return {"issuer": self._issuer, "key": self._key.as_dict(private=True)}

    def expect(self, uris: list[str], secret: str) -> None:
        client = self._models.Client(
            client_id=CLIENT_ID,
            client_secret=secret,
            client_name="Cluster agent",
            # At a trusted address nobody is asked for consent.
            client_uri="http://127.0.0.1",
            redirect_uris=uris,
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
            scope=["openid", "profile", "email", "groups"],
            token_endpoint_auth_method="client_secret_basic",
        )
        self._backend.save(client)
        client.audience = [client]
        self._backend.save(client)

    def hold(self, held: list[str]) -> None:
        client = self._backend.get(self._models.Client, client_id=CLIENT_ID)
        client.client_secret = " ".join(held)
        self._backend.save(client)

    def put(self, name: str, groups: list[str]) -> None:
        user = self._backend.get(self._models.User, user_name=name)
        if user is None:
            user = self._models.User(
                user_name=name, formatted_name=name, family_name=name, emails=[f"{name}@example.com"], password=PASSWORD
            )
            self._backend.save(user)
        for group in groups:
            if not self._backend.get(self._models.Group, display_name=group):
                self._backend.save(self._models.Group(display_name=group, members=[user]))
        user.groups = [self._backend.get(self._models.Group, display_name=group) for group in groups]
        self._backend.save(user)

    def revoke(self) -> None:
        for token in self._backend.query(self._models.Token):
            self._backend.delete(token)


if __name__ == "__main__":
    main(sys.argv[1])
