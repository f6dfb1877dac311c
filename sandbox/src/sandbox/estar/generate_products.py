"""Generated products, with the prices, pictures, titles and barcodes that real catalogues have."""

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import cycle

from sandbox.estar.generate_dice import NULL_DATE, PLANTED_COST, Dice, named_values
from sandbox.estar.state import Body, Node, Record, repeat, repeat_bodies, stamp

_PRICES = {
    "sale": 0.12,
    "sale-zero": 0.04,
    "sale-nil": 0.04,
    "sale-above": 0.04,
    "free": 0.03,
    "priced-above": 0.04,
}
_FACTS = {
    "no-image": 0.04,
    "nil-image": 0.02,
    "relative-image": 0.05,
    "spaced-image": 0.03,
    "odd-title": 0.10,
    "disabled": 0.05,
    "embargoed": 0.03,
    "null-dates": 0.03,
    "group": 0.02,
    "no-maker": 0.05,
}
_CODES = {
    "leading-zero": 0.05,
    "spaced": 0.03,
    "slashed": 0.03,
    "duplicate": 0.02,
    "nil-code": 0.01,
    "empty-code": 0.01,
}
_NOUNS = ("Lantern", "Mug", "Blanket", "Teapot", "Cushion", "Vase", "Clock", "Basket", "Lamp", "Bowl")
_ODD_TITLES = (
    "Pounamu Tāonga Bowl",
    "Party Pack 🎉🎈",
    "Salt &amp; Pepper Set",
    "Fish &amp;amp; Chips Apron",
    "Cosy<br/>Throw <b>Large</b>",
    "  Padded\u00a0Title \t",
    "Crème brûlée “Deluxe” dish ½ L",
    "Very long " + "name " * 120,
)
_COLOURS = (("Red", "RD"), ("Kōwhai", "KW"), ("Blue", "BL"))
_SIZES = (("Small", "S"), ("Large", "L"))


def products(dice: Dice, count: int) -> list[Record]:
    """So many products, of one to three items each."""
    prices, facts = dice.spread(count, _PRICES), dice.spread(count, _FACTS)
    codes = _codes(dice, count, facts)
    odd_titles = cycle(_ODD_TITLES)
    made: list[Record] = []
    for i, created in enumerate(dice.times(count)):
        number = 100 + i
        price = "0.00" if prices[i] == "free" else dice.price()
        sale = _sale(prices[i], price)
        items = [_item(dice, number * 10 + place, code, price, sale) for place, code in enumerate(codes[i])]
        modified = dice.time(created)
        body = _body(dice, number, facts[i], (created, modified))
        if facts[i] == "odd-title":
            body["Title"] = next(odd_titles)
        body["Price"], body["Items"] = price, repeat_bodies("ProductItem", items)
        if prices[i] == "priced-above":  # the product alone knows its price
            for item in items:
                del item["Price"], item["SalePrice"]
        made.append(Record(number, created, modified, body))
    return made


def _codes(dice: Dice, count: int, facts: list[str]) -> list[list[str | None]]:
    """The barcodes of each product's items; a group has no items of its own."""
    kinds = dice.spread(count, _CODES)
    made: list[list[str | None]] = []
    for i, kind in enumerate(kinds):
        base = f"94{i:07d}"
        special: dict[str, str | None] = {
            "leading-zero": f"00{base}",
            "spaced": f"AB {base} X",
            "slashed": f"AB/{base}\\Ü",
            "nil-code": None,
            "empty-code": "",
        }
        first = special.get(kind, base)
        if kind == "duplicate" and i:
            first = next((codes[0] for codes in reversed(made) if codes and codes[0]), base)
        rest = [f"{base}-{place}" for place in range(1, dice.random.choice((1, 1, 2, 3)))]
        made.append([] if facts[i] == "group" else [first, *rest])
    return made


def _sale(kind: str, price: str) -> str | None:
    return {
        "sale": f"{Decimal(price) * 3 / 4:.2f}",
        "sale-zero": "0.0000",
        "sale-nil": None,
        "sale-above": f"{Decimal(price) + 5:.2f}",
    }.get(kind, "0")


def _item(dice: Dice, number: int, code: str | None, price: str, sale: str | None) -> Body:
    colour, colour_code = dice.random.choice(_COLOURS)
    size, size_code = dice.random.choice(_SIZES)
    return {
        "ID": str(number),
        "Style": f"ST{number}",
        "Barcode": code,
        "Size": size,
        "SizeCode": size_code,
        "Colour": colour,
        "ColourCode": colour_code,
        "Price": price,
        "SalePrice": sale,
        "Cost": f"{dice.random.randint(1, 90)}{PLANTED_COST}",
        "Quantity": str(dice.random.randint(0, 40)),
        "Weight": "0.4500",
        "ForeignIdentity": f"ITEM{number}",
        "AvailableFrom": None,
        "InStock": dice.random.choice(("true", "false")),
    }


def _body(dice: Dice, number: int, fact: str, times: tuple[datetime, datetime]) -> Body:
    created, modified = times
    title = f"{dice.random.choice(('Red', 'Blue', 'Large', 'Vintage'))} {dice.random.choice(_NOUNS)} {number}"
    opened = {"embargoed": stamp(dice.now + timedelta(days=90)), "null-dates": NULL_DATE}
    return {
        "ID": str(number),
        "Title": title,
        "ShortDescription": "<p>Made with care &amp; love</p>",
        "LongDescription": "<ul><li>One</li><li>Two</li></ul>",
        "Supplier": dice.random.choice(("Northwind", "Tūī & Co", "")),
        "Style": f"ST{number}",
        "Status": "0" if fact == "disabled" else "1",
        "AvailableFrom": opened.get(fact, stamp(created)),
        "Price": None,
        "Cost": f"{dice.random.randint(1, 90)}{PLANTED_COST}",
        "ContentLocked": "false",
        "ForeignIdentity": f"ERP-{number}",
        "Weight": "0.5000",
        "Manufacturer": ""
        if fact == "no-maker"
        else dice.random.choice(("Acme", "Kōwhai Home", "Brewster's")),
        "DateCreated": NULL_DATE if fact == "null-dates" else stamp(created),
        "Items": [],
        "ProductCompositeType": "Group" if fact == "group" else "Product",
        "CompositeChildren": repeat("int", ["100", "101"]) if fact == "group" else [],
        "Catalogues": repeat("string", ["Home"]),
        "Aspects": named_values({"Material": "Wool"}),
        "ProductAspects": [],
        "Metadata": named_values({"keywords": "gift, home"}),
        "Images": _images(fact, number),
        "AdditionalDetails": None,
        "Websites": repeat("int", ["1"]),
        "DateModified": stamp(modified),
    }


def _images(fact: str, number: int) -> Node:
    if fact in {"no-image", "nil-image"}:
        return [] if fact == "no-image" else None
    path = {
        "relative-image": f"images/{number}.jpg",
        "spaced-image": f"/images/big photo {number} \u2013 tāonga.jpg",
    }.get(fact, f"https://cdn.example.com/images/{number}.jpg")
    return named_values({"Main": path, "Side": f"/images/{number}-side.jpg"})
