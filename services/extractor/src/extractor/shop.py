"""All the ways in which the shop can be asked, in one hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from estarsync_core.entities import Entity
from estarsync_core.estar.notifications import Notification
from estarsync_core.estar.sequences import Place
from estarsync_runtime.estar.source import EstarSource
from extractor.contacts import contacts
from extractor.feed_products import FeedProducts
from extractor.feeds import ListIds, Surroundings
from extractor.orders import orders
from extractor.pages import PageReader
from extractor.products import products
from extractor.state import SourceState


@dataclass(frozen=True, slots=True)
class Shop:
    """The shop.

    Attributes:
        readers: of pages, by entity.
        lists: what lists the ids of a window, by entity; from the beginning of time on, the first has them all.
        list_products: lists the ids of all products.
        retrieve_events: asks for notifications again.
    """

    readers: Mapping[Entity, PageReader]
    lists: Mapping[Entity, Sequence[ListIds]]
    list_products: Callable[[], list[str]]
    retrieve_events: Callable[[Sequence[Place]], dict[Place, Notification]]


def shop_of(
    source: EstarSource, state: SourceState, around: Surroundings, shelf: FeedProducts | None = None
) -> Shop:
    """The shop as a profile describes it.

    Args:
        source: the site.
        state: what was published before.
        around: what every feed needs.
        shelf: where products are, if not behind the site's operations.
    """
    profile, blocked, tracing = around.profile, around.blocked, around.tracing
    return Shop(
        {
            Entity.CONTACTS: contacts(source, state, profile, blocked, tracing),
            Entity.PRODUCTS: products(source, state, profile, blocked, shelf, around.clock, tracing),
            Entity.ORDERS: orders(source, state, profile, blocked, tracing),
        },
        {
            Entity.CONTACTS: [source.list_customers_modified],
            Entity.ORDERS: [source.list_orders_created, source.list_orders_modified],
        },
        shelf.list_ids if shelf else source.list_products,
        source.retrieve_events,
    )
