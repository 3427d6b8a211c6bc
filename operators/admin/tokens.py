"""Operators' tokens in the admin: made, shown once, and revoked. What a token may do is shown before it is made."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from knox.admin import AuthTokenCreateForm
from knox.models import AuthToken
from knox.settings import knox_settings
from unfold.decorators import display
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminTextInputWidget

from clusteragent.lib import clock
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import utc
from operators import bounds, documentation, tokens
from operators.admin import access, rights
from operators.admin.base import dated, example, time_column
from operators.admin.people import RecordedAdmin, by_roles, may_add_users, named
from operators.admin.questions import Question, seen_of, seen_of_form
from operators.admin.userforms import BoundForm
from operators.models import Purpose
from operators.roles import MEANINGS, Role

# As the sidebar and the command call it.
AuthToken._meta.verbose_name, AuthToken._meta.verbose_name_plural = "token", "tokens"
# The library's name is the whole hash.
AuthToken.__str__ = tokens.named


class TokenForm(BoundForm, AuthTokenCreateForm):
    """The library's form, which makes the token, and what it is for and bound to. A new user comes with it where that is asked.

    makes_users: whether who fills it in may add users.
    """

    makes_users = False

    new_user = forms.CharField(
        label="Or a new user for it", required=False, widget=UnfoldAdminTextInputWidget(),
        help_text="Such as: shop-deploys. It can't log in, and what the token does is on record under its name.",
    )  # fmt: skip
    role = forms.ChoiceField(
        label="With the role", required=False, widget=UnfoldAdminRadioSelectWidget(),
        choices=[("", "that of the user above"), *((role, f"{role}: {MEANINGS[role]}") for role in Role)],
    )  # fmt: skip
    purpose = forms.CharField(
        label="What for", max_length=Purpose.MOST, required=False, widget=UnfoldAdminTextInputWidget(),
        help_text="Such as: deploys of the shop. It tells this token from others of its user.",
    )  # fmt: skip

    class Meta(AuthTokenCreateForm.Meta):
        help_texts: ClassVar = {
            "user": "It may do what this user may. A pipeline has a user of its own.",
            "expiry": "UTC. Empty: it never ends.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.makes_users:
            self.fields["user"].required = False
        else:
            del self.fields["new_user"], self.fields["role"]

    def clean_new_user(self) -> str:
        """The name. Raises ValidationError for what can't be one, and for that of a user who exists."""
        name: str = self.cleaned_data["new_user"]
        if name:
            User._meta.get_field("username").clean(name, None)
            if User.objects.filter(username=name).exists():
                raise ValidationError("There is a user of this name: choose it above.")
        return name

    def clean(self) -> Any:
        super().clean()
        given = self.cleaned_data
        if self.makes_users and not self.errors:
            if bool(given["user"]) == bool(given["new_user"]):
                self.add_error("user", "Choose a user, or name a new one below.")
            elif bool(given["new_user"]) != bool(given["role"]):
                self.add_error("role", "A new user has a role. That of others is given on their pages.")
        return given


@admin.register(AuthToken)
class TokenAdmin(RecordedAdmin):
    """Operators' tokens. A token has the permissions of its user. Only its hash is stored."""

    form = TokenForm
    empty = (
        "A token lets a script or a pipeline use the operators' API with the role of its user. Give each pipeline a user of"
        " its own, so that what it does is on record under its name."
    )
    list_display = ("token_key", "what_for", "shown_user", "roles", "bound", "made", "expires")
    list_select_related = ("user", "purpose", "bound")
    search_fields = ("user__username", "token_key", "purpose__text")
    search_help_text = "A user, what it is for, or how a token begins"
    ordering = ("user__username", "created")
    made, issued = time_column("created"), time_column("created", dated)
    expires, due = time_column("expiry"), time_column("expiry", dated)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("user__groups")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        form.makes_users = obj is None and may_add_users(request)
        return form

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is None:
            new = ("new_user", "role") if may_add_users(request) else ()
            return "user", *new, "purpose", "sources", "checks", "expiry"
        return "token_key", "what_for", "user", "bound", "issued", "due"

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"expiry": clock.now() + knox_settings.TOKEN_TTL} | super().get_changeform_initial_data(request)

    def told(self, obj: Any) -> dict[str, Any]:
        return tokens.told(obj)

    def asked(self, request: HttpRequest, form: Any) -> Question:
        given = form.cleaned_data
        name, purpose = given.get("new_user"), given["purpose"]
        user = User(username=name) if name else given["user"]
        role = given.get("role", "") if name else ""
        sentences, worse = access.of_token(user, role, form.bound)
        may = (
            rights.of(user, rights.given_by(Group.objects.filter(name=role)).values())
            if role
            else rights.of_stored(user)
        )
        # Who loads the answer anew makes no second one unasked.
        about = [*sentences, *worse, seen_of_form(form), *rights.facts(may)]
        seen = seen_of(about, AuthToken.objects.count())
        expiry = given["expiry"]
        ends = f"It ends {utc(expiry)}." if expiry else "It never ends."
        what_for = f", for {purpose}" if purpose else ""
        return Question(
            f"Make a token of {user}{what_for}", [*sentences, ends], worse, seen=seen, button="Make the token"
        )

    def lost_with(self, obj: Any) -> str:
        return f"Whoever calls with {named(obj)} is answered 401 from then on."

    @display(description="user", ordering=Natural("user__username"))
    def shown_user(self, token: Any) -> str:
        """Whose it is."""
        return str(token.user)

    @display(description="for", ordering=Natural("purpose__text"))
    def what_for(self, token: Any) -> str:
        """What it is for."""
        return tokens.purpose_of(token)

    @display(description="bound to", ordering="bound__sources")
    def bound(self, token: Any) -> str:
        """Sources and checks."""
        return bounds.in_words(token)

    @display(ordering=by_roles("user__"))
    def roles(self, token: Any) -> str:
        """The groups of the token's user."""
        return access.roles_of(token.user)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if name := form.cleaned_data.get("new_user"):
            obj.user = tokens.make_user(name, form.cleaned_data["role"])
        super().save_model(request, obj, form, change)
        tokens.give_purpose(obj, form.cleaned_data["purpose"])
        bounds.bind(**form.bound, token=obj)
        obj.shown_once = form.token

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the token on a page of its own: a message would be stored in the session."""
        context = self.admin_site.each_context(request) | {
            "title": f"Token of {obj.user}",
            "opts": self.opts,
            "token": obj.shown_once,
            "purpose": tokens.purpose_of(obj),
            "bound": bounds.in_words(obj),
            "owner": obj.user.get_username(),
            "roles": self.roles(obj),
            "example": example(request, "operators:status-list"),
            "ends": utc(obj.expiry) if obj.expiry else "",
            "about_url": documentation.page("howto/tokens"),
        }
        return TemplateResponse(request, "admin/operators/token.html", context, headers={"Cache-Control": "no-store"})
