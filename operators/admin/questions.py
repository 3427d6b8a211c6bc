"""What somebody is asked before an act that has no plan: what it does, and what follows. One page for all."""

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any, Self

from cryptography.fernet import Fernet, InvalidToken
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.signing import BadSignature, Signer
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import strip_tags
from django.utils.safestring import SafeString

from acts.models import Act
from acts.recording import foresee, record
from checks.dispatcher import REFUSALS
from checks.dispatcher.acting import NAMED, record_refusal
from checks.explain import objections
from checks.explain.aftermath import Moving, titled
from checks.explain.forecasts import Forecast
from checks.explain.foreseen import moved
from checks.models import Config
from checks.wire.scrub import scrub
from clusteragent.lib import clock
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import natural, plain_count
from operators import returning
from operators.admin.base import Table, first_of, link, list_url, numbered, row_url
from operators.admin.editing import REOPEN
from operators.admin.greying import DELETE
from operators.admin.sameness import NO_DEED, Deed
from operators.ciphers import cipher

MOST_LISTED = 100
# So many are put in order for that.
MOST_SORTED = 5000
# Of so many configs that would stop or move, a page says which it has shown.
MOST_NAMED = 1000
_MANY = "many"
# Of more moves than these another goal is no reason to ask again: loads change all the time, and nobody could ever answer.
MOST_GOALS = 20
# What the page adds to what was sent.
_OWN_FIELDS = {"csrfmiddlewaretoken", "seen", "typed", "post"}
# What is typed here is on the page sealed alone, for so many seconds and this session.
_SECRET = ("password1", "password2")
_SEALED, SEALED_FOR = "sealed_", 900


def seen_of(about: Iterable[object], *numbers: int, stops: Iterable[int] = (), moves: Iterable[object] = ()) -> str:
    """What stands for the rows that an act is done to, and for numbers that are the worse the larger they are: see `Question`.

    stops, moves: the ids of configs that would run nowhere, and what stands for those that would move: see `goals`. Of more than
    MOST_NAMED their number alone counts.
    """
    rows = hashlib.sha256(repr(sorted(map(str, about))).encode()).hexdigest()
    return "+".join(["-".join([rows, *map(str, numbers)]), _named(stops), _named(moves)])


def _named(ids: Iterable[object]) -> str:
    found = sorted(map(str, ids))
    return ".".join(found) if len(found) <= MOST_NAMED else _MANY


def seen_of_moves(about: Iterable[object], *numbers: int, lost: Sequence[Moving], moves: Sequence[Moving]) -> str:
    """The same of an act after which configs stop and move. Where each of many would go is decided by then: it does not count."""
    ids = [one.config for one in lost]
    return seen_of(
        about, len(lost), len(moves), *numbers, stops=ids, moves=goals([(one.config, one.to) for one in moves])
    )


def goals(moves: Sequence[tuple[int, str]]) -> list[str]:
    """What stands for these moves, (config's id, node's name), for `seen_of`: of a few also where each would go."""
    if len(moves) > MOST_GOALS:
        return [str(config) for config, _ in moves]
    return [f"{config}_{hashlib.sha256(to.encode()).hexdigest()[:12]}" for config, to in moves]


def tens(peak: Sequence[float]) -> int:
    """The highest load that something leads to, in steps of ten percent, for `seen_of`; 0 if it raises none."""
    return math.ceil(peak[1] * 10) if objections.worse(peak, 0) else 0


def said(rows: Iterable[Model]) -> list[tuple[Any, ...]]:
    """All that these rows say, for `seen_of`: once a colleague has changed one, a page about it asks about something else."""
    return [tuple(field.value_from_object(row) for field in row._meta.concrete_fields) for row in rows]


def is_agreed(seen: str, now: str) -> bool:
    """Whether who saw the one agreed to the other: it is about the same, no number is larger, and no other config stops or moves.

    Smaller ones are no reason to ask again: nodes and configs come and go while people read.
    """
    (shown, *known), (foreseen, *named) = seen.split("+"), now.split("+")
    if any(_has_others(before, then) for before, then in zip(known, named, strict=False)):
        return False
    (about, *numbers), (same, *later) = shown.split("-"), foreseen.split("-")
    return (about, len(numbers)) == (same, len(later)) and all(
        then.isdecimal() and int(then) >= int(number) for then, number in zip(numbers, later, strict=True)
    )


