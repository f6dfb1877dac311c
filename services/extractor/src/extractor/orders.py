"""Orders: what was split travels as one tree, under its root."""

from collections.abc import Collection, Sequence
from functools import partial

from estarsync_core.control import Blocked
from estarsync_core.entities import Entity, Reason
from estarsync_core.estar.changes import Rules
from estarsync_core.estar.content import DropList
from estarsync_core.estar.grouping import group_orders, may_have_relatives
from estarsync_core.profile import TenantProfile
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.tracing import OFF, Tracing
from extractor.fetch import Fetched, Fetcher
from extractor.pages import MAX_VALUE_BYTES, Kind, PageReader
from extractor.state import SourceState


def orders(
    source: EstarSource,
    state: SourceState,
    profile: TenantProfile,
    blocked: Blocked,
    tracing: Tracing = OFF,
) -> PageReader:
    """What reads pages of orders."""
    kind = Kind(
        entity=Entity.ORDERS,
        size=profile.soap.operations.retrieve_orders.batch,
        fetch=TreeFetcher(source, state, profile.orders.split_line_statuses).fetch,
        group=group_orders,
        rules=Rules(DropList(profile.records.drop), MAX_VALUE_BYTES, left=Reason.REMOVED),
    )
    return PageReader(kind, state, blocked, tracing)


class TreeFetcher:
    """Reads orders by id, and with each one that has relatives its whole tree, each tree once a call."""

    def __init__(self, source: EstarSource, state: SourceState, split_line_statuses: frozenset[str]) -> None:
        self._source = source
        self._state = state
        self._split_line_statuses = split_line_statuses
        self._fetcher = Fetcher(
            source.retrieve_orders, lambda last: state.published_after(Entity.ORDERS, last)
        )

    def fetch(self, ids: Sequence[str]) -> Fetched:
        """Read these orders and their relatives; blocks.

        Raises:
            RetryLater: the shop is in trouble; nothing is known about the ids.
        """
        alone = self._fetcher.fetch(ids)
        in_trees = self._known_in_trees(ids)
        result = Fetched(failed=alone.failed)
        for identity, order in alone.records.items():
            if identity in result.records:  # came with a relative's tree
                continue
            if identity not in in_trees and not may_have_relatives(order, self._split_line_statuses):
                result.records[identity] = order
                continue
            tree = self._fetcher.guarded(identity, partial(self._source.retrieve_related_orders, identity))
            result.failed.update(tree.failed)
            if not tree.failed:
                result.records.update({identity: order, **tree.records})
        return result

    def _known_in_trees(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that were published in a tree with others."""
        roots = {row.key for row in self._state.rows(Entity.ORDERS, ids).values() if row.key is not None}
        sizes: dict[str | None, list[str]] = {}
        for identity, row in self._state.members(Entity.ORDERS, roots).items():
            sizes.setdefault(row.key, []).append(identity)
        return {identity for members in sizes.values() if len(members) > 1 for identity in members}
