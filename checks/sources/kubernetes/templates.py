"""The config files that are templates for Services or endpoints, read again when they change."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from checks.models import Origin, Source, SourceScan, originkeys
from checks.models.configs import KUBERNETES
from checks.sources.files import FileSource
from checks.sources.kubernetes import selectors
from checks.sources.kubernetes.selectors import Selector
from checks.sources.source import BrokenConfig, Found, Judgement, Problem, Unsettled
from checks.wire.lint import Notice
from checks.wire.scrub import scrub
from checks.wire.yamlnodes import MAX_BYTES, InvalidYAML

# A file without any of these words is no such template, and need not be parsed.
_WORDS = (b"advanced_ad_identifiers", b"cel_selector")


class Templates:
    """The templates in the folders of CLUSTERAGENT_CONFD.

    selectors: {file: what it selects}. problems: of files whose selectors can't be read. kept: beginnings of keys of configs of
    files that can't be read now.
    """

    def __init__(self) -> None:
        self.selectors: dict[str, Selector] = {}
        self.problems: dict[str, Problem] = {}
        self.kept: frozenset[str] = frozenset()
        self._files = FileSource()
        # Files that sent something in earlier terms, and those of them that were not found yet.
        self._sent: set[str] | None = None
        self._unseen: set[str] = set()

    @property
    def warnings(self) -> list[Notice]:
        """What of the templates has no effect."""
        return [Notice(key, None, text) for key, one in sorted(self.selectors.items()) for text in one.warnings]

    def look(self) -> bool:
        """Read what changed. Return whether the templates are other than before."""
        if self._sent is None:
            sent = Origin.objects.filter(source=KUBERNETES).beginning_with(["file/"])
            self._sent = {originkeys.file_of(key) for key in sent.values_list("key", flat=True)}
            self._unseen = set(self._sent)
        before = dict(self.selectors), dict(self.problems), self.kept
        scan = self._files.scan()
        memory = self._files.memory
        for found in scan.found:
            known = memory.get(found.key)
            if known is None or known.version != found.version:
                self._read(found)
        there = {found.key for found in scan.found}
        self._unseen -= there
        for key in [key for key in memory if key not in there and not scan.keeps(key)]:
            self._forget(key)
        unread = {key for key in there | scan.kept if key not in memory} | self.problems.keys()
        folders = (f"file/{quote(folder)}" for folder in scan.kept_under)
        self.kept = frozenset({*map(selectors.beginning, unread), *self._of_others(), *folders})
        return before != (self.selectors, self.problems, self.kept)

    def _of_others(self) -> Iterable[str]:
        """The beginnings of keys from files that this replica does not have, while another may have them."""
        row = Source.objects.filter(name=self._files.name).first() if self._unseen else None
        is_elsewhere = row is not None and SourceScan.objects.of_others_lately(row)
        return map(selectors.beginning, self._unseen if is_elsewhere else ())

    def _read(self, found: Found) -> None:
        try:
            selector = self._selector(found)
        except Unsettled:
            return
        except (BrokenConfig, OSError):
            # The source of files says so; what was read before goes on.
            return
        except InvalidYAML as error:
            self.problems[found.key] = Problem(found.key, error.line, scrub(error.problem))
            self._files.memory[found.key] = Judgement(found.version)
            return
        self._forget(found.key)
        self._files.memory[found.key] = Judgement(found.version)
        if selector:
            self.selectors[found.key] = selector

    def _selector(self, found: Found) -> Selector | None:
        if found.version.size > MAX_BYTES:  # type: ignore[attr-defined]
            raise BrokenConfig(f"has more than {MAX_BYTES} bytes")
        data = Path(found.version.path).read_bytes()  # type: ignore[attr-defined]
        has_sent = found.key in self.selectors or found.key in (self._sent or ())
        if not (has_sent or any(word in data for word in _WORDS)):
            return None
        # One that made something may be broken.
        read = found.read()
        return selectors.read(read.text, key=found.key, check=read.config.name)

    def _forget(self, key: str) -> None:
        for known in (self.selectors, self.problems, self._files.memory):
            known.pop(key, None)
