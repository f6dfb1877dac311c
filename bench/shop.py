"""`python -m bench.shop`: a shop of any size that answers at once, since its records are made as they are asked for.

Records look like the sandbox shop's: one out of a few dozen is taken, and gets another id and e-mail. They lie evenly
over the shop's history. Envelopes and names are the sandbox's. Tokens are not checked.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated

import httpx
import typer

from estarsync_core.profile import load_profile
from sandbox.asgi import asgi, serving
from sandbox.estar import profile_path, render, wire
from sandbox.estar.contract import Action, Contract
from sandbox.estar.generate import generate
from sandbox.estar.state import R, Record, Shop, Table
from sandbox.estar.truth import canonical

BEGIN = datetime(2024, 1, 1)  # noqa: DTZ001 - naive, in the shop's zone
_SPAN = timedelta(days=700)
_KINDS = 50
_FIRST = 1_000_000  # the first id; those of the templates are lower
Row = Callable[[int], str]


class BenchShop:
    """The handler.

    Args:
        customers: how many there are.
        orders: the same.
        products: the same.
    """

    def __init__(self, customers: int, orders: int, products: int) -> None:
        path = profile_path()
        shop = generate(300, 1, load_profile(path.read_text(encoding="utf-8"), path.name).zone)
        self._contract = Contract()
        self._answers: dict[str, Callable[[Action, wire.Arguments], list[str]]] = {}
        self._has("customers", customers, _rows("Customer", shop, shop.customers))
        self._has("orders", orders, _rows("Order", shop, shop.orders))
        self._has("products", products, _rows("Product", shop, shop.products))

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        place = self._contract.find(request.url.path)
        if place is None:
            return httpx.Response(404)
        binding = wire.binding_of(request)
        action, given = wire.read_soap(request, binding, place[0])
        tag = action.operation.result.split("/")[-1]
        if action.token_argument is None:
            return wire.answer(binding, action, wire.data_inside(action, "token", tag))
        rows = self._answers[action.word](action, given)
        return wire.answer(binding, action, wire.rows_inside(action, rows))

    def _has(self, kind: str, count: int, row: Row) -> None:
        step = _SPAN / max(1, count)

        def number(text: str) -> int:
            when = datetime.fromisoformat(text)
            return min(count, max(0, -((BEGIN - when) // step)))

        def ids(action: Action, numbers: range) -> list[str]:
            tag = action.operation.result.split("/")[-1]
            return [f"<{tag}>{_FIRST + each}</{tag}>" for each in numbers]

        def listed(action: Action, given: wire.Arguments) -> list[str]:
            return ids(action, range(number(given.texts["start"]), number(given.texts["end"])))

        def retrieved(_: Action, given: wire.Arguments) -> list[str]:
            return [row(int(item[""])) for item in given.lists["ids"]]

        self._answers[f"retrieve_{kind}"] = retrieved
        self._answers[f"list_{kind}_modified"] = self._answers[f"list_{kind}_created"] = listed
        self._answers[f"list_{kind}"] = lambda action, _: ids(action, range(count))


def _rows(tag: str, shop: Shop, table: Table[R]) -> Row:
    templates = [_template(tag, each) for each in table.records.values() if _plain(shop, each)][:_KINDS]

    def row(identity: int) -> str:
        return templates[identity % len(templates)].replace("\0", str(identity))

    return row


def _plain(shop: Shop, record: Record) -> bool:
    """Whether it stands alone: no tree, an e-mail that is one, a barcode."""
    email = record.body.get("Email", "a@b.nz")
    if not isinstance(email, str) or canonical(email) != email:
        return False
    order = shop.orders.records.get(record.id)
    return order is not record or len(shop.tree(order)) == 1


def _template(tag: str, record: Record) -> str:
    """The record as XML, with a mark wherever its id goes: in the id, before the e-mail, after every barcode."""
    text = render.record(tag, record).replace(f"<ID>{record.id}</ID>", "<ID>\0</ID>", 1)
    text = text.replace("<Email>", "<Email>x\0.", 1)
    return text.replace("</Barcode>", "-\0</Barcode>") if tag == "Product" else text


def main(
    customers: Annotated[int, typer.Option()],
    orders: Annotated[int, typer.Option()],
    products: Annotated[int, typer.Option()],
) -> None:
    """Serve until killed; the URL is printed."""
    shop = BenchShop(customers, orders, products)
    with serving(asgi(shop.handle, parallel=True)) as url:
        typer.echo(url)
        typer.get_text_stream("stdin").read()


if __name__ == "__main__":
    typer.run(main)
