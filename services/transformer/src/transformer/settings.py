"""The transformer's settings, from environment variables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from estarsync_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the transformer needs to know beyond Kafka.

    `instance_id` makes the transactional id: it must be stable for a process that is started again, and no two
    that run at once may share it, since the newer fences the older. It defaults to the host's name.
    """

    tenant_profile: Path
    transformer_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 2000
    transformer_batch_seconds: Annotated[float, Field(gt=0, le=5)] = 0.25
