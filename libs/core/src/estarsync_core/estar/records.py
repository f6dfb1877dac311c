"""The value of a raw event: eStar's records under the names that eStar publishes, as JSON.

The names are those of the published object model (API facts, 3.1, 3.3, 3.4). A profile translates another
site's element names into these; elements without a place here stay in the JSON and the mapping ignores them.

Every leaf is text exactly as the shop wrote it, so that prices stay exact and a mapping fix can be replayed
from raw events: `null` stands for `xsi:nil`, `""` for an empty element, and an absent element is absent.
"""

import msgspec

Text = str | None


class NameValue(msgspec.Struct, frozen=True, gc=False):
    """One of a customer's attributes or a product's named images."""

    Name: Text = None
    Value: Text = None


class Address(msgspec.Struct, frozen=True, gc=False):
    """A customer's or an order's address; `Type` says which (`Billing`, `Shipping`, …)."""

    Type: Text = None
    FirstName: Text = None
    LastName: Text = None
    ContactPhone: Text = None
    Company: Text = None
    Street: Text = None
    Suburb: Text = None
    State: Text = None
    City: Text = None
    Postcode: Text = None
    Country: Text = None


class Customer(msgspec.Struct, frozen=True, gc=False):
    """One customer account."""

    ID: str
    Email: Text = None
    FirstName: Text = None
    LastName: Text = None
    Phone: Text = None
    Mobile: Text = None
    CustomerType: Text = None
    LpmStatus: Text = None
    Account: dict[str, Text] | None = None
    Attributes: list[NameValue] | None = None
    InterestGroups: list[Text] | None = None
    Addresses: list[Address] | None = None
    Websites: list[Text] | None = None
    DateCreated: Text = None
    DateModified: Text = None


class CustomerGroup(msgspec.Struct, frozen=True, gc=False):
    """The value of `estar.contacts.v1`: all customers that share the key's e-mail."""

    customers: list[Customer]
    renamed_from: Text = None


class Item(msgspec.Struct, frozen=True, gc=False):
    """One sellable item of a product: the real sku."""

    Barcode: str
    ID: Text = None
    Size: Text = None
    Colour: Text = None
    Price: Text = None
    SalePrice: Text = None
    Quantity: Text = None


class Price(msgspec.Struct, frozen=True, gc=False):
    """A product's or item's price on one website; where there are several, the profile's website counts."""

    Barcode: Text = None
    Website: Text = None
    Price: Text = None
    SalePrice: Text = None


class Product(msgspec.Struct, frozen=True, gc=False):
    """A product, without its items. `Embargoed` is ours: `true` where its day of sale had not come when it was read."""

    ID: str
    Title: Text = None
    Supplier: Text = None
    Manufacturer: Text = None
    Status: Text = None
    Price: Text = None
    SalePrice: Text = None
    AvailableFrom: Text = None
    Embargoed: Text = None
    Websites: list[Text] | None = None
    Images: list[NameValue] | None = None
    DateCreated: Text = None
    DateModified: Text = None


class ProductItem(msgspec.Struct, frozen=True, gc=False):
    """The value of `estar.products.v1`: one item with the product it belongs to."""

    product: Product
    item: Item


class OrderLine(msgspec.Struct, frozen=True, gc=False):
    """One line of an order."""

    ID: Text = None
    Barcode: Text = None
    Title: Text = None
    Quantity: Text = None
    UnitPrice: Text = None
    UnitDiscount: Text = None
    StatusCode: Text = None
    ProductID: Text = None


class Order(msgspec.Struct, frozen=True, gc=False):
    """One order of a split tree. `ReplacementOf` names the order that this one replaces, if it is a replacement."""

    ID: str
    ParentOrderID: Text = None
    Customer: Text = None
    Email: Text = None
    OrderDate: Text = None
    Status: Text = None
    OrderStatus: Text = None
    ReplacementOf: Text = None
    Website: Text = None
    Total: Text = None
    FreightTotal: Text = None
    DiscountTotal: Text = None
    DeliveryMethod: Text = None
    Addresses: list[Address] | None = None
    Items: list[OrderLine] | None = None
    DateModified: Text = None


class OrderTree(msgspec.Struct, frozen=True, gc=False):
    """The value of `estar.orders.v1`: the root order first, then its descendants by id."""

    orders: list[Order]
