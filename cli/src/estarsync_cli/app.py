"""Every command of `estarsync`, by name; each one's work is in a module of its own."""

app.add_typer(lanes.app, name="lanes")
app.add_typer(requests.app, name="requests")
