"""Isolate a check by its ID, with the answer that the Datadog Cluster Agent gives."""

from typing import NamedTuple

from checks import plans
from checks.dispatcher import NotAccepting, NotDispatchable, StalePlan, deciding
from checks.models import Assignment, Config, Instance
from checks.models.searching import called


class Isolated(NamedTuple):
    """Whether a check is alone on its node now, and why not."""

    check_id: str
    check_node: str
    is_isolated: bool
    reason: str


def isolate(check_id: str, *, actor: str, note: str = "") -> Isolated:
    """Leave the config that the check belongs to, with all its instances, alone on its node until it is released."""
    config_id = config_of(check_id)
    if config_id is None:
        return Isolated(check_id, "", False, "Unable to find check")
    try:
        plans.order(lambda: deciding.isolate([config_id], note=note), actor=actor)
    except (NotAccepting, NotDispatchable, StalePlan) as error:
        return Isolated(check_id, "", False, str(error))
    owner = Assignment.objects.select_related("node").get(config=config_id).node
    company = owner.assignments.count() - 1
    return Isolated(check_id, owner.name, not company, f"{company} configs may run nowhere else" if company else "")


def config_of(check_id: str) -> int | None:
    """The config that a check belongs to, by its check ID or its short ID."""
    found = Instance.objects.filter(check_id=check_id).values_list("config_id", flat=True).first()
    return found if found is not None else next(iter(called(Config, check_id, exact=False)), None)
