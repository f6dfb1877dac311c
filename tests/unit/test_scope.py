"""Which contacts may be created."""

import pytest

from estarsync_core.dotdigital.scope import ContactScope, in_scope


@pytest.mark.parametrize(
    ("scope", "subscribed", "omitted", "expected"),
    [
        ("all", None, [], True),
        ("all", False, [], True),
        ("subscribed", True, [], True),
        ("subscribed", False, [], False),
        ("subscribed", None, [], False),
        ("subscribed", None, ["NEWSLETTER_SUBSCRIBE"], False),
    ],
)
def test_only_those_who_subscribed_where_the_setting_says_so(scope, subscribed, omitted, expected):
    document = {"data_fields": {"NEWSLETTER_SUBSCRIBE": subscribed}, "omitted": omitted}
    assert in_scope(ContactScope(scope), document) is expected
