"""What roles and bounds keep from the user, shown greyed with the reason instead of hidden: on pages of rows what either does, in
lists, whose actions Django hides from who lacks the permission, what bounds do, and that roles keep the user from adding rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.http import HttpRequest
from django.shortcuts import redirect

from checks.dispatcher import Outside
from checks.dispatcher.acting import record_refusal
from checks.wire.scrub import scrub
from operators import bounds, roles
from operators.errors import Lacks


class Greyed(NamedTuple):
    """What the user may not do, as words of buttons, and why."""

    words: Sequence[str]
    why: str

    @classmethod
    def of(cls, reasons: Iterable[tuple[str, str]]) -> "list[Greyed]":
        """Those of these (words, why) that are kept from the user, together for each reason."""
        found: dict[str, list[str]] = {}
        for words, why in reasons:
            if why:
                found.setdefault(why, []).append(words)
        return [cls(words, scrub(why)) for why, words in found.items()]


# Django's own action.
DELETE = "delete_selected"
# The buttons of a form, by the permission that each asks for.
_OF_FORM = {"change": "Save", "delete": "Delete"}

# Unfold's ModelAdmin is untyped; a class that derives from both must not get the types of Django's.
_DjangoModelAdmin: Any = admin.ModelAdmin


class GreyingAdmin(_DjangoModelAdmin):
    """Lists and pages that show what a bound keeps from the user. Name it before unfold's ModelAdmin.

    own_permissions: {name that an action asks for: permission}, where it is none of Django's for the rows.
    """

    own_permissions: Mapping[str, str] = {}

    def outside(self, permission: str, obj: Any) -> str:
        """Why a bound keeps the user, who has this permission, from the row; empty if none does."""
        return ""

    def why_not(self, request: HttpRequest, action: str, obj: Any = None) -> str:
        """Why a bound keeps the user from this action on the row, or on all rows; empty if none does."""
        for permission in self._asked(action):
            if why := bounds.refusal(request.user, permission):
                return why
            if obj is not None and request.user.has_perm(permission) and (why := self.outside(permission, obj)):
                return why
        return ""

    def lacked(self, request: HttpRequest, actions: Iterable[str]) -> dict[str, str]:
        """Why the user's roles give none of these actions: {action: why}, without those that they give."""
        asked = {name: self._asked(name) for name in actions}
        lacked = {name: some for name, some in asked.items() if some and not any(map(request.user.has_perm, some))}
        having = roles.with_permissions({one for some in lacked.values() for one in some}) if lacked else {}
        groups = {name: {group for one in some for group in having[one]} for name, some in lacked.items()}
        return {name: f"this {roles.comes_with(some)}" for name, some in groups.items()}

    def _require_action(self, request: HttpRequest) -> None:
        """Raise Lacks for an action of the list that the user's roles do not give: Django would do nothing, and say nothing."""
        action = request.POST.get("action", "")
        if action == DELETE:
            asked = [self._permission("delete")]
        else:
            asked = self._asked(action) if action in (self.actions or ()) else []
        if asked and not any(map(request.user.has_perm, asked)):
            raise Lacks(*asked[:1])

    def _asked(self, action: str) -> list[str]:
        """The permissions of which an action asks for one. `change` and `delete` are the buttons of a form."""
        names = [action] if action in _OF_FORM else getattr(getattr(self, action), "allowed_permissions", ())
        return [self.own_permissions.get(name) or self._permission(name) for name in names]

    def greyed(self, request: HttpRequest) -> list[Greyed]:
        """What bounds keep the user from in the whole list."""
        reasons = [(words_of(getattr(self, name)), self.why_not(request, name)) for name in self.actions or ()]
        adding = (f"Add {self.opts.verbose_name}", self.why_not_add(request))
        return Greyed.of([*reasons, adding])

    def reasons(self, request: HttpRequest, actions: Sequence[str], obj: Any) -> dict[str, str]:
        """Why the user may not do each of these actions on the row; empty where it may."""
        lacked = self.lacked(request, actions)
        return {name: self.why_not(request, name, obj) or lacked.get(name, "") for name in actions}

    def reasons_of_form(
        self, request: HttpRequest, obj: Any, deeds: Sequence[str] = tuple(_OF_FORM)
    ) -> list[tuple[str, str]]:
        """Each of these buttons of a row's form, and why the user may not use it."""
        return [(_OF_FORM[deed], why) for deed, why in self.reasons(request, deeds, obj).items()]

    def why_not_add(self, request: HttpRequest) -> str:
        """Why a bound or its roles keep the user from adding rows; empty if neither does, or no role may."""
        added = self._permission("add")
        return bounds.refusal(request.user, added) or roles.why_not(request.user, added)

    def _permission(self, deed: str) -> str:
        return f"{self.opts.app_label}.{get_permission_codename(deed, self.opts)}"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        self._require_action(request)
        own = {"greyed": self.greyed(request), "bounds": bounds.in_sentences(request.user)}
        try:
            return super().changelist_view(request, {**own, **(extra_context or {})})
        except Outside as refusal:
            record_refusal(request.POST.get("action", ""), refusal)
            messages.error(request, f"Not done: {scrub(str(refusal))}.")
            return redirect(request.get_full_path())


def words_of(action: Any) -> str:
    """What an action's button says."""
    return str(action.short_description)