def _has_others(before: str, then: str) -> bool:
    """Whether configs are named that were not before, or lead elsewhere. Of many it was not said where they go."""
    known = set(before.split("."))
    return before != _MANY and any(
        {one, one.partition("_")[0]}.isdisjoint(known) for one in filter(None, then.split("."))
    )


def is_about(seen: str, about: Iterable[object]) -> bool:
    """Whether what was seen was about these rows, whatever followed."""
    return seen.partition("-")[0] == seen_of(about).partition("+")[0]


def seen_of_form(form: Any, *numbers: int) -> str:
    """The fingerprint of a form without secrets, as it was sent: another one was not shown. numbers: see `seen_of`."""
    sent = ((name, values) for name, values in form.data.lists() if name not in _OWN_FIELDS and name[:1] != "_")
    return seen_of(sent, *numbers)


def seen_by(request: HttpRequest, button: str, name: str = "seen", place: str = "") -> str:
    """What the user has seen before pressing this button, by a page that sends it back as `name`; empty if nothing was shown.

    place: where it was shown, if that is not where it is sent to.
    """
    try:
        return _signer(request, button, place).unsign(request.POST.get(name, ""))
    except BadSignature:
        return ""


def _signer(request: HttpRequest, button: str, place: str) -> Signer:
    return Signer(salt=f"operators.admin.questions {request.session.session_key} {place or request.path} {button}")


def word_of(names: Sequence[str], kind: str) -> str:
    """What must be typed for these: the name of the only one, else how many there are: `12 nodes`; empty for none."""
    if len(names) == 1:
        return names[0]
    return plain_count(len(names), kind) if names else ""


def is_typed(request: HttpRequest, word: str) -> bool:
    """Whether the user typed this word, with blanks as a page shows them."""
    return request.POST.get("typed", "").split() == word.split()


def word_of_configs(rows: Sequence[tuple[str, str]]) -> str:
    """What must be typed where these would run nowhere, [(title, check)]: the title of the only one, else the check's name if
    they are of one, else how many they are; empty for none.
    """
    titles, checks = [title for title, _ in rows], {scrub(check) for _, check in rows}
    return checks.pop() if len(titles) > 1 and len(checks) == 1 else word_of(titles, "config")


def only(rows: Sequence[Model] | QuerySet[Any], model: type[Model]) -> Model | type[Model]:
    """The only one of these rows; of several their model."""
    return rows[0] if len(rows) == 1 else model


def unseal(request: HttpRequest) -> None:
    """Let a form that comes back from the page that asks have its passwords again; empty ones if that took too long."""
    if request.method != "POST":
        return
    sent = request.POST.copy()
    for name in _SECRET:
        if sealed := sent.pop(f"{_SEALED}{name}", None):
            try:
                opened = _cipher(request).decrypt_at_time(str(sealed[-1]), SEALED_FOR, _now()).decode()
            # What is no ASCII is no base64 either, which is another error.
            except (InvalidToken, ValueError):
                opened = ""
            sent[name] = opened
    request.POST = sent  # type: ignore[assignment]


def _sealed(request: HttpRequest, name: str, value: str) -> tuple[str, str]:
    """A field as the page that asks has it, hidden."""
    if name not in _SECRET or not value:
        return name, value
    return f"{_SEALED}{name}", _cipher(request).encrypt_at_time(value.encode(), _now()).decode()


def _cipher(request: HttpRequest) -> Fernet:
    return cipher("operators.admin.questions", request.session.session_key or "")


def _now() -> int:
    """Seconds since 1970 by the database's clock: another replica may get the answer."""
    return int(clock.now().timestamp())


