"""Callers of the operators' API, by their roles."""

from typing import Any, NamedTuple

from django.contrib.auth.models import Group, User
from django.test import Client
from knox.models import AuthToken

from operators.roles import Role

API = "/api/operator/v1"


class Caller(NamedTuple):
    """Someone with a header of theirs."""

    headers: dict[str, str]
    client: Client = Client()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The answer to a call of `path`, below the API's root unless it begins with it."""
        url = path if path.startswith("/api/") else f"{API}/{path}"
        # Without a body none is sent: the client's own default is a form.
        none = {} if method in ("GET", "HEAD") else {"data": "", "content_type": "application/json"}
        content = none if body is None else {"data": body, "content_type": "application/json"}
        return getattr(self.client, method.lower())(url, **content, headers=self.headers | headers)

    def get(self, path: str) -> Any:
        """What a call that succeeds answers."""
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.content
        return answer.json()

    def rows(self, path: str) -> list[Any]:
        rows: list[Any] = self.get(path)["results"]
        return rows


def bearer(token: str) -> Caller:
    return Caller({"Authorization": f"Bearer {token}"})


def user(name: str, *roles: Role, **fields: Any) -> User:
    made = User.objects.create_user(name, **fields)
    made.groups.set(Group.objects.filter(name__in=roles))
    return made


def having(*roles: Role) -> Caller:
    """The bearer of a token of someone who has these roles, called like the first of them."""
    _, token = AuthToken.objects.create(user(str(roles[0]) if roles else "nobody", *roles))
    return bearer(token)
