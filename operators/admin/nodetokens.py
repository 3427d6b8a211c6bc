"""Node tokens in the admin: made, shown once, and revoked."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from checks.wire.scrub import scrub
from clusteragent.lib import conf
from clusteragent.lib.words import listed, plain_count, utc
from nodes import tokens
from nodes.models import Node, NodeToken, SharedTokenUse
from operators import documentation
from operators.admin.base import TABLE_ROWS, DeclaredAdmin, Table, link, list_url
from operators.admin.orderforms import UntilField, settle_ends
from operators.admin.questions import Question, ShownDeletions, seen_of, seen_of_form
from operators.admin.sameness import NO_DEED, Call, Deed


class NodeTokenForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a new token opens, from where, and until when."""

    expires_at = UntilField(label="Ends", empty="never")

    class Meta:
        model = NodeToken
        fields = ("note", "pattern", "kubernetes_pattern", "networks", "expires_at")
        widgets = dict.fromkeys(("note", "pattern", "kubernetes_pattern", "networks"), UnfoldAdminTextInputWidget)

    def clean(self) -> Any:
        if not self.errors:
            tokens.check(NodeToken(**self.cleaned_data))
        return self.cleaned_data


@admin.register(NodeToken)
class NodeTokenAdmin(ShownDeletions, DeclaredAdmin):
    """The node tokens. Only their hashes are stored."""

    form = NodeTokenForm
    empty = (
        "A node token opens the agents' port for the nodes of a pool alone. Without one, the shared token opens it for all"
        " names."
    )
    list_display = (
        "key",
        "shown_note",
        "pattern",
        "kubernetes_pattern",
        "networks",
        "expires_at",
        "last_used_at",
        "author",
    )
    list_before_template = "admin/operators/node_tokens.html"
    change_form_outer_after_template = "admin/tables.html"
    search_fields = ("note", "pattern", "key")
    search_help_text = "Whose it is, a pattern, or how a token begins"
    ordering = ("note", "time")
    show_full_result_count = False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return NodeTokenForm.Meta.fields
        return ("key", "shown_note", *NodeTokenForm.Meta.fields[1:], "last_used_at", "author", "time")

    def question(self, rows: Sequence[Any]) -> Question:
        sentences = [scrub(tokens.consequence(row)) for row in rows]
        opened = [tokens.opens(row) for row in rows]
        named = listed([scrub(tokens.named(row)) for row in rows])
        call = Call("nodetoken-detail", [rows[0].key], method="DELETE")
        same = Deed(["nodetoken", "revoke", rows[0].key], call) if len(rows) == 1 else NO_DEED
        tables = [_table(opened[0])] if len(rows) == 1 else []
        seen = seen_of(sentences, sum(map(len, opened)))
        return Question(f"Delete {named}", sentences, tables=tables, seen=seen, button="Delete", same=same)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="note", ordering="note")
    def shown_note(self, token: NodeToken) -> str:
        """Whose it is, without secrets."""
        return scrub(token.note)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        more = {
            "rotate_url": documentation.page("howto/rotate-node-tokens"),
            "shared": SharedTokenUse.objects.sentence(),
            "shared_tables": self._uses(),
        }
        return super().changelist_view(request, {**(extra_context or {}), **more})

    def _uses(self) -> list[Table]:
        """The names for which the shared token was shown lately, so that would be refused if it were switched off."""
        uses = list(SharedTokenUse.objects.lately().order_by("name")[:TABLE_ROWS]) if conf.SHARED_TOKEN_OPENS else []
        known = {node.name: node for node in Node.objects.filter(name__in=[use.name for use in uses]).only("name")}
        rows = [
            (link(known[use.name]) if use.name in known else use.name, utc(use.last_used_at), use.address or "")
            for use in uses
        ]
        return [Table.of("Names that use the shared token now", ("Name", "Last used", "From"), rows)] if rows else []

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            context["tables"] = [_table(tokens.opens(obj))]
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Show what a token would open until that is confirmed, then make it."""
        if form := self.sent_form(request, None):
            settle_ends(request, form)
            token = form.instance
            sentences, worse = tokens.opened(token)
            cut, opened = tokens.cut_off(token.pattern), tokens.opens(token)
            question = Question(
                f"Make a node token of {scrub(token.note)}",
                sentences,
                [*worse, *filter(None, [tokens.stats_lost(cut)])],
                [_table(opened)],
                # Who loads the answer anew makes no second one unasked.
                seen=seen_of_form(form, len(cut), len(opened), NodeToken.objects.count()),
                button="Make the token",
            )
            if page := question.unanswered(request, list_url(NodeToken), token):
                return page
        response: HttpResponse = super().add_view(request, form_url, extra_context)
        return response

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.author = request.user.get_username()
        obj.shown_once = tokens.make(obj)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        tokens.revoke([obj])

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        tokens.revoke(queryset)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the token on a page of its own: a message would be stored in the session."""
        context = self.admin_site.each_context(request) | {
            "title": f"Node token of {scrub(obj.note)}",
            "opts": self.opts,
            "token": obj.shown_once,
            "row": obj,
            "ends": utc(obj.expires_at) if obj.expires_at else "",
        }
        return TemplateResponse(
            request, "admin/operators/node_token.html", context, headers={"Cache-Control": "no-store"}
        )


def _table(opened: Sequence[Node]) -> Table:
    """The nodes that a token opens: see `tokens.opens`."""
    title = f"It opens {plain_count(len(opened), 'node')} that {'reports' if len(opened) == 1 else 'report'} now"
    return Table.of(title, ("Node",), ([link(node)] for node in opened[:TABLE_ROWS]))
