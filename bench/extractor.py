"""`python -m bench.extractor`: a first load beside the raw transfer of the same records, and webhooks at 100 a second."""

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families

from bench.measure import worker
from bench.page import RESULTS, write_section
from bench.shop import BEGIN
from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError
from estarsync_core.estar.notifications import SIGNATURE_HEADER, sign
from estarsync_core.profile import Operation, TenantProfile, load_profile
from estarsync_core.topics import declared_topics
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.estar.envelope import request
from estarsync_runtime.kafka.admin import apply_topics
from sandbox.estar import profile_path
from sandbox.kafka import broker
from sandbox.processes import free_port

_FIRST = 1_000_000
_LOOK = 0.5
_LIMIT = 3 * 3600.0
_TICKS = os.sysconf("SC_CLK_TCK")
_SECRET = b"a shared secret"
_CADENCES = "contacts_modified: 9999, orders_created: 9999, orders_modified: 9999, orders_deep: 99999, products_snapshot: 9999"
_PROFILE = f'\nhistory_start: "{BEGIN:%Y-%m-%d}"\ncadences: {{{_CADENCES}}}\n'


@dataclass(frozen=True, slots=True)
class Cost:
    """What some records took: seconds on the clock, CPU seconds of all threads, peak memory in MiB."""

    records: int
    seconds: float
    cpu: float
    rss: float = 0.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """Webhooks: how many were acknowledged, how long that took and the receiver's CPU for each, in milliseconds."""

    sent: int
    accepted: int
    p50: float
    p99: float
    worst: float
    cpu: float = 0.0


@contextmanager
def bench_shop(customers: int, orders: int, products: int) -> Iterator[str]:
    """The shop as a process of its own; its URL."""
    command = [sys.executable, "-m", "bench.shop"]
    sizes = [f"--customers={customers}", f"--orders={orders}", f"--products={products}"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *sizes], stdin=pipe, stdout=pipe, text=True) as shop:  # noqa: S603 - our own module
        try:
            yield shop.stdout.readline().strip() if shop.stdout else ""
        finally:
            shop.kill()


def raw_transfer(url: str, profile: TenantProfile, sizes: Mapping[str, int]) -> Cost:
    """Ask for every record in the same pages, and read the answers' bytes: no parsing, no Kafka."""
    operations = profile.soap.operations
    asked = {
        "customers": operations.retrieve_customers,
        "orders": operations.retrieve_orders,
        "products": operations.retrieve_products,
    }
    began, cpu = time.perf_counter(), time.process_time()
    with httpx.Client() as http:
        for kind, operation in asked.items():
            for at in range(0, sizes[kind], operation.batch):
                ids = [str(_FIRST + each) for each in range(at, min(at + operation.batch, sizes[kind]))]
                _read(http, url, profile, operation, ids)
    return Cost(sum(sizes.values()), time.perf_counter() - began, time.process_time() - cpu)


def _read(http: httpx.Client, url: str, profile: TenantProfile, operation: Operation, ids: list[str]) -> None:
    body, headers = request(
        profile.soap.version, operation, (profile.soap.token_argument, "token"), {"ids": ids}
    )
    place = url + profile.soap.path.format(service=operation.service)
    with http.stream("POST", place, content=body, headers=headers) as answer:
        for _ in answer.iter_bytes():
            pass


def first_load(env: Mapping[str, str], records: int, clock: Clock) -> Cost:
    """Run the extractor until everything has been loaded; from the first record to the last."""
    port = free_port()
    with worker("extractor", {**env, "HTTP_PORT": str(port)}) as process, httpx.Client() as http:
        began: tuple[float, float, float] | None = None
        deadline = clock.monotonic() + _LIMIT
        while clock.monotonic() < deadline:
            clock.sleep(_LOOK)
            if process.poll() is not None:
                raise TimeoutError(f"the extractor ended with code {process.returncode}")
            shown = _metrics(http, port)
            read = shown.get("estarsync_extractor_read_total", 0.0)
            now, cpu = clock.monotonic(), _cpu(process.pid)
            if began is None and read > 0:
                began = now, cpu, read
            if began is not None and shown.get("estarsync_extractor_first_load_done", 0.0) >= len(_ENTITIES):
                events = shown["estarsync_extractor_events_total"]
                if events < records:
                    raise AssertionError(f"{events:.0f} events for {records} records: not the same work")
                return Cost(int(read - began[2]), now - began[0], cpu - began[1], _peak(process.pid))
    raise TimeoutError(f"not done after {_LIMIT:.0f} s")


_ENTITIES = ("contacts", "products", "orders")


def _metrics(http: httpx.Client, port: int) -> dict[str, float]:
    """Sums over all labels, by sample name."""
    try:
        text = http.get(f"http://127.0.0.1:{port}/metrics").text
    except httpx.TransportError:
        return {}
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def webhooks(env: Mapping[str, str], rate: int, seconds: int) -> Hooks:
    """Post signed notifications at an even rate, whatever the answers take."""
    port = free_port()
    hooks = {"WEBHOOK_PORT": str(port), "ESTAR_WEBHOOK_SECRET": _SECRET.decode()}
    with worker("extractor.webhooks", {**env, **hooks}) as process:
        found = asyncio.run(_post(f"http://127.0.0.1:{port}/", rate, seconds))
        return replace(found, cpu=_cpu(process.pid) * 1000 / found.sent)


