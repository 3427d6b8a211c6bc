"""What a node may be called."""

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from clusteragent.lib import conf
from nodes.models import Node, validate_node_name


@pytest.mark.parametrize("name", ["ash", "runner 1", "i-0abc.eu-west-1", "höhe", "50%", "a%20b", "x" * 253])
def test_what_agents_call_themselves_is_a_name(name: str) -> None:
    validate_node_name(name)


@pytest.mark.parametrize("name", ["", " ", "a/b", ".", "..", "a\nb", "a\0b", "a\u202eb", "x" * 254, "%FF", "a%feb"])
def test_what_is_no_readable_segment_of_a_path_is_none(name: str) -> None:
    with pytest.raises(ValidationError, match="a node's name"):
        validate_node_name(name)


@pytest.mark.django_db
@pytest.mark.urls("clusteragent.urls.agents")
@pytest.mark.parametrize("path", ["%ff", "%20", "a%0Ab", "a%00b"])
def test_a_bad_name_is_400_and_registers_nothing(path: str) -> None:
    answer = Client().post(
        f"/api/v1/clusterchecks/status/{path}",
        b'{"last_change":0}',
        content_type="application/json",
        headers={"Authorization": f"Bearer {conf.AUTH_TOKEN}"},
    )
    assert answer.status_code == 400
    assert answer.content.startswith(b"a node's name")
    assert not Node.objects.exists()
