"""Account calls (v2): account information, the time, the recycle bin."""

from datetime import UTC, datetime

import httpx

from sandbox.dotdigital.call import Call
from sandbox.dotdigital.errors import reply, text_reply


def get_account_info(call: Call) -> httpx.Response:
    """`GET /v2/account-info`: every value is text, and the endpoint ends in a slash."""
    options = call.account.options
    used = call.account.limits.last_hour(call.now)
    left = max(0, options.limits.flat_per_hour - used)
    endpoint = options.api_endpoint or f"{call.url.scheme}://{call.url.netloc.decode('ascii')}/"
    properties = {
        "Name": ("String", options.account_name),
        "MainEmail": ("String", options.username),
        "APILocale": ("String", "en-GB"),
        "ApiCallsInLastHour": ("Int", str(used)),
        "ApiCallsRemaining": ("Int", str(left)),
        "ApiEndpoint": ("String", endpoint),
        "CurrencyCode": ("String", options.currency),
        "ShowClock": ("Boolean", "False"),
        "TimeZoneIana": ("String", options.time_zone),
    }
    listed = [{"name": name, "type": kind, "value": value} for name, (kind, value) in properties.items()]
    return reply(200, {"id": options.account_id, "properties": listed})


def get_server_time(call: Call) -> httpx.Response:
    """`GET /v2/server-time`, in plain text."""
    time = datetime.fromtimestamp(call.now, UTC)
    return text_reply(200, time.isoformat(sep=" ", timespec="microseconds"))


def empty_recycle_bin(call: Call) -> httpx.Response:
    """`POST /v2/accounts/empty-recycle-bin/`."""
    call.account.contacts.binned.clear()
    return httpx.Response(202)
