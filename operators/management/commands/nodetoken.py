"""manage.py nodetoken: make, list and revoke the tokens of node agents."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from acts.recording import person
from checks.management import commandline
from checks.management.commandline import ActingCommand
from clusteragent.lib import conf, deadlines
from clusteragent.lib.words import escape_controls, utc
from nodes import tokens
from nodes.models import NodeToken, SharedTokenUse
from nodes.models.tokens import KEY

# {option of `add` and `set`: the field that it fills}
_FIELDS = {
    "note": "note",
    "nodes": "pattern",
    "kubernetes_nodes": "kubernetes_pattern",
    "networks": "networks",
    "until": "expires_at",
}


class Command(ActingCommand):
    """Prints a new token to standard output; lists and revokes tokens by their first characters."""

    help = (
        "Make (add), list or revoke tokens of node agents, each for the nodes of a pool. A new one is written once, to standard"
        " output, and only its hash is kept. What `set` is given is made elsewhere: the tokens with this note are those of a"
        " file from then on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=("add", "list", "revoke", "set"), help="what to do")
        parser.add_argument(
            "token", nargs="*", metavar="TOKEN", help="revoke: how the token begins, as `list` shows it"
        )
        parser.add_argument("--note", metavar="TEXT", help="add, set: whose it is; who is refused reads it")
        parser.add_argument("--nodes", metavar="PATTERN", help="add, set: the names that it opens, as runner-*")
        parser.add_argument(
            "--kubernetes-nodes",
            metavar="PATTERN",
            help="add, set: the Kubernetes nodes whose endpoint checks it opens",
        )
        parser.add_argument(
            "--networks", metavar="RANGES", help="add, set: where it may be shown from, as 10.1.0.0/16,fd00::/8"
        )
        parser.add_argument(
            "--token-file", type=Path, metavar="FILE", help="set: the tokens of this note, with blanks between"
        )
        commandline.add(
            parser, "--until", help="add, set: when it ends, as 2027-12-24 08:00; add: or 90d; by default never"
        )
        commandline.add(parser, "--json")
        commandline.add(parser, "--dry-run", help="add, set, revoke: only say what would be done")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        action = options["action"]
        if action != "revoke" and options["token"]:
            raise CommandError(f"{action} takes no TOKEN")
        taken = {"add": set(_FIELDS), "set": {*_FIELDS, "token_file"}}.get(action, set())
        for name in (*_FIELDS, "token_file"):
            if name not in taken and options[name] is not None:
                raise CommandError(f"{action} takes no --{name.replace('_', '-')}")
        if action == "list" and options["dry_run"]:
            raise CommandError("list changes nothing: it takes no --dry-run")
        getattr(self, f"_{action}")(options)

    def _add(self, options: dict[str, Any]) -> None:
        row = NodeToken(**_fields(options), expires_at=commandline.parse_until(options), author=person())
        try:
            with commandline.trial(options):
                token = tokens.make(row)
        except ValidationError as error:
            raise CommandError(_described(error)) from error
        lost = list(filter(None, [tokens.stats_lost(row.without_stats)]))
        if options["dry_run"]:
            # Neither the token nor how it begins: the real run makes another one.
            document = {name: value for name, value in row.told().items() if name != "key"} | {"dry_run": True}
            sentences, worse = tokens.opened(row)
            document["sentences"] = [*worse, *lost, *sentences]
            lines = [f"A node token would be made for {row.described()}", *document["sentences"]]
            commandline.answer(self, options, document | {"without_stats": row.without_stats}, lines)
            return
        if options["json"]:
            self.stdout.write(json.dumps(row.told() | {"without_stats": row.without_stats, "token": token}))
            return
        self.stdout.write(token)
        ends = utc(row.expires_at) if row.expires_at else "it is revoked"
        said = [f"It opens nodes {escape_controls(row.pattern)} until {ends}. It is not shown again.", *lost]
        self.stderr.write(" ".join(said))

    def _set(self, options: dict[str, Any]) -> None:
        fields, given = _fields(options, "token_file"), _given(options["token_file"])
        of_note = NodeToken.objects.filter(note=fields["note"])
        before = {row.pk: row for row in of_note}
        lost = tokens.stats_lost(tokens.cut_off(fields["pattern"]))
        try:
            with commandline.trial(options):
                said = tokens.declare(given, expires_at=_end(options), **fields)
                after = {row.pk: row for row in of_note.all()}
        except ValidationError as error:
            raise CommandError(_described(error)) from error
        lines = [said]
        if options["dry_run"]:
            stored = [f"{row.key}… would be stored: {row.described()}" for pk, row in after.items() if pk not in before]
            revoked = [_would_be_revoked(row) for pk, row in before.items() if pk not in after]
            lines = [*stored, *revoked, *filter(None, [lost if stored else ""])] or ["Nothing would change."]
        document = {"tokens": [token[:KEY] for token in given], "done": said} | commandline.as_told(options)
        commandline.answer(self, options, document, lines)

    def _list(self, options: dict[str, Any]) -> None:
        rows = list(NodeToken.objects.all())
        used = {row.key: row.last_used_at for row in rows}
        document: dict[str, Any] = {
            "tokens": [row.told() | {"author": row.author, "last_used": used[row.key]} for row in rows]
        }
        lines = [f"{row.key}…  {row.described()}; {_used(row)}" for row in rows]
        uses = SharedTokenUse.objects
        document["shared"] = {"accepted": conf.SHARED_TOKEN_OPENS, "used_by": [one.told() for one in uses.lately()]}
        commandline.answer(self, options, document, [*(lines or ["There are no node tokens."]), uses.sentence()])

    def _revoke(self, options: dict[str, Any]) -> None:
        if not options["token"]:
            raise CommandError("revoke needs a TOKEN")
        try:
            rows = tokens.beginning_with(options["token"])
        except LookupError as error:
            raise CommandError(escape_controls(str(error))) from error
        document, follows = {"revoked": [row.key for row in rows]}, list(map(_would_be_revoked, rows))
        with commandline.trial(options):
            said = tokens.revoke(rows)
        is_dry = options["dry_run"]
        commandline.answer(self, options, document | commandline.as_told(options), follows if is_dry else [said])


def _given(file: Path) -> list[str]:
    """The tokens of a file. Raises CommandError."""
    try:
        given = file.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--token-file {file}: {getattr(error, 'strerror', None) or 'no text'}") from error
    if not given:
        raise CommandError(f"--token-file {file}: it has no token; `revoke` takes the last one away")
    return given


def _would_be_revoked(row: NodeToken) -> str:
    return f"{row.key}… would be revoked. {tokens.consequence(row)}"


def _fields(options: dict[str, Any], *also: str) -> dict[str, str]:
    """What a token opens, and whose it is. Raises CommandError where one of these, or of `also`, is missing."""
    if missing := [name for name in ("note", "nodes", *also) if not options[name]]:
        named = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise CommandError(f"{options['action']} needs {named}")
    if options["networks"] is not None and not options["networks"].strip():
        # A variable of a script that is empty would make a token that opens everywhere.
        raise CommandError("--networks names none: leave it out for a token that may be shown from everywhere")
    return {field: options[name] or "" for name, field in _FIELDS.items() if name != "until"}


def _end(options: dict[str, Any]) -> datetime | None:
    """When declared tokens end. Raises CommandError for a span: called again, it would put the end off."""
    if deadlines.is_span(text := options["until"] or ""):
        raise CommandError(
            f"--until {text}: set takes a time, as 2027-12-24 08:00, which stays when it is called again"
        )
    return commandline.parse_until(options)


def _used(row: NodeToken) -> str:
    return f"last used {utc(row.last_used_at)}" if row.last_used_at else "never used"


def _described(error: ValidationError) -> str:
    """What is wrong, by the names of the options."""
    options = {field: f"--{name.replace('_', '-')}" for name, field in _FIELDS.items()}
    found = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
    return "; ".join(f"{options.get(field, '')}: {' '.join(said)}".lstrip(": ") for field, said in found.items())
