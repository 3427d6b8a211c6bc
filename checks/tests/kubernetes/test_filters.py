"""Options that exclude Services by namespace or name."""

import pytest

from checks.sources.kubernetes import filters
from checks.sources.kubernetes.configs import Made, Options
from checks.sources.kubernetes.filters import InvalidFilter
from checks.tests.kubernetes.cast import endpoint, endpoint_slice, made_of, service
from tests.table import table

CHECK = {"ntp": {"instances": [{}]}}


@table(
    ("include", "exclude", "excluded"),
    [
        ([], [], False),
        ([], ["kube_namespace:^shop$"], True),
        ([], ["kube_namespace:ho"], True),
        ([], ["kube_namespace:^ho"], False),
        ([], ["name:web"], True),
        ([], ["name:shop"], False),
        ([], ["name:a:b", "", "name:^w.b$"], True),
        # What is included stays; including alone excludes nothing else.
        (["name:web"], ["kube_namespace:.*"], False),
        (["name:api"], ["kube_namespace:.*"], True),
        (["name:api"], [], False),
        # A Service has no image.
        ([], ["image:.*"], False),
        (["image:.*"], ["name:web"], True),
    ],
)
def test_options_exclude_services_and_their_endpoints(include, exclude, excluded):
    data = service({"service.checks": CHECK, "endpoints.checks": CHECK})
    options = Options(filters=(filters.read([], ["name:none"]), filters.read(include, exclude)))
    made = made_of(data, endpoint_slice(endpoint()), options=options)
    assert (made == Made()) is excluded
    assert len(made.configs) == (0 if excluded else 2)


@table(
    ("text", "error"),
    [
        ("shop", "shop begins with none of name:, kube_namespace: and image:"),
        ("namespace:shop", "namespace:shop begins with none of name:, kube_namespace: and image:"),
        ("name:(", "name:\\( holds no regular expression: missing \\)"),
    ],
)
def test_filters_that_cant_be_read(text, error):
    with pytest.raises(InvalidFilter, match=error):
        filters.read([], [text])
    with pytest.raises(InvalidFilter, match=error):
        filters.read([text], [])
