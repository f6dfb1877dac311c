"""The one entry to the mapping: a profile compiled once, then a pure function of each record."""

from collections.abc import Callable

from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError
from estarsync_core.mapping import contacts, products
from estarsync_core.mapping.contacts import ContactMapper
from estarsync_core.mapping.orders import OrderMapper
from estarsync_core.mapping.products import ProductMapper
from estarsync_core.mapping.result import Mapped
from estarsync_core.profile import TenantProfile


class Mapper:
    """Maps raw events of every entity as one profile says. It keeps nothing between records.

    Raises:
        ConfigurationError: with every part of the profile that can't be mapped by.
    """

    def __init__(self, profile: TenantProfile) -> None:
        problems = contacts.problems(profile) + products.problems(profile)
        if problems:
            raise ConfigurationError(problems)
        self.contact = ContactMapper(profile).map
        self.product = ProductMapper(profile).map
        self.order = OrderMapper(profile).map
        self._maps = {
            Entity.CONTACTS: self.contact,
            Entity.PRODUCTS: self.product,
            Entity.ORDERS: self.order,
        }

    def record(self, entity: Entity, key: str, value: bytes) -> Mapped:
        """Map one raw event.

        Args:
            entity: which topic it came from.
            key: its Kafka key.
            value: its Kafka value; a tombstone has none and is nothing to map.

        Raises:
            InvalidRecord: the record can't be used; nothing else is raised, whatever the bytes are.
        """
        return self._maps[entity](key, value)

    def function(self, entity: Entity) -> Callable[[str, bytes], Mapped]:
        """`record` for one entity."""
        return self._maps[entity]
