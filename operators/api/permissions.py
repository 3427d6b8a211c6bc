"""What a call needs, told to those who lack it."""

from collections.abc import Sequence
from typing import Any

from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from operators import roles

_DEEDS = {"POST": "add", "PUT": "change", "DELETE": "delete"}


class Needs(BasePermission):
    """Lets those pass who have all permissions that a call needs, which are Django's."""

    def needed(self, request: Request, view: Any) -> Sequence[str]:
        """Unless told otherwise those to view, add, change or delete the rows that the view is about, by the method."""
        options = view.queryset.model._meta
        return [f"{options.app_label}.{_DEEDS.get(request.method or '', 'view')}_{options.model_name}"]

    def has_permission(self, request: Request, view: Any) -> bool:
        user: Any = request.user
        if not (user and user.is_authenticated):
            raise NotAuthenticated(_how(request))
        for permission in self.needed(request, view):
            if not user.has_perm(permission):
                having = " or ".join(roles.with_permission(permission)) or "none"
                raise PermissionDenied(f"{user.get_username()} lacks {permission}, which comes with the role {having}.")
        return True


def _how(request: Request) -> str:
    by_session = any(isinstance(one, SessionAuthentication) for one in request.authenticators or ())
    return f"Send `Authorization: Bearer <an operator's token>`{', or log in to the admin' * by_session}."


def needs(*permissions: str) -> type[Needs]:
    """The class for just these permissions."""
    return type("Needs", (Needs,), {"needed": lambda *_: permissions})
