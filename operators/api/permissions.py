"""The permissions that calls need. A refusal names the missing permission and the roles that have it."""

from collections.abc import Iterable
from typing import Any

from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from checks.dispatcher import Outside
from operators import bounds, roles

_ACTIONS = {"POST": "add", "PUT": "change", "DELETE": "delete"}


class HasPermissions(BasePermission):
    """Admits users who have all of Django's permissions that a call needs."""

    def needed(self, request: Request, view: Any) -> Iterable[str]:
        """The permissions that the call needs. Default: to view, add, change or delete the view's rows, by the method."""
        options = view.queryset.model._meta
        return [f"{options.app_label}.{_ACTIONS.get(request.method or '', 'view')}_{options.model_name}"]

    def has_permission(self, request: Request, view: Any) -> bool:
        user: Any = request.user
        if not (user and user.is_authenticated):
            by_session = any(isinstance(one, SessionAuthentication) for one in request.authenticators or ())
            login = ", or log in to the admin" if by_session else ""
            raise NotAuthenticated(f"Send `Authorization: Bearer <an operator's token>`{login}.")
        for permission in self.needed(request, view):
            if why := bounds.refusal(user, permission):
                raise Outside(why)
            if not user.has_perm(permission):
                having = " or ".join(roles.with_permission(permission)) or "none"
                raise PermissionDenied(f"{user.get_username()} lacks {permission}, which comes with the role {having}.")
        return True


def requires(*permissions: str) -> type[HasPermissions]:
    """A permission class that admits users with all of these permissions."""
    return type("HasPermissions", (HasPermissions,), {"needed": lambda *_: permissions})