@dataclass(frozen=True)
class Question:
    """What an act would do, for a page that asks whether it is meant.

    what: the act. sentences: what it does and what follows. worse: what is bad about it, in red. seen: stands for what people
    decide on, by `seen_of`; unless who answers agreed to it, nothing is done. word: what must be typed; empty for nothing.
    is_dangerous: whether the button is red, as it is where something must be typed. asks_why: whether there is a field for a
    note. same: how the same is done elsewhere. moves: what would move or stop. configs, nodes:
    the ids and names of those that it is done to. All of them have the act on their pages. text: what would be written, as
    people see it.
    """

    what: str
    sentences: Sequence[str] = ()
    worse: Sequence[str] = ()
    tables: Sequence[Table] = ()
    seen: str = "yes"
    word: str = ""
    button: str = "Apply"
    is_dangerous: bool = False
    asks_why: bool = False
    same: Deed = NO_DEED
    moves: Sequence[Moving] = ()
    configs: Collection[int] = ()
    nodes: Collection[str] = ()
    text: str = ""

    @property
    def has_open_goals(self) -> bool:
        """Whether some other node than it shows may get a config: see `goals`."""
        return len(self.moves) > MOST_GOALS

    @classmethod
    def of(
        cls, foresee: Callable[[], Forecast], button: str, about: Iterable[object] = (), same: Deed = NO_DEED
    ) -> Self:
        """The question about what is foreseen. about: the rows that the act is done to. Raises REFUSALS, which are on record."""
        try:
            forecast = foresee()
        except REFUSALS as refusal:
            record_refusal(button.lower(), refusal)
            raise
        left = [one for one in forecast.moves if one.source and not one.to]
        lost, red = len(left), objections.nowhere(len(left))
        tables = [moving_table("What would move", forecast.moves)] if forecast.moves else []
        if len(forecast.configs) > NAMED:
            # The act names the first of them alone.
            tables.append(_named_table(forecast.configs))
        sentences = [scrub(one) for one in forecast.sentences if one != red]
        worse = [red] if lost else []
        word = word_of_configs([(title, one.check) for one, title in titled(left)])
        seen = seen_of_moves(about, int(forecast.is_balanced), lost=left, moves=forecast.moves)
        return cls(
            scrub(forecast.what),
            sentences,
            worse,
            tables,
            seen,
            word,
            button,
            same=same,
            moves=forecast.moves,
            configs=forecast.configs,
            nodes=forecast.nodes,
        )

    def agreed(self, seen: str) -> str | None:
        """Return the word that must be typed by somebody who has seen this; None if something else is asked now, or worse."""
        return self.word if is_agreed(seen, self.seen) else None

    def signed(self, request: HttpRequest, place: str = "") -> str:
        """What a page that shows this sends back, which counts for this act, session and place alone. place: see `seen_by`."""
        return _signer(request, self.button, place).sign(self.seen)

    def unanswered(
        self, request: HttpRequest, back: str, row: Model | type[Model] | None = None, *, reopens: bool = False
    ) -> HttpResponse | None:
        """Return the page that asks; None if the user has answered it: what it said is on record with the act that follows.
        Answers that come too late are, too.

        back: where *Cancel* leads, unless the form names its page. row: the one row that it is about, which the heading
        names if it is stored; of several rows their model. reopens: *Cancel* leads to the form that was sent, with all that was
        written there.
        """
        problem = self._problem(request) if request.method == "POST" and request.POST.get("seen") else ""
        if problem is None:
            self.note()
            return None
        context = admin.site.each_context(request) | self._context(request)
        context["elsewhere"] = numbered(self.same.told(request))
        context |= {"problem": problem, "back": returning.named(request, back), "reopen": REOPEN if reopens else ""}
        if row is not None:
            context["opts"] = row._meta
        if isinstance(row, Model) and row.pk:
            # A phone has room for no more of the heading than the row's name.
            context["original"] = row
        return TemplateResponse(request, "admin/question.html", context)

    def note(self) -> None:
        """Let the act that follows say what the user was shown here."""
        tables = {table.title: [[_plain(cell) for cell in row] for row in table.rows] for table in self.tables}
        configs, nodes = moved(self.moves, self.configs, self.nodes)
        foresee(self.sentences, worse=self.worse, tables=tables, configs=configs, nodes=nodes)

    def _problem(self, request: HttpRequest) -> str | None:
        """Why what the user answered does not count, on record; None if it does."""
        word = self.agreed(seen_by(request, self.button))
        if word is None:
            problem = "Nothing was done, since something changed. This is what it would do now."
        elif word and not is_typed(request, word):
            problem = f"Nothing was done: type {self.word} to confirm it."
        else:
            return None
        configs, nodes = moved(self.moves, self.configs, self.nodes)
        why = problem.split(". ")[0].rstrip(".")
        record(Act.Verb.REFUSE, self.what, reason=why, configs=configs[:MOST_LISTED], nodes=nodes[:MOST_LISTED])
        return problem

    def _context(self, request: HttpRequest) -> dict[str, Any]:
        own = _OWN_FIELDS | {"note"} if self.asks_why else _OWN_FIELDS
        return {
            "title": self.button,
            "question": self,
            "seen": self.signed(request),
            "word": self.word,
            "worse": self.worse,
            "tables": self.tables,
            "hidden": [
                _sealed(request, name, str(value))
                for name, values in request.POST.lists()
                if name not in own
                for value in values
            ],
            "note": request.POST.get("note", ""),
        }


