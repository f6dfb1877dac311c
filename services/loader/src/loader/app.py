"""The loader's composition root: every part is made and joined here."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx
import structlog

from estarsync_core.clock import Clock
from estarsync_runtime.avro import AvroCodec
from estarsync_runtime.dotdigital.connect import connect
from estarsync_runtime.dotdigital.provisioning import provision
from estarsync_runtime.kafka.config import producer_config
from estarsync_runtime.kafka.producer import TransactionalProducer
from estarsync_runtime.lifecycle import Context
from estarsync_runtime.metrics import Metrics
from loader.batches import Spooler
from loader.engine import Engine, spool_folder
from loader.intake import Intake, open_consumer
from loader.ledger import Ledger, restore_delivered, restore_imports
from loader.loop import Loop
from loader.report import Settlement
from loader.settings import Settings
from loader.table import Table

_CALLS_AT_ONCE = 8
_log = structlog.get_logger()


@contextmanager
def build(
    settings: Settings, clock: Clock, metrics: Metrics, transport: httpx.BaseTransport | None = None
) -> Iterator[Loop]:
    """A loader that is ready to run. Blocks while it checks the account and restores its state.

    Args:
        settings: all of them.
        clock: the time.
        metrics: what is shown.
        transport: how Dotdigital is reached; None for the network.

    Raises:
        ConfigurationError: with every problem of the account.
    """
    with ExitStack() as stack:
        folder = settings.data_dir or Path(stack.enter_context(TemporaryDirectory(prefix="loader-")))
        folder.mkdir(parents=True, exist_ok=True)
        client = connect(settings, clock, metrics, transport)
        account = provision(client, settings)
        consumer = open_consumer(settings)
        stack.callback(consumer.close)
        producer = TransactionalProducer(producer_config(settings, "estarsync-loader"), clock)
        ledger = Ledger(settings, producer, consumer, clock)
        table = Table(folder / "loader.sqlite")
        stack.callback(table.close)
        with table.transaction():
            for entity, key, state in restore_delivered(settings):
                if state is None:
                    table.forget(entity, key)
                else:
                    table.settle(entity, key, state)
        codec = AvroCodec()
        pool = stack.enter_context(ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="dotdigital"))
        engine = Engine(
            settings,
            table,
            Spooler(spool_folder(folder), account, codec, settings.loader_batch_bytes),
            ledger,
            Settlement(settings, table, ledger, clock, metrics),
            client,
            pool,
            clock,
            metrics,
            uuid4,
        )
        engine.adopt(restore_imports(settings))
        intake = Intake(settings, table, codec, ledger, metrics)
        yield Loop(consumer, intake, engine, table, ledger, clock, metrics)


def serve(settings: Settings, context: Context) -> None:
    """Deliver until told to stop."""
    with build(settings, context.clock, context.metrics) as loop:
        context.health.ready = True
        _log.info("ready")
        loop.run(context.stop, context.health)
