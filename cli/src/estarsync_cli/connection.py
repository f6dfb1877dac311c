"""Connecting to both sides, from the environment."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry

from estarsync_core.profile import TenantProfile
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.dotdigital.client import DotdigitalClient
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.dotdigital.connect import connect as connect_dotdigital
from estarsync_runtime.estar.connect import EstarSettings
from estarsync_runtime.estar.connect import connect as connect_estar
from estarsync_runtime.estar.source import EstarSource
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import load, read_profile


def dotdigital(settings: DotdigitalSettings) -> DotdigitalClient:
    """A client for the account; blocks for one call."""
    return connect_dotdigital(settings, SystemClock(), Metrics(CollectorRegistry()))


@contextmanager
def estar(profile: TenantProfile | None = None) -> Iterator[EstarSource]:
    """The retailer's site, for as long as the context is open; nothing is sent yet.

    Args:
        profile: the site's; None for the one of TENANT_PROFILE.
    """
    settings = load(EstarSettings)
    known = profile or read_profile(settings.tenant_profile)
    with connect_estar(settings, known, SystemClock(), Metrics(CollectorRegistry())) as source:
        yield source
