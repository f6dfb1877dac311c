"""The extractor's settings, from environment variables."""

from estarsync_runtime.estar.connect import EstarSettings
from estarsync_runtime.settings import ServiceSettings


class Settings(ServiceSettings, EstarSettings):
    """What the extractor needs to know beyond Kafka: the shop, who may read it, and how it differs from others."""
