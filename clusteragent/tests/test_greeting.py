"""What `make run` says when everything runs."""

import re

import pytest
from django.db.models.functions import Now

from checks.models import Source
from clusteragent.greeting import _map, _places, _suggestions
from clusteragent.lib import conf
from nodes.models import Hearing


@pytest.mark.parametrize(
    ("proof", "stats", "said"),
    [
        ("all", True, "after some 15 s (its port proves its death; else 30 s) its configs go"),
        ("port", True, "after some 15 s"),
        ("pod", True, "after 30 s its configs go"),
        ("off", True, "after 30 s its configs go"),
        ("all", False, "after 30 s its configs go"),
    ],
)
def test_how_soon_others_have_a_killed_nodes_configs(
    monkeypatch: pytest.MonkeyPatch, proof: str, stats: bool, said: str
) -> None:
    for name, value in (("PROOF_OF_DEATH", proof), ("ADVANCED_DISPATCHING_ENABLED", stats), ("DEMO_NODES", 3)):
        monkeypatch.setattr(conf, name, value)
    [line] = [line for line in _suggestions() if line.startswith("# Kill a node")]
    assert said in line


@pytest.mark.django_db
def test_it_says_why_there_is_no_config_yet() -> None:
    assert any(line.startswith("The warm-up lasts: ") for line in _map())
    Hearing.objects.update(warmup=False)
    source, _ = Source.objects.get_or_create(name="file")
    assert "No config is known: file not read yet." in list(_map())
    Source.objects.filter(pk=source.pk).update(read_at=Now())
    assert "No config is known: no source has one." in list(_map())


def test_without_the_shared_token_it_says_how_to_make_one_for_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nodetoken" not in "".join(_suggestions())
    monkeypatch.setattr(conf, "SHARED_TOKEN_OPENS", False)
    text = "\n".join([*_places(), *_suggestions()])
    assert "each with a node token" in text
    assert re.search(r"TOKEN=\$\(.*nodetoken add .*--nodes dogwood\)", text)
    assert 'DD_CLUSTER_AGENT_AUTH_TOKEN="$TOKEN"' in text
