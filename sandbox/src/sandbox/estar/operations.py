"""What each operation answers, without transport and token."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime

from sandbox.estar import render
from sandbox.estar.contract import Action, Contract
from sandbox.estar.faults import FaultPlan, Kind
from sandbox.estar.state import R, Shop, Table, TimeIndex
from sandbox.estar.statuses import ORDER_STATUSES
from sandbox.estar.wire import Arguments, Fault, rows_inside


class Operations:
    """The answers of one shop; the caller holds the shop's lock.

    Args:
        shop: where the records are.
        faults: which of them can't be read.
        contract: what everything is called.
    """

    def __init__(self, shop: Shop, faults: FaultPlan, contract: Contract) -> None:
        self._contract = contract
        self._shop = shop
        self._faults = faults
        self._answers: dict[str, Callable[[Action, Arguments], Iterable[str]]] = {
            "list_customers_modified": self._list("customers", shop.customers.modified),
            "retrieve_customers": self._retrieve("customers", shop.customers),
            "list_orders_created": self._list("orders", shop.orders.created),
            "list_orders_modified": self._list("orders", shop.orders.modified),
            "retrieve_orders": self._retrieve("orders", shop.orders),
            "retrieve_related_orders": self._related,
            "list_products": lambda action, _: self._ids("products", action, sorted(shop.products.records)),
            "retrieve_products": self._retrieve("products", shop.products),
            "retrieve_events": self._events,
            "list_order_statuses": lambda action, _: _names(action, ORDER_STATUSES),
            "list_websites": lambda action, _: _names(action, {"Sandbox shop": 1}),
        }

    def answer(self, action: Action, given: Arguments) -> str:
        """The inside of the result.

        Raises:
            Fault: an argument is missing or unreadable, or the call touches a poisoned id.
        """
        rows = map(self._contract.named, self._answers[action.word](action, given))
        return rows_inside(action, rows)

    def _list(self, kind: Kind, index: TimeIndex) -> Callable[[Action, Arguments], Iterable[str]]:
        def rows(action: Action, given: Arguments) -> Iterable[str]:
            ids = index.between(self._time(action, given, "start"), self._time(action, given, "end"))
            return self._ids(kind, action, ids)

        return rows

    def _ids(self, kind: Kind, action: Action, ids: list[int]) -> Iterable[str]:
        self._refuse_poison(kind, ids)
        tag = _row_tag(action)
        return [f"<{tag}>{i}</{tag}>" for i in ids]

    def _retrieve(self, kind: Kind, table: Table[R]) -> Callable[[Action, Arguments], Iterable[str]]:
        def rows(action: Action, given: Arguments) -> Iterable[str]:
            one = [{"": given.texts["ids"]}] if "ids" in given.texts else []
            ids = [_number(item[""]) for item in given.lists.get("ids", one)]
            self._refuse_poison(kind, ids)
            tag = _row_tag(action)
            return [render.record(tag, r) for r in table.get(self._faults.without_vanished(kind, ids))]

        return rows

    def _related(self, action: Action, given: Arguments) -> Iterable[str]:
        asked = self._shop.orders.get([_number(_required(action, given, "id"))])
        tree = [member for order in asked for member in self._shop.tree(order)]
        self._refuse_poison("orders", [order.id for order in tree])
        return [render.record(_row_tag(action), order) for order in tree]

    def _events(self, action: Action, given: Arguments) -> Iterable[str]:
        names = self._contract.events
        asked = {
            (_number(pair.get(names.subscriber, "")), _number(pair.get(names.sequence, "")))
            for pair in given.lists.get("events", [])
        }
        found = [e for e in self._shop.events if (e.subscriber, e.sequence) in asked]
        return [
            render.element(
                _row_tag(action),
                {
                    names.subscriber: str(event.subscriber),
                    names.sequence: str(event.sequence),
                    names.type: event.type,
                    names.message: json.dumps(event.message),
                },
            )
            for event in found
        ]

    def _time(self, action: Action, given: Arguments, word: str) -> datetime:
        text = _required(action, given, word)
        try:
            when = datetime.fromisoformat(text)
            return when if when.tzinfo is None else self._shop.local(when)
        except (ValueError, OverflowError) as error:
            raise Fault(f"Server was unable to read request. ---> {text!r} is not a dateTime.") from error

    def _refuse_poison(self, kind: Kind, ids: list[int]) -> None:
        if self._faults.poisoned(kind, ids) is not None:
            raise Fault(
                "Server was unable to process request. ---> Object reference not set to an instance of an "
                "object.",
                "Server",
            )


def _required(action: Action, given: Arguments, word: str) -> str:
    if word not in given.texts:
        name = action.operation.arguments[word]
        raise Fault(f"Missing parameter: {name}. It must be in the namespace {action.operation.namespace}")
    return given.texts[word]


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise Fault(f"Server was unable to read request. ---> {text!r} is not an int.") from error


def _row_tag(action: Action) -> str:
    return action.operation.result.rpartition("/")[2]


def _names(action: Action, names: dict[str, int]) -> Iterable[str]:
    return [render.element(_row_tag(action), {"ID": str(n), "Name": name}) for name, n in names.items()]
