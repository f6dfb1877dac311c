"""Connecting to both sides, from the environment."""

from prometheus_client import CollectorRegistry

from estarsync_runtime.clock import SystemClock
from estarsync_runtime.dotdigital.client import DotdigitalClient
from estarsync_runtime.dotdigital.connect import DotdigitalSettings, connect
from estarsync_runtime.metrics import Metrics


def dotdigital(settings: DotdigitalSettings) -> DotdigitalClient:
    """A client for the account; blocks for one call."""
    return connect(settings, SystemClock(), Metrics(CollectorRegistry()))
