"""Isolate a check by its ID, with the answer that the Datadog Cluster Agent gives."""

from typing import NamedTuple

from checks import plans
from checks.dispatcher import NotAccepting, NotDispatchable, StalePlan, deciding
from checks.models import Assignment, Config, Instance
from clusteragent.lib.words import plain_count


class Isolated(NamedTuple):
    """The answer of the Datadog Cluster Agent: whether the check is isolated on its node now, and if not, why."""

    check_id: str
    check_node: str
    is_isolated: bool
    reason: str


def isolate(check_id: str, *, actor: str, note: str = "") -> Isolated:
    """Isolate the config that a check belongs to, with all its instances, until it is released. Refusals are in the answer.

    check_id: its check ID or short ID.
    """
    config_id = config_of(check_id)
    if config_id is None:
        return Isolated(check_id, "", False, "Unable to find check")
    return isolate_config(config_id, check_id, actor=actor, note=note)


def isolate_config(config_id: int, name: str, *, actor: str, note: str = "") -> Isolated:
    """The same of a config, which the caller calls by this name."""
    try:
        plan, _ = plans.order(lambda: deciding.isolate([config_id], note=note), actor=actor)
    except (NotAccepting, NotDispatchable, StalePlan) as error:
        return Isolated(name, "", False, str(error))
    owner = Assignment.objects.select_related("node").get(config=config_id).node
    company = owner.assignments.count() - 1
    why = plan.outcome or f"{plain_count(company, 'config')} may run nowhere else"
    return Isolated(name, owner.name, not company, why if company else "")


def config_of(check_id: str) -> int | None:
    """Return the id of the config that a check belongs to, by check ID or short ID, or None."""
    if "\0" in check_id:
        return None  # no text of PostgreSQL has one
    found = Instance.objects.filter(check_id=check_id).values_list("config_id", flat=True).first()
    return found if found is not None else next(iter(Config.objects.called(check_id, exact=False)), None)
