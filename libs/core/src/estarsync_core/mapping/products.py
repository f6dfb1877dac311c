"""One item with its product to one catalogue record."""

import re
from urllib.parse import quote

import msgspec

from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.records import Item, Product, ProductItem, Text
from estarsync_core.mapping.fields import Notes, absolute_url, amount, identity, required
from estarsync_core.mapping.raw import decode
from estarsync_core.mapping.result import Mapped
from estarsync_core.mapping.text import LIMIT, clean, clean_title
from estarsync_core.profile import TenantProfile, Website

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SCHEMES = ("http://", "https://")
_PLACEHOLDERS = frozenset({"id", "sku"})


class ProductMapper:
    """Maps items as one profile says; the profile must have none of the `problems`."""

    def __init__(self, profile: TenantProfile) -> None:
        self._enabled = profile.products.enabled_statuses
        self._sells_embargoed = profile.products.embargoed == "enabled"
        self._websites = profile.websites
        self._default = profile.default_website
        self._decoder = msgspec.json.Decoder(ProductItem)

    def map(self, key: str, value: bytes) -> Mapped:
        """The catalogue record of an item.

        The price is the item's, else the product's. A product's sale price belongs to the product's price: an item
        with another price of its own has only its own sale price. A product without a status is enabled, since
        the shop lists it.

        Raises:
            InvalidRecord: not an item, its barcode is not the key, no id, no name, no usable price, or a website
                without a currency.
        """
        raw = decode(self._decoder, value)
        product, item = raw.product, raw.item
        sku = required("sku", identity, item.Barcode)
        if sku != key.strip():
            raise InvalidRecord("sku", "key_mismatch")
        notes = Notes()
        product_id = required("id", identity, product.ID)
        site = self._website(product)
        price = required("price", amount, item.Price if clean(item.Price) else product.Price)
        if price < 0:
            raise InvalidRecord("price", "negative")
        special = notes.optional("specialprice", amount, _sale_price(product, item))
        url = site.product_url.replace("{id}", quote(product_id, safe="")).replace(
            "{sku}", quote(sku, safe="")
        )
        if len(url) > LIMIT:
            raise InvalidRecord("url", "too_long")
        status = clean(product.Status)
        document = {
            "id": product_id,
            "sku": key,
            "status": "Enabled" if self._is_on_sale(status, product) else "Disabled",
            "name": notes.fit("name", required("name", clean_title, product.Title)),
            "price": float(price),
            "specialprice": float(special) if special is not None and 0 < special < price else None,
            "currency": site.currency,
            "image_path": notes.optional(
                "image_path", lambda path: absolute_url(path, site.image_base), _first_image(product)
            ),
            "brand": notes.fit("brand", clean(product.Manufacturer) or clean(product.Supplier)),
            "url": url,
        }
        return Mapped(document, None, tuple(notes))

    def _is_on_sale(self, status: str | None, product: Product) -> bool:
        if product.Embargoed == "true" and not self._sells_embargoed:
            return False
        return status is None or status in self._enabled

    def _website(self, product: Product) -> Website:
        """The default website where the product is on it or names none, else its first known one."""
        names = [name for text in product.Websites or () if (name := clean(text))]
        if not names or self._default in names:
            return self._websites[self._default]
        for name in names:
            if name in self._websites:
                return self._websites[name]
        raise InvalidRecord("currency", "unknown_website")


def _sale_price(product: Product, item: Item) -> Text:
    if clean(item.SalePrice):
        return item.SalePrice
    own = clean(item.Price)
    return product.SalePrice if own is None or own == clean(product.Price) else None


def _first_image(product: Product) -> Text:
    return next((image.Value for image in product.Images or () if clean(image.Value)), None)


def problems(profile: TenantProfile) -> list[str]:
    """What in the profile a product mapper can't work by, one line each."""
    return [
        f"websites.{name}.product_url: {site.product_url!r} must start with http:// or https:// and may hold {{id}} "
        "and {sku}, nothing else in braces"
        for name, site in profile.websites.items()
        if not _is_template(site.product_url)
    ] + [
        f"websites.{name}.image_base: {site.image_base!r} must start with http:// or https://"
        for name, site in profile.websites.items()
        if not site.image_base.startswith(_SCHEMES)
    ]


def _is_template(text: str) -> bool:
    return text.startswith(_SCHEMES) and set(_PLACEHOLDER.findall(text)) <= _PLACEHOLDERS
