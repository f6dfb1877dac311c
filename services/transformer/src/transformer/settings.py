"""The transformer's settings, from environment variables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from estarsync_runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the transformer needs to know beyond Kafka.

    `instance_id` makes the transactional id: it must be stable for a process that is started again, and no two
    that run at once may share it, since the newer fences the older. It defaults to the host's name.

    Attributes:
        tenant_profile: what differs from one retailer to the next.
        transformer_batch_records: the most records of one transaction.
        transformer_batch_seconds: how long a batch waits to fill.
        transformer_dead_letter_run: so many dead letters one after the other stop the process; 0 is no limit.
        transformer_dead_letter_share: a larger part of the latest records stops it too; 1 is no limit.
    """

    tenant_profile: Path
    transformer_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 2000
    transformer_batch_seconds: Annotated[float, Field(gt=0, le=5)] = 0.05
    transformer_dead_letter_run: Annotated[int, Field(ge=0)] = 200
    transformer_dead_letter_share: Annotated[float, Field(gt=0, le=1)] = 0.2
