"""A replica whose secrets are not the leader's says so, in its log and on every page of its admin."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from checks.models import ClusterStore
from clusteragent.lib import conf
from operators import fingerprints

pytestmark = pytest.mark.django_db


@pytest.fixture
def _led(db: None) -> None:
    fingerprints.publish(ClusterStore.objects.get().term)


def test_before_anyone_led_nothing_differs() -> None:
    assert fingerprints.differing() == []


@pytest.mark.usefixtures("_led")
def test_the_same_secrets_do_not_differ() -> None:
    assert fingerprints.differing() == []


@pytest.mark.usefixtures("_led")
@pytest.mark.parametrize(
    ("option", "name"),
    [("AUTH_TOKEN", "the node agents' token"), ("LOCAL_TOKEN", "the local token"), ("SECRET_KEY", "the secret key")],
)
def test_another_secret_is_named_and_shown(monkeypatch: pytest.MonkeyPatch, option: str, name: str) -> None:
    monkeypatch.setattr(conf, option, "another-secret-of-thirty-two-chars-")
    assert fingerprints.differing() == [name]
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    page = client.get("/admin/", follow=True).content.decode()
    assert f"On this replica {name.replace(chr(39), '&#x27;')} is not the leader&#x27;s." in page
    assert "another-secret" not in page


def test_a_term_that_is_over_publishes_nothing() -> None:
    fingerprints.publish(ClusterStore.objects.get().term - 1)
    assert ClusterStore.objects.get().fingerprints == {}


@pytest.mark.usefixtures("_led")
def test_no_secret_is_stored() -> None:
    stored = str(ClusterStore.objects.get().fingerprints)
    assert not any(secret in stored for secret in (conf.AUTH_TOKEN, conf.LOCAL_TOKEN, conf.SECRET_KEY))
