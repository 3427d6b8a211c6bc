"""Asking another cluster agent over TLS for its map, with each token and certificate."""

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from checks.adoption import states
from checks.adoption.states import UnreadableState
from clusteragent.lib import conf
from tests.map import register, store
from tests.webserver import WebServer

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def test_its_local_token_gets_the_map(web: WebServer, warm: None) -> None:
    store('{"check_name":"ntp","instances":["YTogMQo="]}', owner=register("ash"), check_ids=("ntp:1",))
    state = states.read(states.fetch(f"https://127.0.0.1:{web.port}/", conf.LOCAL_TOKEN))
    assert {name: [body.instances for body in bodies] for name, bodies in state.nodes.items()} == {"ash": [("a: 1\n",)]}


def test_what_is_refused_says_what_is_wanted(web: WebServer, warm: None, tmp_path: Path) -> None:
    url = f"https://127.0.0.1:{web.port}"
    for token in (conf.AUTH_TOKEN, "x"):
        with pytest.raises(UnreadableState, match="403 - it wants its local token"):
            states.fetch(url, token)
    nobody = tmp_path / "ca.pem"
    nobody.write_text("")
    with pytest.raises(UnreadableState, match=url):
        states.fetch(url, conf.LOCAL_TOKEN, ca=nobody)
    with pytest.raises(CommandError, match="needs --token-file") as error:
        call_command("adopt", "--from", url)
    assert error.value.returncode == 2
