"""Contacts: customers that share an e-mail travel together, and one that changes its e-mail leaves the old group."""

from estarsync_core.control import Blocked
from estarsync_core.entities import Entity, Reason
from estarsync_core.estar.changes import Rules
from estarsync_core.estar.content import DropList
from estarsync_core.estar.grouping import group_customers
from estarsync_core.profile import TenantProfile
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.tracing import OFF, Tracing
from extractor.fetch import Fetcher
from extractor.pages import MAX_VALUE_BYTES, Kind, PageReader
from extractor.state import SourceState


def contacts(
    source: EstarSource,
    state: SourceState,
    profile: TenantProfile,
    blocked: Blocked,
    tracing: Tracing = OFF,
) -> PageReader:
    """What reads pages of customers."""
    fetcher = Fetcher(source.retrieve_customers, lambda last: state.published_after(Entity.CONTACTS, last))
    kind = Kind(
        entity=Entity.CONTACTS,
        size=profile.soap.operations.retrieve_customers.batch,
        fetch=fetcher.fetch,
        group=lambda records: group_customers(records, profile.contacts.placeholder_emails),
        rules=Rules(DropList(profile.records.drop), MAX_VALUE_BYTES, left=Reason.RENAMED, renames=True),
    )
    return PageReader(kind, state, blocked, tracing)
