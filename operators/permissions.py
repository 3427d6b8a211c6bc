"""What a call needs, told to those who lack it."""

from typing import Any

from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from operators import roles


class Needs(BasePermission):
    """Lets those pass who have all of `permissions`, which are Django's."""

    permissions: tuple[str, ...] = ()

    def has_permission(self, request: Request, view: Any) -> bool:
        user: Any = request.user
        if not (user and user.is_authenticated):
            raise NotAuthenticated("Send `Authorization: Bearer <an operator's token>`, or log in to the admin.")
        for permission in self.permissions:
            if not user.has_perm(permission):
                having = " or ".join(roles.with_permission(permission)) or "none"
                raise PermissionDenied(f"{user.get_username()} lacks {permission}, which comes with the role {having}.")
        return True


def needs(*permissions: str) -> type[Needs]:
    """The class for these permissions."""
    return type("Needs", (Needs,), {"permissions": permissions})
