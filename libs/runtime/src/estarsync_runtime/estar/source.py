"""The shop as the poller sees it: lists of ids by window, and records by id."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.content import RawValue, Record, text_of
from estarsync_core.estar.notifications import Notification, read_notification
from estarsync_core.estar.sequences import Place
from estarsync_core.estar.windows import Window, shop_bounds
from estarsync_core.profile import Notifications, Operation, TenantProfile
from estarsync_runtime.estar.soap import EstarClient

Records = Mapping[str, Record]


class EstarSource:
    """Reads one site through its profile's operations.

    Every method blocks and raises what `EstarClient.call` raises. Ids are text, without repetition, in the shop's
    order. Records come by id; one that the shop does not return is absent, and one without an id can't be told
    from it.
    """

    def __init__(self, client: EstarClient, profile: TenantProfile) -> None:
        self._client = client
        self._profile = profile
        self._operations = profile.soap.operations

    def check(self) -> None:
        """Get a token, to see that the site is there and accepts us."""
        self._client.authenticate()

    def list_customers_modified(self, window: Window) -> list[str]:
        """Customers that were created or changed in the window."""
        return self._listed(self._operations.list_customers_modified, window)

    def list_orders_created(self, window: Window) -> list[str]:
        """Orders that were placed in the window."""
        return self._listed(self._operations.list_orders_created, window)

    def list_orders_modified(self, window: Window) -> list[str]:
        """Orders that were placed or changed in the window."""
        return self._listed(self._operations.list_orders_modified, window)

    def list_products(self) -> list[str]:
        """All products."""
        return _ids(self._client.call(self._operations.list_products))

    def retrieve_customers(self, ids: Sequence[str]) -> Records:
        """Customers by id."""
        return self._retrieved(self._operations.retrieve_customers, ids)

    def retrieve_orders(self, ids: Sequence[str]) -> Records:
        """Orders by id, without their relatives."""
        return self._retrieved(self._operations.retrieve_orders, ids)

    def retrieve_related_orders(self, order_id: str) -> Records:
        """All orders of the split tree that this one is part of, as the shop returns them."""
        return _by_id(self._client.call(self._operations.retrieve_related_orders, id=order_id))

    def retrieve_products(self, ids: Sequence[str]) -> Records:
        """Products by id, with their items."""
        return self._retrieved(self._operations.retrieve_products, ids)

    def retrieve_events(self, places: Sequence[Place]) -> dict[Place, Notification]:
        """Notifications by subscriber and number; one that the shop has no more, or that can't be read, is absent."""
        names = self._profile.notifications
        asked = [{names.subscriber: str(one), names.sequence: str(other)} for one, other in places]
        found: dict[Place, Notification] = {}
        for row in self._client.call(self._operations.retrieve_events, events=asked):
            notification = _notification(row, names) if isinstance(row, dict) else None
            if notification is not None:
                found[notification.subscriber, notification.sequence] = notification
        return {place: found[place] for place in places if place in found}

    def _listed(self, operation: Operation, window: Window) -> list[str]:
        start, end = shop_bounds(window, self._profile.zone)
        return _ids(self._client.call(operation, start=_shop_time(start), end=_shop_time(end)))

    def _retrieved(self, operation: Operation, ids: Sequence[str]) -> Records:
        found: dict[str, Record] = {}
        takes_a_list = "/" in operation.arguments["ids"]
        size = operation.batch if takes_a_list else 1
        for at in range(0, len(ids), size):
            batch = ids[at : at + size]
            found.update(_by_id(self._client.call(operation, ids=batch if takes_a_list else batch[0])))
        wanted = set(ids)
        return {identity: record for identity, record in found.items() if identity in wanted}


def _notification(row: Record, names: Notifications) -> Notification | None:
    message = text_of(row, names.message)
    if not message.startswith("{"):
        return None
    parts = {word: text_of(row, getattr(names, word)) for word in ("subscriber", "sequence", "type")}
    texts = msgspec.json.encode(parts)
    body = texts.removesuffix(b"}") + b',"message":' + message.encode() + b"}"
    try:
        return read_notification(body)
    except InvalidRecord:
        return None


def _shop_time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _ids(rows: Sequence[RawValue]) -> list[str]:
    return list(dict.fromkeys(row.strip() for row in rows if isinstance(row, str) and row.strip()))


def _by_id(rows: Sequence[RawValue]) -> Records:
    records = (row for row in rows if isinstance(row, dict))
    return {identity: record for record in records if (identity := text_of(record, "ID"))}
