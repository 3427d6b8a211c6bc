"""Labels in the forms of rules: as pins take them, or as JSON."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from checks.models.orders import Rule
from checks.tests.operators import confirmed, superuser
from operators.admin.labels import LabelsField

FIELD = LabelsField(required=False)


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        ("", {}),
        (" ", {}),
        ("zone=a", {"zone": "a"}),
        ("zone = a , disk=ssd,", {"zone": "a", "disk": "ssd"}),
        ('{"zone": "a,b"}', {"zone": "a,b"}),
        ('{"a": "b c"}', {"a": "b c"}),
    ],
)
def test_they_are_read(written: str, labels: dict[str, str]) -> None:
    assert FIELD.clean(written) == labels


@pytest.mark.parametrize(
    "written",
    [
        "zone",
        "=a",
        "zone=",
        "zone=a disk=ssd",
        "zone=a;disk=ssd",
        "a=b=c",
        "{",
        '{"a":',
        "a=b, a=c",
        "[" * 9 + "{" * 100_000,
    ],
)
def test_what_is_none_is_refused(written: str) -> None:
    with pytest.raises(ValidationError):
        FIELD.clean(written)


@pytest.mark.parametrize(
    "labels", [{}, {"zone": "a", "disk": "ssd"}, {"zone": "a,b"}, {"a": "b=c"}, {"a": ""}, {"a": " b"}]
)
def test_they_are_read_as_they_were_shown(labels: dict[str, Any]) -> None:
    assert FIELD.clean(FIELD.prepare_value(labels)) == labels
    assert not FIELD.has_changed(labels, FIELD.prepare_value(labels))


@pytest.mark.django_db
def test_a_rule_is_written_and_changed_with_them(warm: None) -> None:
    client: Client = superuser()
    fields = {"name": "gpu", "check_pattern": "llm", "source_pattern": "*", "required": "gpu=yes", "forbidden": ""}
    confirmed(client, "/admin/checks/rule/add/", **fields)
    rule = Rule.objects.get()
    assert (rule.required, rule.forbidden) == ({"gpu": "yes"}, {})
    page = client.get(f"/admin/checks/rule/{rule.pk}/change/").content.decode()
    assert 'value="gpu=yes"' in page
    confirmed(client, f"/admin/checks/rule/{rule.pk}/change/", **fields | {"forbidden": '{"disk": "slow"}'})
    assert Rule.objects.get().forbidden == {"disk": "slow"}
    wrong = client.post("/admin/checks/rule/add/", fields | {"name": "b", "required": '{"zone": 1}'}).content.decode()
    assert "labels are an object with texts" in wrong
