"""What a source orders of its configs is in force, under what people order, and goes with its configs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Model

from checks import dispatcher
from checks.dispatcher import NotTheirs, deciding
from checks.dispatcher.decision import Decision
from checks.models import Config, Move, Source
from checks.models.configs import KUBERNETES
from checks.models.map import NotLeader
from checks.models.orders import Pause, Pin
from checks.sources.ordered import enforce
from checks.sources.source import Aim, Ordered
from checks.tests.cast import dangling, lead, owners, report, sent
from checks.tests.operators import config
from clusteragent.lib import clock

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

DB, MAIL = "clustercheck/shop/db", "clustercheck/shop/mail"
PAUSED, FREE = Ordered(paused=True), Ordered()
ON_BIRCH = Ordered(pin=Aim("node", "birch"))


@pytest.fixture(autouse=True)
def _nodes(warm: None) -> None:
    report("ash")


@pytest.fixture
def term() -> int:
    return lead()


def send(*keys: str, **fields: object) -> None:
    dispatcher.schedule([sent(key, source=KUBERNETES, **fields) for key in keys])


def orders(kind: Any) -> list[tuple[Any, ...]]:
    """The orders of a kind: (key, author, whether a source made it, whether it waits for its config)."""
    return [(one.key, one.author, one.from_source, one.config_id is None) for one in kind.objects.order_by("pk")]


def let(term: int, **wanted: Ordered | None) -> None:
    """Enforce what db, mail, … order."""
    enforce(
        KUBERNETES, {f"clustercheck/shop/{name}": one for name, one in wanted.items()}, under="clustercheck/", term=term
    )


def untouched(act: Callable[[], object]) -> bool:
    """Whether an act leaves moves and orders as they were."""

    def state() -> list[Any]:
        kinds: tuple[type[Model], ...] = (Pin, Pause, Move)
        return [list(kind._default_manager.order_by("pk").values()) for kind in kinds]

    before = state()
    act()
    return state() == before


def test_a_new_check_that_is_paused_never_runs(term: int) -> None:
    let(term, db=PAUSED)
    assert orders(Pause) == [(DB, "clustercheck shop/db", True, True)]
    assert untouched(lambda: let(term, db=PAUSED))
    send(DB)
    assert (owners(), Move.objects.count()) == ({}, 0)
    assert orders(Pause) == [(DB, "clustercheck shop/db", True, False)]
    assert untouched(lambda: let(term, db=PAUSED))
    let(term, db=FREE)
    assert owners() == {DB: "ash"}
    assert list(Move.objects.values_list("reason", "actor")) == [("resumed", "clustercheck shop/db")]


def test_what_waits_follows_the_resource(term: int) -> None:
    let(term, db=PAUSED, mail=ON_BIRCH)
    let(term, db=ON_BIRCH, mail=None)
    assert orders(Pause) == []
    assert [key for key, *_ in orders(Pin)] == [MAIL, DB]
    let(term, db=Ordered(pin=Aim("node", "cedar")))
    assert list(Pin.objects.values_list("key", "aim")) == [(DB, "cedar")]
    let(term, db=FREE)
    let(term)
    assert not Pin.objects.exists()


def test_pins_are_given_changed_and_taken_back(term: int) -> None:
    send(DB)
    report("birch", "cedar")
    let(term, db=ON_BIRCH)
    assert owners() == {DB: "birch"}
    let(term, db=Ordered(pin=Aim("pattern", "ced*", waits=True)))
    assert owners() == {DB: "cedar"}
    assert list(Pin.objects.values_list("kind", "aim", "waits", "author")) == [
        ("pattern", "ced*", True, "clustercheck shop/db")
    ]
    assert untouched(lambda: let(term, db=Ordered(pin=Aim("pattern", "ced*", waits=True))))
    let(term, db=FREE)
    assert (owners(), Pin.objects.count()) == ({DB: "cedar"}, 0)


def test_an_order_of_people_wins_until_it_ends(term: int) -> None:
    send(DB)
    report("birch", "cedar")
    let(term, db=ON_BIRCH)
    dispatcher.pin([config(DB).pk], "cedar", actor="ann")
    for wanted in (ON_BIRCH, FREE, Ordered(pin=Aim("node", "ash")), ON_BIRCH):
        assert untouched(lambda wanted=wanted: let(term, db=wanted))  # type: ignore[misc]
    assert dispatcher.unpin([config(DB).pk]) == 1
    let(term, db=ON_BIRCH)
    assert owners() == {DB: "birch"}
    dispatcher.pin([config(DB).pk], "cedar", actor="ann", until=clock.now() + timedelta(hours=1))
    Pin.objects.update(until=clock.now() - timedelta(seconds=1))
    let(term, db=ON_BIRCH)
    assert owners() == {DB: "birch"}
    assert orders(Pin) == [(DB, "clustercheck shop/db", True, False)]


def test_a_pause_of_people_wins_until_it_ends(term: int) -> None:
    send(DB)
    dispatcher.pause([config(DB).pk], actor="ann")
    assert untouched(lambda: let(term, db=PAUSED))
    assert untouched(lambda: let(term, db=FREE))
    Pause.objects.update(until=clock.now() - timedelta(seconds=1))
    let(term, db=PAUSED)
    assert orders(Pause) == [(DB, "clustercheck shop/db", True, False)]
    assert Pause.objects.get().until is None


def test_an_order_of_people_that_waits_for_the_check_wins(term: int) -> None:
    send(DB)
    dispatcher.pin([config(DB).pk], "ash", actor="ann")
    dispatcher.unschedule([(KUBERNETES, DB)])
    assert untouched(lambda: let(term, db=ON_BIRCH))
    send(DB)
    assert untouched(lambda: let(term, db=ON_BIRCH))
    assert orders(Pin) == [(DB, "ann", False, False)]


def test_a_pause_of_people_that_is_over_before_the_check_comes_back_lets_nothing_run(term: int) -> None:
    send(DB)
    dispatcher.pause([config(DB).pk], actor="ann")
    dispatcher.unschedule([(KUBERNETES, DB)])
    Pause.objects.update(until=clock.now() - timedelta(seconds=1))
    let(term, db=PAUSED)
    send(DB)
    dispatcher.resume_due()
    assert owners() == {}
    assert orders(Pause) == [(DB, "clustercheck shop/db", True, False)]


def test_orders_of_a_broken_or_deleted_resource_stay_while_its_check_is_there(term: int) -> None:
    send(DB)
    let(term, db=PAUSED)
    assert untouched(lambda: let(term, db=None))
    assert untouched(lambda: let(term))
    dispatcher.unschedule([(KUBERNETES, DB)])
    # Somebody removed the check, or it is cut anew.
    assert untouched(lambda: let(term, db=PAUSED))
    assert untouched(lambda: let(term, db=None))
    let(term)
    assert not Pause.objects.exists()


def test_shards_are_ordered_as_one(term: int) -> None:
    let(term, db=PAUSED)
    send(f"{DB}#1", f"{DB}#2", "clustercheck/shop/db2")
    assert set(owners()) == {"clustercheck/shop/db2"}
    assert untouched(lambda: let(term, db=PAUSED, db2=FREE))
    let(term, db=FREE, db2=FREE)
    assert set(owners()) == {f"{DB}#1", f"{DB}#2", "clustercheck/shop/db2"}
    let(term, db=PAUSED, db2=FREE)
    assert set(owners()) == {"clustercheck/shop/db2"}
    assert untouched(lambda: let(term, db=PAUSED, db2=FREE))


def test_what_several_resources_send_is_ordered_as_all_of_them_say(term: int) -> None:
    send(DB, MAIL, url="http://same")
    assert Config.objects.count() == 1
    assert untouched(lambda: let(term, db=FREE, mail=PAUSED))
    assert untouched(lambda: let(term, db=ON_BIRCH, mail=Ordered(pin=Aim("node", "ash"))))
    let(term, db=PAUSED, mail=PAUSED)
    assert [one[1] for one in orders(Pause)] == ["clustercheck shop/db"]
    dispatcher.unschedule([(KUBERNETES, DB)])
    let(term, mail=PAUSED)
    assert [one[1] for one in orders(Pause)] == ["clustercheck shop/mail"]
    let(term, mail=FREE)
    assert not Pause.objects.exists()
    assert set(owners()) == {MAIL}


@pytest.mark.parametrize("other", ["db.yaml", f"{KUBERNETES}:service/other/web/http_check"])
def test_nobody_stops_or_moves_what_somebody_else_declares_too(term: int, other: str) -> None:
    source, _, key = other.rpartition(":")
    dispatcher.schedule([sent(key, source=source or "file", url="http://same")])
    send(DB, url="http://same")
    assert untouched(lambda: let(term, db=Ordered(paused=True, pin=Aim("node", "birch", waits=True))))
    dispatcher.schedule([sent(key, source=source or "file", url="http://other")])
    let(term, db=PAUSED)
    assert set(owners()) == {key}


def test_what_parts_from_a_resource_inherits_none_of_its_orders(term: int) -> None:
    send(DB, url="http://same")
    let(term, db=PAUSED)
    dispatcher.schedule([sent("db.yaml", url="http://same")])
    dispatcher.schedule([sent("db.yaml", url="http://other")])
    assert set(owners()) == {"db.yaml"}
    assert orders(Pause) == [(DB, "clustercheck shop/db", True, False)]


def test_before_a_sync_checks_are_only_paused(term: int) -> None:
    send(DB, MAIL)
    let(term, db=PAUSED, mail=FREE)
    wanted = {DB: FREE, MAIL: Ordered(paused=True, pin=Aim("node", "ash"))}
    enforce(KUBERNETES, wanted, under="clustercheck/", term=term, only_pauses=True)
    assert [key for key, *_ in orders(Pause)] == [DB, MAIL]
    assert not Pin.objects.exists()
    enforce(KUBERNETES, wanted, under="clustercheck/", term=term)
    assert set(owners()) == {DB}
    assert [key for key, *_ in orders(Pin)] == [MAIL]


def test_a_pause_that_people_order_while_the_resource_takes_its_own_back_stays(
    term: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(DB)
    let(term, db=PAUSED)
    decide = deciding.resume

    def decide_slowly(*about: Any, **how: Any) -> Decision:
        decision = decide(*about, **how)
        monkeypatch.undo()
        dispatcher.pause([config(DB).pk], actor="ann")
        return decision

    monkeypatch.setattr(deciding, "resume", decide_slowly)
    let(term, db=FREE)
    assert (owners(), orders(Pause)) == ({}, [(DB, "ann", False, False)])


def test_a_pause_that_is_over_and_replaced_by_the_resource_stops_no_pass(
    term: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(DB)
    dispatcher.pause([config(DB).pk], actor="ann", until=clock.now() + timedelta(hours=1))
    Pause.objects.update(until=clock.now() - timedelta(seconds=1))
    decide = deciding.resume

    def decide_late(*about: Any, **how: Any) -> Decision:
        monkeypatch.undo()
        let(term, db=PAUSED)
        return decide(*about, **how)

    monkeypatch.setattr(deciding, "resume", decide_late)
    assert dispatcher.resume_due(term=term) == []
    assert orders(Pause) == [(DB, "clustercheck shop/db", True, False)]


def test_who_parts_from_a_shared_check_has_orders_of_its_own(term: int) -> None:
    send(DB, MAIL, url="http://same")
    let(term, db=PAUSED, mail=PAUSED)
    send(MAIL, url="http://other")
    let(term, db=PAUSED, mail=PAUSED)
    assert orders(Pause) == [
        (DB, "clustercheck shop/db", True, False),
        (MAIL, "clustercheck shop/mail", True, False),
    ]
    send(MAIL, url="http://same")
    let(term, db=PAUSED, mail=FREE)
    assert owners() == {DB: "ash", MAIL: "ash"}
    send(MAIL, url="http://other")
    let(term, db=PAUSED, mail=FREE)
    assert owners() == {MAIL: "ash"}
    assert orders(Pause) == [(DB, "clustercheck shop/db", True, False)]


def test_a_check_that_a_file_sends_too_is_free_when_the_resource_is_gone(term: int) -> None:
    send(DB, url="http://same")
    dispatcher.schedule([sent("db.yaml", url="http://same")])
    let(term, db=PAUSED)
    dispatcher.unschedule([(KUBERNETES, DB)])
    let(term)
    assert (owners(), Pause.objects.count()) == ({"db.yaml": "ash"}, 0)


def test_people_can_t_take_back_what_a_resource_orders(term: int) -> None:
    send(DB)
    let(term, db=Ordered(paused=True, pin=Aim("node", "birch")))
    pk = config(DB).pk
    with pytest.raises(NotTheirs, match=r"^ordered by clustercheck shop/db: change its spec.paused$"):
        deciding.resume([pk])
    with pytest.raises(NotTheirs, match=r"^ordered by clustercheck shop/db: change its spec.pin$"):
        dispatcher.unpin([pk])
    for command in ("unpin", "resume"):
        with pytest.raises(CommandError, match="ordered by clustercheck shop/db"):
            call_command(command, config(DB).short_id)
    Source.objects.update_or_create(name=KUBERNETES, defaults={"state": {"phase": "off"}})
    assert dispatcher.unpin([pk]) == 1
    dispatcher.resume([pk])
    assert owners() == {DB: "ash"}


def test_people_may_take_back_what_a_resource_ordered_that_is_not_there_any_more(term: int) -> None:
    send(DB, f"{MAIL}#1")
    let(term, db=PAUSED, mail=PAUSED)
    pks = [config(DB).pk, config(f"{MAIL}#1").pk]
    Source.objects.update_or_create(name=KUBERNETES, defaults={"held_removals": [DB, f"{MAIL}#1"]})
    dispatcher.resume(pks)
    let(term)
    assert owners() == {DB: "ash", f"{MAIL}#1": "ash"}


def test_a_pin_that_waits_lets_a_check_dangle(term: int) -> None:
    let(term, db=Ordered(pin=Aim("node", "birch", waits=True)))
    send(DB)
    assert dangling() == {DB}


def test_a_term_that_is_over_orders_nothing(term: int) -> None:
    lead()
    with pytest.raises(NotLeader):
        let(term, db=PAUSED)
    send(DB)
    for wanted in (PAUSED, ON_BIRCH):
        with pytest.raises(NotLeader):
            let(term, db=wanted)
    assert owners() == {DB: "ash"}
    assert (orders(Pause), orders(Pin)) == ([], [])
