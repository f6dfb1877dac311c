"""What the shop's API is called: the published names, and the assumed ones from estarsync's default profile.

The assumptions stand in the default profile alone. The sandbox reads them there, or in another profile, so that a
site whose names differ is a matter of one file.
"""

import re
from dataclasses import dataclass

from estarsync_core.profile import (
    Notifications,
    Operation,
    Operations,
    Records,
    Soap,
    TenantProfile,
    default_document,
)

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
_TAG = re.compile(r"(</?)([A-Za-z]\w*)")


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
    """Every service and operation, and the statuses that are sent, as a profile has them.

    Args:
        profile: whose names the site goes by; None for the default profile's.
    """

    def __init__(self, profile: TenantProfile | None = None) -> None:
        parts = default_document()
        soap = profile.soap if profile else Soap.model_validate(parts["soap"])
        orders = profile.orders.model_dump() if profile else parts["orders"]
        records = profile.records if profile else Records.model_validate(parts["records"])
        self.events = (
            profile.notifications if profile else Notifications.model_validate(parts["notifications"])
        )
        paid, void = frozenset[str](orders["statuses"]), frozenset[str](orders["void_statuses"])
        self.paid_statuses = paid | void if orders["voided"] == "keep" else paid - void
        self.sends_replacements: bool = orders["replacements"] == "keep"
        self.dropped_line_statuses = frozenset[str](orders["dropped_line_statuses"])
        self._theirs = {ours: theirs for theirs, ours in records.rename.items()}
        before, after = soap.path.split("{service}")
        self._path = re.compile(
            f"{re.escape(before)}(?P<service>[A-Za-z]+){re.escape(after)}(?:/(?P<operation>[A-Za-z0-9]+))?",
            re.IGNORECASE,
        )
        operations = _operations(soap.operations)
        # A token can be had at every service.
        services = {each.service: each.namespace for word, each in operations if word != "authenticate"}
        self._services: dict[str, dict[str, Action]] = {name.lower(): {} for name in services}
        for word, operation in operations:
            authenticates = word == "authenticate"
            own = {operation.service: operation.namespace}
            for service, namespace in ({**services, **own} if authenticates else own).items():
                here = operation.model_copy(update={"service": service, "namespace": namespace})
                action = Action(word, here, None if authenticates else soap.token_argument)
                self._services.setdefault(service.lower(), {})[operation.operation] = action

    def named(self, xml: str) -> str:
        """Rendered records, under the element names of the profile's site."""
        if not self._theirs:
            return xml
        return _TAG.sub(lambda tag: tag[1] + self._theirs.get(tag[2], tag[2]), xml)

    def find(self, path: str) -> tuple[dict[str, Action], str | None] | None:
        """The service at a URL path with the operation named after it; None where there is no service."""
        match = self._path.fullmatch(path)
        actions = self._services.get(match["service"].lower()) if match else None
        return (actions, match["operation"]) if match and actions is not None else None


def _operations(published: Operations) -> list[tuple[str, Operation]]:
    return [(word, getattr(published, word)) for word in Operations.model_fields] + list(_MORE.items())
