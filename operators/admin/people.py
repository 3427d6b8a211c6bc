"""Users, groups and operators' tokens in the admin."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.aggregates import StringAgg
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, Model, OuterRef, Q, Subquery, TextField, Value, When
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from knox.admin import AuthTokenCreateForm
from knox.models import AuthToken
from knox.settings import knox_settings
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from acts.models import Act
from acts.recording import record
from clusteragent.lib import clock
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import listed, plain_count
from operators import bounds, documentation, identities, tokens
from operators.admin.base import DeclaredAdmin, dated, example, time_column
from operators.admin.questions import Question, ShownDeletions
from operators.models import Purpose, SavedView
from operators.roles import MEANINGS, Role

# Remove what libraries registered. A Schedule of django-q2 would run any function that its author names.
admin.site.unregister([User, Group, AuthToken])
admin.site.unregister(
    [model for model in apps.get_app_config("django_q").get_models() if admin.site.is_registered(model)]
)

# As the sidebar and the command call it.
AuthToken._meta.verbose_name, AuthToken._meta.verbose_name_plural = "token", "tokens"
# The library's name is the whole hash.
AuthToken.__str__ = tokens.named


def _roles(user: str = "") -> Case:
    """Expression: the roles of a user, as `roles_of` tells them. user: the path to the user, as `user__`."""
    of_user = Group.objects.filter(user=OuterRef(f"{user}pk")).order_by().values("user")
    named = of_user.annotate(names=StringAgg("name", ", ", order_by="name")).values("names")
    everything = When(**{f"{user}is_superuser": True}, then=Value("everything"))
    return Case(everything, default=Subquery(named), output_field=TextField())


# What lets a user in, as `identities.told` begins.
_LOGS_IN_BY = Case(
    When(broken_glass__isnull=False, then=Value("an emergency's password")),
    When(identity__isnull=False, then="identity__issuer"),
    When(password__startswith=UNUSABLE_PASSWORD_PREFIX, then=Value("tokens alone")),
    default=Value("password"),
    output_field=TextField(),
)


class RecordedAdmin(ShownDeletions, DeclaredAdmin):
    """Rows that forms change: each change is on record, in its transaction, with all that the row was and is.

    A deletion shows what goes with the rows first.
    """

    def lost_with(self, obj: Any) -> str:
        """What a row's deletion does, in a sentence."""
        raise NotImplementedError

    def question(self, rows: Sequence[Any]) -> Question:
        sentences = [f"{self.lost_with(obj)} What was done stays on record." for obj in rows]
        seen = ",".join(str(obj.pk) for obj in rows)
        return Question(f"Delete {listed([named(obj) for obj in rows])}", sentences, seen=seen, button="Delete")

    def told(self, obj: Any) -> dict[str, Any]:
        """What a row says, as JSON data. What is secret, of all of it nothing but that it is there."""
        raise NotImplementedError

    def granted(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
        """What people may do now, or no more, since the row was saved, one sentence each. before, now: see `told`."""
        return iter(())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        # Before anything is saved: what belongs to the row is saved after it.
        obj.told_before = self.told(self.model._default_manager.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        obj = form.instance
        verb = Act.Verb.CHANGE if change else Act.Verb.MAKE
        # Read again: what was read before may be cached.
        now = self.told(self.model._default_manager.get(pk=obj.pk))
        record(verb, named(obj), before=obj.told_before, after=now)
        for told in self.granted(obj.told_before or {}, now):
            messages.info(request, told)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_queryset(request, self.model._default_manager.filter(pk=obj.pk))

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for obj in queryset:
            record(Act.Verb.DELETE, named(obj), before=self.told(obj))
        super().delete_queryset(request, queryset)


def named(row: Model) -> str:
    """A row in words: `user otto`."""
    return str(row) if isinstance(row, AuthToken) else f"{row._meta.verbose_name} {row}"


@admin.register(User)
class OperatorAdmin(UserAdmin, RecordedAdmin):  # type: ignore[type-arg]
    """The users."""

    form = UserChangeForm
    add_form = UserCreationForm
    # Django's says that there is more to do afterwards.
    add_form_template = None
    change_password_form = AdminPasswordChangeForm
    # What one may do comes from roles alone.
    fieldsets = (
        (None, {"fields": ("username", "password", "groups", "is_active", "is_superuser")}),
        ("About", {"fields": ("logs_in_by", "first_name", "last_name", "email", "was_here", "joined")}),
    )
    list_display = ("username", "roles", "logs_in_by", "is_active", "logged_in")
    list_filter = ("groups", "is_active")
    # Name, role and password in one form: nothing is left to be done for a colleague.
    add_fieldsets = ((None, {"fields": ("username", "groups", "usable_password", "password1", "password2")}),)

    readonly_fields = ("logs_in_by", "was_here", "joined")
    filter_horizontal = ("user_permissions",)
    logged_in, was_here = time_column("last_login"), time_column("last_login", dated)
    joined = time_column("date_joined", dated)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("identity", "broken_glass").prefetch_related("groups")
        return rows.annotate(now=Now())

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        # The provider decides what its people may do, and says it again with each login.
        return (*fields, "groups", "is_superuser", "username") if obj and identities.of(obj) else fields

    @display(ordering=_roles())
    def roles(self, user: Any) -> str:
        """The groups of the user."""
        return roles_of(user)

    @display(ordering=_LOGS_IN_BY)
    def logs_in_by(self, user: Any) -> str:
        """What lets the user in, and what the provider said last."""
        return identities.told(user, user.now)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "groups":
            # They are few: a box to tick for each, with one click.
            kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget()
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and db_field.name == "groups":
            field.help_text = " ".join(f"{role.capitalize()}: {MEANINGS[role]}." for role in Role)
        return field

    def told(self, obj: User) -> dict[str, Any]:
        names = ("username", "first_name", "last_name", "email", "is_active", "is_staff", "is_superuser")
        return {name: getattr(obj, name) for name in names} | {
            "groups": sorted(obj.groups.values_list("name", flat=True)),
            "permissions": codes(obj.user_permissions),
        }

    def granted(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
        who, had, has = f"User {now['username']}", set(before.get("groups", ())), set(now["groups"])
        for name in sorted(has - had):
            yield f"{who} gets the role {name}: {MEANINGS.get(name, 'may do what the group allows')}."
        for name in sorted(had - has):
            yield f"{who} has the role {name} no more."
        if bool(before.get("is_superuser")) != now["is_superuser"]:
            yield f"{who} may do {'everything' if now['is_superuser'] else 'no more than the roles allow'}."
        if before and before["is_active"] != now["is_active"]:
            yield f"{who} may {'log in and call again' if now['is_active'] else 'not log in or call any more'}."

    def lost_with(self, obj: User) -> str:
        tokens = plain_count(AuthToken.objects.filter(user=obj).count(), "token")
        shared = SavedView.objects.filter(owner=obj, is_shared=True).count()
        views = f" {plain_count(shared, 'view')} that others see, too, is deleted with it." if shared else ""
        return f"User {obj} is logged out and can't log in any more, and {tokens} of it can't call any more.{views}"

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        with transaction.atomic():
            before = self.get_object(request, id)
            response = super().user_change_password(request, id, form_url)
            user = self.get_object(request, id)
            if before and user and user.password != before.password:
                after = "by password, a new one" if user.has_usable_password() else "not by password"
                record(Act.Verb.CHANGE, f"login of user {user}", after=after)
        return response


class BoundForm(forms.Form):
    """The fields of a bound. Both empty: none."""

    sources = forms.CharField(
        label="Bound to sources", required=False, help_text=bounds.SOURCES_HELP, widget=UnfoldAdminTextInputWidget(),
    )  # fmt: skip
    checks = forms.CharField(
        label="Bound to checks", required=False, help_text=bounds.CHECKS_HELP, widget=UnfoldAdminTextInputWidget(),
    )  # fmt: skip

    def clean_sources(self) -> list[str]:
        """The patterns. Raises ValidationError for what is none."""
        return bounds.patterns_of_sources(self.cleaned_data["sources"])

    def clean_checks(self) -> list[str]:
        """The patterns. Raises ValidationError for what is none."""
        return bounds.patterns_of_checks(self.cleaned_data["checks"])

    @property
    def bound(self) -> dict[str, list[str]]:
        """What a valid form says of it."""
        return {name: self.cleaned_data[name] for name in ("sources", "checks")}


class GroupForm(BoundForm, forms.ModelForm):  # type: ignore[type-arg]
    """A group, and what its users may touch by what it allows."""

    class Meta:
        model = Group
        fields = ("name", "permissions")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        permissions: Any = self.fields["permissions"]
        # Django makes one for each act on each table of each library: of most no page or call of ours asks.
        shown = ContentType.objects.get_for_models(*filter(admin.site.is_registered, apps.get_models())).values()
        used = Q(content_type__in=shown) | Q(group__name__in=Role.values) | Q(group=self.instance.pk or 0)
        permissions.queryset = permissions.queryset.filter(used).distinct()
        if bound := getattr(self.instance, "bound", None):
            self.initial = {"sources": ", ".join(bound.sources), "checks": ", ".join(bound.checks), **self.initial}


@admin.register(Group)
class OperatorGroupAdmin(GroupAdmin, RecordedAdmin):
    """The groups: the roles, and others that admins make. What a bound group allows, its users may do within the bound alone."""

    form = GroupForm
    fields = ("name", "permissions", "sources", "checks")
    list_display = ("name", "bound")
    list_select_related = ("bound",)

    @display(description="bound to", ordering="bound__sources")
    def bound(self, group: Group) -> str:
        """Sources and checks."""
        return bounds.in_words(group)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Commands and options name the roles.
        return ("name",) if obj and obj.name in Role else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may delete groups, or this one, which is no role."""
        return super().has_delete_permission(request, obj) and not (obj and obj.name in Role)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        bounds.bind(**form.bound, group=form.instance)
        super().save_related(request, form, formsets, change)

    def lost_with(self, obj: Group) -> str:
        """Who loses what it allows."""
        users = plain_count(obj.user_set.count(), "user")
        return f"{users} in group {obj} can't do any more what only it allows."

    def granted(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
        users = plain_count(User.objects.filter(groups__name=now["name"]).count(), "user")
        had, has = set(before.get("permissions", ())), set(now["permissions"])
        for verb, codenames in (("gives", has - had), ("takes from", had - has)):
            if codenames:
                yield f"Group {now['name']} {verb} {users} {listed(sorted(codenames))}."
        if before.get("bound") != now.get("bound"):
            bound = listed([*now["bound"]["sources"], *now["bound"]["checks"]], None) if "bound" in now else ""
            yield (
                f"Group {now['name']} is bound to {bound}." if bound else f"Group {now['name']} is not bound any more."
            )

    def told(self, obj: Group) -> dict[str, Any]:
        return {"name": obj.name, "permissions": codes(obj.permissions)} | bounds.told(obj)


def roles_of(user: User) -> str:
    """What a user may do: its groups, or everything."""
    return "everything" if user.is_superuser else ", ".join(group.name for group in user.groups.all())


def may_add_users(request: HttpRequest) -> bool:
    """Whether who calls may add users, with roles."""
    return bool(admin.site.get_model_admin(User).has_add_permission(request))


def codes(permissions: Any) -> list[str]:
    """Permissions as `checks.add_pin`, sorted."""
    rows = permissions.values_list("content_type__app_label", "codename").order_by(
        "content_type__app_label", "codename"
    )
    return [".".join(row) for row in rows]


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
        label="With the role", required=False, widget=UnfoldAdminSelectWidget(),
        choices=[("", "-"), *((role, f"{role}: {MEANINGS[role]}") for role in Role)],
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

    @display(ordering=_roles("user__"))
    def roles(self, token: Any) -> str:
        """The groups of the token's user."""
        return roles_of(token.user)

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
            "expiry": obj.expiry,
            "about_url": documentation.page("howto/tokens"),
        }
        return TemplateResponse(request, "admin/operators/token.html", context, headers={"Cache-Control": "no-store"})
