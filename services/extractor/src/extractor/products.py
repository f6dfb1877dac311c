"""Products: split into items; of several items with one barcode, one wins."""

from collections.abc import Mapping

from estarsync_core.clock import Clock
from estarsync_core.control import Blocked
from estarsync_core.entities import Entity
from estarsync_core.estar.changes import Rules
from estarsync_core.estar.content import DropList, Record
from estarsync_core.estar.grouping import Grouped, group_items, product_of
from estarsync_core.profile import TenantProfile
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.tracing import OFF, Tracing
from extractor.feed_products import FeedProducts
from extractor.fetch import Fetcher
from extractor.pages import MAX_VALUE_BYTES, Kind, PageReader
from extractor.state import SourceState


def products(
    source: EstarSource,
    state: SourceState,
    profile: TenantProfile,
    blocked: Blocked,
    feed: FeedProducts | None = None,
    clock: Clock | None = None,
    tracing: Tracing = OFF,
) -> PageReader:
    """What reads pages of products, from the site's operations or from a feed.

    An item that leaves the shop stays published and remembered: only a whole snapshot can tell that it is gone.
    """

    def next_witness(last: str | None) -> str | None:
        member = state.published_after(Entity.PRODUCTS, last)
        return None if member is None else product_of(member)

    def group(records: Mapping[str, Record]) -> Grouped:
        now = clock.now() if clock else None
        return group_items(records, profile.products.enabled_statuses, profile.zone, now)

    kind = Kind(
        entity=Entity.PRODUCTS,
        size=profile.soap.operations.retrieve_products.batch,
        fetch=feed.fetch if feed else Fetcher(source.retrieve_products, next_witness).fetch,
        group=group,
        rules=Rules(DropList(profile.records.drop), MAX_VALUE_BYTES),
        source_id=product_of,
        forgets=False,
    )
    return PageReader(kind, state, blocked, tracing)
