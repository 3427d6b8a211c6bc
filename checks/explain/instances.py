"""Which instances of a config are meant, and whose they are: a config of several is called by its first."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Self

from checks.models import Config, Instance
from checks.models.configs import displayable
from checks.models.tags import tags_of_instances, teams_among, teams_in
from checks.wire import patching
from clusteragent.lib.words import grouped, listed

# The most instances of a config that are named.
MOST_NAMED = 3


@dataclass
class Written:
    """A config's instances, and its display copies, which are empty while an older version's are stored."""

    instances: list[Instance] = field(default_factory=list)
    text: str = ""
    scrubbed: bytes = b""

    @classmethod
    def of(cls, ids: Collection[int]) -> dict[int, Self]:
        """Return those of these configs, by the config's id. One without any is empty."""
        found: dict[int, Self] = defaultdict(cls)
        for instance in Instance.objects.filter(config__in=ids).order_by("pk"):
            found[instance.config_id].instances.append(instance)
        copies = Config.objects.filter(displayable(), pk__in=ids).values_list("pk", "text", "scrubbed")
        for pk, text, scrubbed in copies:
            found[pk].text, found[pk].scrubbed = text, bytes(scrubbed)
        return found

    def teams(self, check_ids: Collection[str]) -> set[str]:
        """The teams of the instances with these check IDs; of all where the text does not tell them apart."""
        tags = tags_of_instances(self.text) if len(self.instances) > 1 else []
        if len(tags) != len(self.instances):
            return set(teams_in(self.text))
        return {team for number in self._numbers(check_ids) for team in teams_among(tags[number])}

    def which(self, check_ids: Collection[str]) -> str:
        """The instances with these check IDs in words, `mail 3 and mail 7`; empty if the config has but one."""
        numbers, whole = self._numbers(check_ids), len(self.instances)
        if whole < 2 or not numbers:
            return ""
        if len(numbers) == whole:
            return f"all {grouped(whole)} instances"
        names = [self._name(number) for number in numbers[:MOST_NAMED]]
        left = len(numbers) - len(names)
        return listed([*names, f"{grouped(left)} more"] if left else names, None)

    def told_by(self, check_id: str, error: str) -> str:
        """The error of the instance with this check ID, of several after its name; empty if there is none."""
        which = self.which([check_id]) if error else ""
        return f"{which}: {error}" if which else error

    def _numbers(self, check_ids: Collection[str]) -> list[int]:
        meant = set(check_ids)
        return [number for number, one in enumerate(self.instances) if one.check_id in meant]

    def _name(self, number: int) -> str:
        """The name in the check ID of an instance, else what it connects to, else its short ID."""
        one = self.instances[number]
        return one.name or patching.place_of(self.scrubbed, number, len(self.instances)) or one.short_id
