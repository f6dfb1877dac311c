"""What the shop's API is called: the published names, and the assumed ones from estarsync's default profile.

The assumptions stand in the default profile alone. The sandbox reads them there, so that a site whose names
differ is a matter of one file.
"""

import re
from dataclasses import dataclass

from estarsync_core.profile import Operation, Operations, Soap, default_document

PRIMARY = "http://www.estaronline.com/api/"
ORDERS = "http://www.estaronline.com/api/orders"
ORDER_TYPES = "http://www.estaronline.com/api"
"""The elements inside an answer of Orders are in another namespace than the answer itself."""

_MORE = {
    "list_order_statuses": Operation(
        service="Orders",
        operation="ListAvailableOrderStatuses",
        namespace=ORDERS,
        arguments={},
        result="Data/OrderStatus",
    ),
    "list_websites": Operation(
        service="Orders",
        operation="ListAvailableWebsites",
        namespace=ORDERS,
        arguments={},
        result="Data/Website",
    ),
}
_NAMESPACES = {"Customers": PRIMARY, "Products": PRIMARY, "Events": PRIMARY, "Orders": ORDERS}


@dataclass(frozen=True, slots=True)
class Action:
    """One operation of one service."""

    word: str
    """Which of our operations it is: a field of `estarsync_core.profile.Operations`, or one of two more."""
    operation: Operation
    token_argument: str | None
    """None for the operation that needs no token."""

    @property
    def name(self) -> str:
        """As in the service's statistics: `Orders.Retrieve`."""
        return f"{self.operation.service}.{self.operation.operation}"

    @property
    def soap_action(self) -> str:
        """The value of SOAPAction, without quotes."""
        return f"{self.operation.namespace.rstrip('/')}/{self.operation.operation}"

    @property
    def types_namespace(self) -> str:
        """The namespace of what is inside the answer."""
        return ORDER_TYPES if self.operation.namespace == ORDERS else self.operation.namespace

    @property
    def primitive(self) -> bool:
        """Whether no argument is a list, so that a plain GET or form works too."""
        return all("/" not in path for path in self.operation.arguments.values())


class Contract:
    """Every service and operation, and the statuses that the default profile sends."""

    def __init__(self) -> None:
        document = default_document()
        soap = Soap.model_validate(document["soap"])
        orders = document["orders"]
        self.paid_statuses = frozenset[str]([*orders["statuses"], *orders["void_statuses"]])
        self.dropped_line_statuses = frozenset[str](orders["dropped_line_statuses"])
        before, after = soap.path.split("{service}")
        self._path = re.compile(
            f"{re.escape(before)}(?P<service>[A-Za-z]+){re.escape(after)}(?:/(?P<operation>[A-Za-z0-9]+))?",
            re.IGNORECASE,
        )
        self._services: dict[str, dict[str, Action]] = {name.lower(): {} for name in _NAMESPACES}
        for word, operation in _operations(soap.operations):
            authenticates = word == "authenticate"
            places = _NAMESPACES if authenticates else {operation.service: operation.namespace}
            for service, namespace in places.items():
                here = operation.model_copy(update={"service": service, "namespace": namespace})
                action = Action(word, here, None if authenticates else soap.token_argument)
                self._services.setdefault(service.lower(), {})[operation.operation] = action

    def find(self, path: str) -> tuple[dict[str, Action], str | None] | None:
        """The service at a URL path with the operation named after it; None where there is no service."""
        match = self._path.fullmatch(path)
        actions = self._services.get(match["service"].lower()) if match else None
        return (actions, match["operation"]) if match and actions is not None else None


def _operations(published: Operations) -> list[tuple[str, Operation]]:
    return [(word, getattr(published, word)) for word in Operations.model_fields] + list(_MORE.items())
