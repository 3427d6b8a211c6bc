"""What bounds keep from the user, shown greyed with the reason instead of hidden."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.http import HttpRequest
from django.shortcuts import redirect

from checks.dispatcher import Outside
from checks.dispatcher.acting import record_refusal
from checks.wire.scrub import scrub
from operators import bounds


class Greyed(NamedTuple):
    """What a bound keeps the user from, as words of buttons, and why."""

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
        for name in getattr(getattr(self, action), "allowed_permissions", ()):
            permission = self.own_permissions.get(name) or self._permission(name)
            if why := bounds.refusal(request.user, permission):
                return why
            if obj is not None and request.user.has_perm(permission) and (why := self.outside(permission, obj)):
                return why
        return ""

    def greyed(self, request: HttpRequest) -> list[Greyed]:
        """What bounds keep the user from in the whole list."""
        reasons = [(words_of(getattr(self, name)), self.why_not(request, name)) for name in self.actions or ()]
        adding = (f"Add {self.opts.verbose_name}", self.why_not_add(request))
        return Greyed.of([*reasons, adding])

    def why_not_add(self, request: HttpRequest) -> str:
        """Why a bound keeps the user from adding rows; empty if none does."""
        return bounds.refusal(request.user, self._permission("add"))

    def _permission(self, deed: str) -> str:
        return f"{self.opts.app_label}.{get_permission_codename(deed, self.opts)}"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
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
