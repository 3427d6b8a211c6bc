"""Views of lists that people save: made from a list, opened by a link, deleted by their owner or an administrator."""

from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from acts.models import Act
from acts.recording import record
from checks.wire.scrub import scrub
from operators.admin.base import DeclaredAdmin, list_url
from operators.admin.changelists import list_called, model_of
from operators.errors import Lacks
from operators.models import SavedView
from operators.pages import base

# The longest query string of a view.
MOST_CHARACTERS = 4000


class ViewForm(forms.Form):
    """What a list says of a view that somebody saves. query: the list's query string."""

    name = forms.CharField(max_length=100)
    of = forms.CharField(max_length=100)
    query = forms.CharField(max_length=MOST_CHARACTERS)
    is_shared = forms.BooleanField(required=False)


class Refused(ValueError):
    """The view can't be saved. The message says why, on one line."""


@base.page
@require_POST
def save(request: HttpRequest) -> HttpResponse:
    """Save a list as it is now under a name, and show it again."""
    form = ViewForm(request.POST)
    site = _site(request, request.POST.get("of", ""))
    if form.data.get("is_shared") and not request.user.has_perm("operators.share_savedview"):
        raise Lacks("operators.share_savedview")
    query = QueryDict(request.POST.get("query", "")[:MOST_CHARACTERS]).dict()
    try:
        view = _save(request, site, form, query)
    except Refused as refused:
        messages.error(request, f"The view was not saved: {scrub(str(refused))}")
        known = {name: value for name, value in query.items() if not site.unknown(request, {name: value})}
        return redirect(list_url(site.model, **known))
    messages.success(request, f"The view {view.name} was saved.")
    return redirect(list_url(site.model, **query))


@base.page
def follow(request: HttpRequest, pk: int) -> HttpResponse:
    """The list as the view has it; a page that says so if the list has no more what it was made of."""
    view = get_object_or_404(SavedView.objects.seen_by(request.user), pk=pk)
    shown = {"view": view, "may_delete": view.is_deletable_by(request.user)}
    if model_of(view.of) is None:
        unknown = [f"there is no list {list_called(view.of)}"]
        return base.render(request, "operators/view.html", view.name, unknown=unknown, **shown)
    site = _site(request, view.of)
    if found := site.unknown(request, view.query):
        shown |= {"list": list_url(site.model), "what": list_called(view.of)}
        return base.render(request, "operators/view.html", view.name, unknown=map(scrub, found), **shown)
    return redirect(list_url(site.model, **view.query))


@base.page
@require_POST
@transaction.atomic
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a view, and show its list."""
    view = get_object_or_404(SavedView.objects.seen_by(request.user).select_for_update(of=("self",)), pk=pk)
    if not view.is_deletable_by(request.user):
        raise Lacks("operators.delete_savedview")
    record(Act.Verb.DELETE, _called(view), before=view.told())
    view.delete()
    messages.success(request, f"The view {view.name} was deleted.")
    model = model_of(view.of)
    return redirect(list_url(model) if model else "admin:index")


def called(request: HttpRequest, name: str, most: int) -> list[SavedView]:
    """The first views with this in their name that the user may follow, of all lists, and of those that are no more."""
    lists = (model for model in apps.get_models() if admin.site.is_registered(model))
    hidden = [model._meta.label_lower for model in lists if not _may_see(request, model._meta.label_lower)]
    return list(SavedView.objects.seen_by(request.user).filter(name__icontains=name).exclude(of__in=hidden)[:most])


def _save(request: HttpRequest, site: DeclaredAdmin, form: ViewForm, query: dict[str, Any]) -> SavedView:
    if not form.is_valid():
        raise Refused("; ".join(f"{name}: {errors[0]}" for name, errors in form.errors.items()))
    if any("\0" in text for text in query.values()):
        raise Refused("there is a null character in it.")
    if unknown := site.unknown(request, query):
        raise Refused(f"{'; '.join(unknown)}.")
    if any(scrub(text) != text for text in (form.cleaned_data["name"], *query.values())):
        raise Refused("there is what looks like a secret in it, which views do not keep.")
    of, name = site.opts.label_lower, form.cleaned_data["name"]
    owner: Any = request.user
    mine = SavedView.objects.filter(owner=owner, of=of)
    if mine.count() >= SavedView.MOST:
        raise Refused(f"you have {SavedView.MOST} views of this list. Delete one first.")
    try:
        with transaction.atomic():
            view: SavedView = mine.create(
                owner=owner, of=of, name=name, query=query, is_shared=form.cleaned_data["is_shared"]
            )
            record(Act.Verb.MAKE, _called(view), after=view.told())
    except IntegrityError:
        raise Refused(f"you have a view {name} of this list. Delete it first, or choose another name.") from None
    return view


def _called(view: SavedView) -> str:
    return f"view {view.name} of {list_called(view.of)}"


def _site(request: HttpRequest, label: str) -> DeclaredAdmin:
    """The list of this model, if the user may see it."""
    if not _may_see(request, label):
        raise Http404
    site: Any = admin.site.get_model_admin(apps.get_model(label))
    return site  # type: ignore[no-any-return]


def _may_see(request: HttpRequest, label: str) -> bool:
    model = model_of(label)
    return model is not None and admin.site.get_model_admin(model).has_view_permission(request)
