"""The loader's settings, from environment variables."""

from typing import Annotated

from pydantic import Field

from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.settings import ServiceSettings


class Settings(ServiceSettings, DotdigitalSettings):
    """What the loader needs to know beyond Kafka and Dotdigital themselves.

    Attributes:
        loader_contact_slots: contact imports open at once; the account has 25 for everybody.
        loader_insight_slots: imports of products and orders open at once; the account has 5 for everybody.
        loader_batch_records: the most records of one import; where calls are plenty, 5000 at most.
        loader_batch_bytes: the largest body; Dotdigital takes 50 MB.
        loader_disk_bytes: what the backlog and the bodies may take in DATA_DIR; beyond three quarters of it, reading pauses.
        loader_linger_seconds: how long the first record of a batch waits for others.
        loader_park_seconds: how long an order may wait for a contact that Dotdigital does not know.
        loader_import_deadline_seconds: after that, an import that has not ended is sent again.
        loader_settle_seconds: how long keys stay fenced, at least, where an import may be open that we can't ask for.
        loader_dead_letter_run: so many dead letters one after the other stop the entity's lane; 0 is no limit.
        loader_dead_letter_share: a larger part of the latest records (at least 1,000) does, too; 1 is no limit.
    """

    loader_contact_slots: Annotated[int, Field(ge=1, le=25)] = 8
    loader_insight_slots: Annotated[int, Field(ge=1, le=5)] = 4
    loader_batch_records: Annotated[int, Field(ge=1, le=200_000)] = 100_000
    loader_batch_bytes: Annotated[int, Field(ge=1024, le=45_000_000)] = 45_000_000
    loader_disk_bytes: Annotated[int, Field(ge=1_000_000)] = 8_000_000_000
    loader_linger_seconds: Annotated[float, Field(ge=0)] = 1.0
    loader_park_seconds: Annotated[float, Field(gt=0)] = 900.0
    loader_import_deadline_seconds: Annotated[float, Field(gt=0)] = 7200.0
    loader_settle_seconds: Annotated[float, Field(ge=0)] = 60.0
    loader_dead_letter_run: Annotated[int, Field(ge=0)] = 100
    loader_dead_letter_share: Annotated[float, Field(gt=0, le=1)] = 0.5