# Unfold's ModelAdmin is untyped; a class that derives from both must not get the types of Django's.
_DjangoModelAdmin: Any = admin.ModelAdmin


class ShownDeletions(_DjangoModelAdmin):
    """Deletions, of one row and of several, that are shown before they are made. Name it before unfold's ModelAdmin."""

    actions: Any = (DELETE,)

    def question(self, rows: Sequence[Any]) -> Question:
        """What deleting these rows does. Raises REFUSALS where that is no matter of asking."""
        raise NotImplementedError

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Show what deleting a row would do until that is confirmed, then delete it."""
        obj = self.get_object(request, unquote(object_id))
        allowed = obj is not None and self.has_delete_permission(request, obj)
        if allowed and (page := self.question([obj]).unanswered(request, row_url(obj), obj)):
            return page
        response: HttpResponse = super().delete_view(request, object_id, extra_context)
        return response

    @admin.action(description="Delete…", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Show what deleting these rows would do until that is confirmed, then delete them."""
        chosen = list(queryset)
        # What goes with them may need more permissions.
        _, _, needed, protected = self.get_deleted_objects(chosen, request)
        if needed or protected:
            raise PermissionDenied
        if page := self.question(chosen).unanswered(request, list_url(self.model), only(chosen, self.model)):
            return page
        self.log_deletions(request, queryset)
        self.delete_queryset(request, queryset)
        messages.success(request, f"{plain_count(len(chosen), str(self.opts.verbose_name))} deleted.")
        return None


def _named_table(ids: Collection[int]) -> Table:
    """A table of these configs: the first MOST_LISTED by their titles."""
    rows = (
        Config.objects.filter(pk__in=ids).order_by(Natural("title"), "pk").values_list("pk", "title", "name", "digest")
    )
    first = list(rows[:MOST_LISTED])
    shown = zip([pk for pk, *_ in first], Config.objects.told_apart(first), strict=True)
    return Table(
        first_of("Configs", len(first), len(ids)), ("config",), [(link(Config(pk=pk), name),) for pk, name in shown]
    )


def _plain(cell: object) -> str:
    """A cell of a table as people read it."""
    return unescape(strip_tags(cell)) if isinstance(cell, SafeString) else str(cell)


def moving_table(title: str, rows: Sequence[Moving]) -> Table:
    """A table of configs that would move: the first MOST_LISTED by their titles."""
    named = sorted(titled(rows[:MOST_SORTED]), key=lambda one: natural(one[1]))[:MOST_LISTED]
    shown = [(link(Config(pk=row.config), name), row.source or "nobody", row.to or "nobody") for row, name in named]
    return Table(first_of(title, len(shown), len(rows)), ("config", "from", "to"), shown)
