"""The search box: finds check IDs, nodes, files and any text of a config."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html_join

from checks.models import Assignment, Config, Instance, Origin
from checks.models.configs import containing, displayable
from checks.models.orders import Pause
from checks.wire.scrub import scrub
from clusteragent.lib.database.natural import Natural
from nodes.models import Node
from operators.admin.base import first_words, list_url, row_url
from operators.admin.changelists import counted
from operators.pages import base, views
from operators.pages.phrases import spoken
from operators.queries import CONFIG_WORDS, NODE_WORDS, OWN_NODE_WORDS, completed, matching
from operators.roles import sees_digests
from operators.terms import MOST_CHARACTERS, BadQuery, Term, parse, written

# The most hits of each kind, on the page and in the palette.
MOST, MOST_OF_A_KIND = 100, 5
# So many are looked at, so that few need no count: that would take as long as finding them.
MOST_AHEAD = 300
# The most characters that are shown before and after a found word.
AROUND = 60


@dataclass(frozen=True)
class Hit:
    """A search result. config: the id of its config. context: the text before the found word, the word, and the text after it."""

    url: str
    text: str
    config: int | None = None
    context: Sequence[str] = ()


@dataclass(frozen=True)
class Group:
    """The hits of one kind. more: the URL of all of them, if there are more; number: how many, if that is counted quickly."""

    title: str
    hits: list[Hit]
    more: str = ""
    number: int | None = None


@base.page
def search(request: HttpRequest) -> HttpResponse:
    """The results of a search. If the query names exactly one thing, redirect to its page.

    unfold's palette asks the same address with `?s=`, for a list of links.
    """
    exact = sees_digests(request.user)
    if "s" in request.GET:
        return TemplateResponse(request, "operators/palette.html", _palette(request, exact))
    query = first_words(request.GET.get("q", "").replace("\0", ""))
    named = [*map(row_url, Node.objects.filter(name=query)[:2])]
    configs = Config.objects.called(query, exact=exact) or Config.objects.filter(title=query).values_list(
        "pk", flat=True
    )
    named += map(_page, configs[:2])
    if len(named) == 1:
        return redirect(named[0])
    refused: list[str] = []
    groups = (
        [group for group in _groups(query, exact, refused) if group.hits or (group.more and group.number != 0)]
        if query
        else []
    )
    found = filter(None, (hit.config for group in groups for hit in group.hits))
    if not groups:
        refused += _no_filter(query)
    where = _where(list(found))
    shown = [(group, [(hit, where.get(hit.config or 0, "on no node")) for hit in group.hits]) for group in groups]
    context = {"searched": query, "groups": shown, "most": MOST, "refused": refused}
    return base.render(request, "operators/search.html", "Search", **context)


def _where(ids: Collection[int]) -> dict[int, str]:
    """Where these configs run, of those that run or are paused: {id: words}."""
    paused = Pause.objects.of(ids).values_list("config_id", flat=True)
    owners = Assignment.objects.filter(config__in=ids).values_list("config_id", "node__name")
    return dict.fromkeys(filter(None, paused), "paused") | {pk: f"on {name}" for pk, name in owners}


def _no_filter(query: str) -> list[str]:
    """Why what looks like a filter, and is no text of anything, is none."""
    errors = []
    for title, words in (("Configs", CONFIG_WORDS), ("Nodes", OWN_NODE_WORDS)):
        try:
            parse(query, words)
        except BadQuery as error:
            errors.append(f"{title}: {scrub(str(error))}.")
    return errors if len(errors) == 2 else []  # the other list has such a filter


@base.fragment
def completions(request: HttpRequest, rows: str) -> HttpResponse:
    """What a filter bar may go on with, as options of its list. rows: configs or nodes."""
    words = {"configs": CONFIG_WORDS, "nodes": NODE_WORDS}[rows]
    query = request.GET.get("q", "")[:MOST_CHARACTERS].replace("\0", "")
    options = format_html_join("\n", '<option value="{}" label="{}"></option>', completed(query, words))
    return HttpResponse(options)


def _palette(request: HttpRequest, exact: bool) -> dict[str, Any]:
    """The palette's lines [(URL, text, what it is)]: pages, acts, views, then hits, at last the search for all."""
    query = first_words(request.GET["s"].replace("\0", ""))
    if not query:
        return {"lines": []}
    pages = (page for group in base.navigation(request) for page in group["items"])
    titles = ((page["link"], page["title"], "Page") for page in pages)
    acts = ((url, title, "Act") for url, title in base.acts(request))
    lines = [(url, title, "Act") for url, title in spoken(request, query)]
    lines += [line for line in (*titles, *acts) if query.lower() in line[1].lower()]
    lines += [
        (reverse("pages:view", args=[view.pk]), view.named_for(request.user), "View")
        for view in views.called(request, query, MOST_OF_A_KIND)
    ]
    lines += [
        (hit.url, hit.text, group.title) for group in _groups(query, exact, []) for hit in group.hits[:MOST_OF_A_KIND]
    ]
    # Without its query an answer might be taken for that of what was typed since.
    return {
        "of": request.GET["s"],
        "lines": [*lines, (f"{reverse('pages:search')}?{urlencode({'q': query})}", query, "Search all")],
    }


def _groups(query: str, exact: bool, refused: list[str]) -> Iterable[Group]:
    """The hits. What the bars of lists understand is a filter, and text only if nothing fits it. refused: gets why it is none."""
    filtered = list(_filtered(query, exact, refused))
    yield from filtered
    if not any(group.hits for group in filtered):
        yield from _with_text(query, exact)