async def _post(url: str, rate: int, seconds: int) -> Hooks:
    taken: list[float] = []
    statuses: list[int] = []
    async with httpx.AsyncClient(timeout=30) as http:
        await _until_up(http, url)

        async def one(number: int) -> None:
            message = {"OrderID": str(1000 + number)}
            body = json.dumps(
                {"subscriber": 1, "sequence": number, "type": "OrderModified", "message": message}
            ).encode()
            headers = {SIGNATURE_HEADER: sign(_SECRET, body).decode()}
            began = time.perf_counter()
            statuses.append((await http.post(url, content=body, headers=headers)).status_code)
            taken.append(time.perf_counter() - began)

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(rate * seconds):
                await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
                group.create_task(one(number))
    taken = sorted(each * 1000 for each in taken[rate:])  # the first second warms up
    return Hooks(
        rate * seconds, statuses.count(204), taken[len(taken) // 2], taken[int(len(taken) * 0.99)], taken[-1]
    )


async def _until_up(http: httpx.AsyncClient, url: str) -> None:
    for _ in range(300):
        try:
            await http.get(url)
        except httpx.TransportError:
            await asyncio.sleep(0.1)
        else:
            return
    raise TimeoutError("the receiver did not start")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


_PAGE = """\
| | records/s of CPU | records/s | CPU ratio | peak RSS, MiB |
|---|---|---|---|---|
| raw SOAP transfer | {raw_rate:,.0f} | {raw_wall:,.0f} | 1.00 | |
| extractor, first load into Kafka | {rate:,.0f} | {wall:,.0f} | {ratio:.2f} | {rss:.0f} |

Webhooks, {sent:,} at {hook_rate} a second: {accepted:,} acknowledged, p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms;
{hook_cpu:.2f} ms of CPU each, the receiver's start included. The machine had a load of {load:.0f} on {cores} cores meanwhile: where that is more than
its cores, the times on the clock are the machine's and not ours; CPU is ours.

Method (`{command}`): a shop process makes {customers:,} customers, {orders:,} orders and {products:,} products as it is asked, and
answers at once. *Raw transfer* asks for {raw_records:,} of them in the same pages and reads the bytes, no more. The *extractor* is
the service as it ships, from its first record to the end of its last first load: lists, parsing, grouping, hashes, state on
disk, transactions on one broker; it uses one core at most. Records a second of CPU are what one core does where nothing
waits; the plain rate also holds what shop and broker take from the same machine. RSS is the process's peak (VmHWM).
A webhook's time is from the request to the 204, which comes when the record is durable.

Broker: {broker}. CPython {python}; {versions}.
"""


def _versions() -> str:
    names = ("confluent-kafka", "httpx", "lxml", "msgspec", "estarsync-extractor")
    return ", ".join(f"{name} {version(name)}" for name in names)


def main(
    customers: Annotated[int, typer.Option(help="In the shop.")] = 40_000,
    orders: Annotated[int, typer.Option(help="In the shop.")] = 80_000,
    products: Annotated[int, typer.Option(help="In the shop.")] = 10_000,
    raw_most: Annotated[int, typer.Option(help="Of each kind that the raw transfer asks for.")] = 20_000,
    hook_rate: Annotated[int, typer.Option(help="Webhooks a second.")] = 100,
    hook_seconds: Annotated[int, typer.Option(help="For so long.")] = 20,
    out: Annotated[Path, typer.Option(help="The page that gets the section.")] = RESULTS,
) -> None:
    """Measure on a real Kafka; takes minutes."""

    def say(line: str) -> None:
        typer.echo(line, err=True)

    sizes = {"customers": customers, "orders": orders, "products": products}
    try:
        with broker(say, real=True) as kafka, tempfile.TemporaryDirectory() as folder:
            prefix = f"bench-{uuid.uuid4().hex[:6]}."
            apply_topics({"bootstrap.servers": kafka.bootstrap}, declared_topics(), prefix, 1, 15.0)
            text = profile_path().read_text(encoding="utf-8") + _PROFILE
            profile_file = Path(folder) / "profile.yaml"
            profile_file.write_text(text, encoding="utf-8")
            env = {
                "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
                "TOPIC_PREFIX": prefix,
                "TENANT_PROFILE": str(profile_file),
                "ESTAR_USERNAME": "sandbox",
                "ESTAR_PASSWORD": "sandbox",
                "LOG_LEVEL": "WARNING",
            }
            with bench_shop(customers, orders, products) as url:
                some = {kind: min(count, raw_most) for kind, count in sizes.items()}
                raw = raw_transfer(url, load_profile(text, "bench"), some)
                say(f"raw transfer: {raw.records / raw.cpu:,.0f} records/s of CPU")
                load = first_load({**env, "ESTAR_BASE_URL": url}, sum(sizes.values()), SystemClock())
                say(f"extractor: {load.records / load.cpu:,.0f} records/s of CPU, {load.rss:.0f} MiB")
            hooks = webhooks(env, hook_rate, hook_seconds)
            say(f"webhooks: p99 {hooks.p99:.1f} ms")
            section = _PAGE.format(
                raw_records=raw.records,
                raw_rate=raw.records / raw.cpu,
                raw_wall=raw.records / raw.seconds,
                rate=load.records / load.cpu,
                wall=load.records / load.seconds,
                ratio=(load.cpu / load.records) / (raw.cpu / raw.records),
                rss=load.rss,
                sent=hooks.sent,
                accepted=hooks.accepted,
                p50=hooks.p50,
                p99=hooks.p99,
                worst=hooks.worst,
                hook_cpu=hooks.cpu,
                load=os.getloadavg()[0],
                cores=os.cpu_count(),
                hook_rate=hook_rate,
                **sizes,
                command="make bench-extractor",
                broker=kafka.description,
                python=platform.python_version(),
                versions=_versions(),
            )
            write_section(out, "Extractor", section)
    except ConfigurationError as error:
        for problem in error.problems:
            say(problem)
        sys.exit(2)
    say(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
