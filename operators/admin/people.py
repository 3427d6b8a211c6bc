"""Users, groups and operators' tokens in the admin."""

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from knox.admin import AuthTokenCreateForm
from knox.models import AuthToken
from knox.settings import knox_settings
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from clusteragent.lib import clock
from operators.admin.base import DeclaredAdmin

# Remove what libraries registered. A Schedule of django-q2 would run any function that its author names.
admin.site.unregister([User, Group, AuthToken])
admin.site.unregister(
    [model for model in apps.get_app_config("django_q").get_models() if admin.site.is_registered(model)]
)


@admin.register(User)
class OperatorAdmin(UserAdmin, DeclaredAdmin):  # type: ignore[type-arg]
    """The users."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class OperatorGroupAdmin(GroupAdmin, DeclaredAdmin):
    """The groups, which are the roles."""


@admin.register(AuthToken)
class TokenAdmin(DeclaredAdmin):
    """Operators' tokens. A token has the permissions of its user. Only its hash is stored."""

    form = AuthTokenCreateForm
    list_display = ("token_key", "user", "roles", "created", "expiry")
    list_select_related = ("user",)
    search_fields = ("user__username", "token_key")
    search_help_text = "A user, or how a token begins"
    ordering = ("user__username", "created")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("user__groups")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("user", "expiry") if obj is None else ("token_key", "user", "created", "expiry")

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"expiry": clock.now() + knox_settings.TOKEN_TTL} | super().get_changeform_initial_data(request)

    @display
    def roles(self, token: Any) -> str:
        """The groups of the token's user."""
        return ", ".join(group.name for group in token.user.groups.all())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        obj.shown_once = form.token

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the token on a page of its own: a message would be stored in the session."""
        context = self.admin_site.each_context(request) | {
            "title": f"Token of {obj.user}",
            "opts": self.opts,
            "token": obj.shown_once,
            "expiry": obj.expiry,
        }
        return TemplateResponse(request, "admin/operators/token.html", context, headers={"Cache-Control": "no-store"})
