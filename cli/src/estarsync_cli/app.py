"""Every command of `estarsync`, by name; each one's work is in a module of its own."""

import typer

from estarsync_cli import (
    backfill,
    canary,
    config,
    dlq,
    doctor,
    erase,
    lanes,
    provision,
    reconcile,
    removals,
    requests,
    resync,
    status,
    topics,
    trace,
)

app = typer.Typer(
    name="estarsync",
    help="For the people who run estarsync: is it working, is everything there, and how do I fix it?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("backfill")(backfill.backfill)
app.command("canary")(canary.canary)
app.command("doctor")(doctor.doctor)
app.command("erase")(erase.erase)
app.command("provision")(provision.provision)
app.command("reconcile")(reconcile.reconcile)
app.command("resync")(resync.resync)
app.command("status")(status.status)
app.command("trace")(trace.trace)
app.add_typer(config.app, name="config")
app.add_typer(dlq.app, name="dlq")
app.add_typer(lanes.app, name="lanes")
app.add_typer(requests.app, name="requests")
app.add_typer(removals.app, name="removals")
app.add_typer(topics.app, name="topics")