def _filtered(query: str, exact: bool, refused: list[str]) -> Iterable[Group]:
    """The configs and nodes that the bars above their lists would find, if the query has a word of theirs."""
    configs, nodes = (
        Config.objects.only("name", "title", "digest").order_by(Natural("title"), "pk"),
        Node.objects.with_state(),
    )
    bars: Any = (
        ("Configs", configs, CONFIG_WORDS, lambda rows, text: rows.containing(text, exact=exact)),
        (
            "Nodes",
            nodes.order_by(Natural("name")),
            OWN_NODE_WORDS,
            lambda rows, text: rows.filter(name__icontains=text),
        ),
    )
    errors, asked = [], 0
    for title, rows, words, free in bars:
        try:
            if not any(term.word for term in parse(query, words)):
                continue
        except BadQuery:
            # It is text, or for the other bar.
            continue
        asked += 1
        try:
            found = matching(rows, query, words, free)[: MOST + 1]
        except BadQuery as error:
            errors.append(f"{title}: {scrub(str(error))}.")
            continue
        hits = _configs(found) if rows.model is Config else [Hit(row_url(one), str(one)) for one in found]
        number = counted(matching(rows, query, words, free)) if len(hits) > MOST else len(hits)
        yield Group(f"{title} that fit the filter", hits[:MOST], list_url(rows.model, q=query), number)
    if asked and len(errors) == asked:
        refused += errors


def _with_text(query: str, exact: bool) -> Iterable[Group]:
    """What has these words: a config once, where it is found first."""
    words = query.split()
    all_configs = list_url(Config, q=written(Term("", word) for word in words))
    of_ours = displayable("config__")
    seen: set[int | None] = set()
    instances = _with_all(Instance.objects.filter(of_ours), "shown_name", words).order_by("shown_name", "pk")
    ahead = list(instances[:MOST_AHEAD])
    named = _named([(one.config_id, one.shown_id(exact=exact)) for one in ahead[: MOST + 1]], words[0])
    yield _group("Configs by check ID", named, seen, all_configs)
    nodes = _with_all(Node.objects.all(), "name", words)
    found = (Hit(row_url(one), one.name) for one in nodes[: MOST + 1])
    url = list_url(Node, q=written(Term("", word) for word in words))
    yield _group("Nodes", found, set(), url, partial(counted, nodes))
    origins = _with_all(Origin.objects.filter(of_ours), "shown", words).exclude(config__in=_known(seen))
    origins = origins.order_by("shown", "source")
    named = _named([(one.config_id, str(one)) for one in origins[: MOST + 1]], words[0])
    yield _group("Configs by file or name", named, seen)
    texts = Config.objects.with_texts(words)
    ids = list(texts.values_list("pk", flat=True)[:MOST_AHEAD])
    others = [pk for pk in ids if pk not in seen][: MOST + 1]
    shown = Config.objects.filter(pk__in=others).only("name", "title", "digest", "text")
    # What is seen already may be only the first part of what there is.
    count = partial(_number, ids, texts)
    yield _group("Configs by their text", _configs(shown, words[0]), seen, all_configs, count, is_cut=len(seen) >= MOST)


def _number(ahead: Sequence[Any], rows: QuerySet[Any]) -> int | None:
    """How many rows there are, of which the first MOST_AHEAD were looked at; None if counting takes too long."""
    return len(ahead) if len(ahead) < MOST_AHEAD else counted(rows)


def _known(seen: set[int | None]) -> list[int]:
    return [config for config in seen if config is not None]


def _configs(found: Iterable[Any], word: str = "") -> list[Hit]:
    """Hits of configs. word: what was found in their text, to be shown."""
    configs = list(found)
    names = Config.objects.told_apart([(one.pk, one.title, one.name, one.digest) for one in configs])
    return [
        Hit(row_url(one), name, one.pk, around(one.text, word) if word else ())
        for one, name in zip(configs, names, strict=True)
    ]


def _named(found: Sequence[tuple[int, str]], word: str) -> list[Hit]:
    """Hits of configs by other names of theirs. found: [(config's id, the name that was found)]."""
    configs = Config.objects.filter(pk__in={pk for pk, _ in found}).only("name", "title", "digest")
    hits = {hit.config: hit for hit in _configs(configs)}
    return [replace(hits[pk], context=around(name, word)) for pk, name in found if pk in hits]


def _page(config_id: int) -> str:
    return row_url(Config(pk=config_id))


def _with_all(rows: QuerySet[Any], column: str, words: Sequence[str]) -> QuerySet[Any]:
    return reduce(lambda found, word: containing(found, column, word), words, rows)


def _group(
    title: str,
    hits: Iterable[Hit],
    seen: set[int | None],
    more: str = "",
    count: Callable[[], int | None] | None = None,
    *,
    is_cut: bool = False,
) -> Group:
    """The hits of configs that are not among those seen, which they join.

    more: the list of all of them. count: counts them. is_cut: whether there are more than these hits.
    """
    found, shown = list(hits), list[Hit]()
    for hit in found[:MOST]:
        if hit.config is None or hit.config not in seen:
            shown.append(hit)
            seen.add(hit.config)
    is_cut = is_cut or len(found) > MOST
    return Group(title, shown, more if is_cut else "", count() if is_cut and count else None)


def around(text: str, word: str) -> Sequence[str]:
    """(text before the word in its line, the word, text after it); empty if it differs by more than case."""
    start = text.lower().find(word.lower())
    if start < 0:
        return ()
    end = start + len(word)
    before = text[max(0, start - AROUND) : start].rpartition("\n")[2]
    return before, text[start:end], text[end : end + AROUND].partition("\n")[0]
