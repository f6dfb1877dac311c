"""The two addresses of an order record."""

from collections.abc import Callable, Iterable

from estarsync_core.estar.records import Address
from estarsync_core.mapping.fields import Memory, Notes
from estarsync_core.mapping.result import Document
from estarsync_core.mapping.text import LIMIT, clean

Tidy = Callable[[str], str | None]
"""Makes a text fit to send; one that has nothing left may be "" or None."""
Reader = Callable[[str | None], str | None]

_BILLING = frozenset({"billing"})
_DELIVERY = frozenset({"shipping", "delivery"})
_kind = Memory(lambda text: (clean(text) or "").lower())


def billing_address(
    addresses: Iterable[Address], tidy: Tidy, country: Reader | None, notes: Notes
) -> Document | None:
    """The first billing address that says anything.

    Args:
        addresses: an order's.
        tidy: for its texts.
        country: reads a country, where `tidy` does not do.
        notes: gets what was cut.
    """
    for address in addresses:
        if _kind[address.Type] in _BILLING:
            texts = _texts(address, tidy, country)
            if texts is not None:
                one, two, city, region, land, postcode = texts
                document = {
                    "billing_address_1": one or None,
                    "billing_address_2": two or None,
                    "billing_city": city or None,
                    "billing_region": region or None,
                    "billing_country": land or None,
                    "billing_postcode": postcode or None,
                }
                return _fitted(document, texts, notes)
    return None


def delivery_address(
    addresses: Iterable[Address], tidy: Tidy, country: Reader | None, notes: Notes
) -> Document | None:
    """The first address for delivery that says anything; arguments as of `billing_address`."""
    for address in addresses:
        if _kind[address.Type] in _DELIVERY:
            texts = _texts(address, tidy, country)
            if texts is not None:
                one, two, city, region, land, postcode = texts
                document = {
                    "delivery_address_1": one or None,
                    "delivery_address_2": two or None,
                    "delivery_city": city or None,
                    "delivery_region": region or None,
                    "delivery_country": land or None,
                    "delivery_postcode": postcode or None,
                }
                return _fitted(document, texts, notes)
    return None


_Texts = tuple[str | None, str | None, str | None, str | None, str | None, str | None]


def _texts(address: Address, tidy: Tidy, country: Reader | None) -> _Texts | None:
    """Street, suburb, city, state, country and postcode; None where all are empty."""
    one, two, city, region = address.Street, address.Suburb, address.City, address.State
    land, postcode = address.Country, address.Postcode
    if one:
        one = tidy(one)
    if two:
        two = tidy(two)
    if city:
        city = tidy(city)
    if region:
        region = tidy(region)
    if country is not None:
        land = country(land)
    elif land:
        land = tidy(land)
    if postcode:
        postcode = tidy(postcode)
    if one or two or city or region or land or postcode:
        return one, two, city, region, land, postcode
    return None


def _fitted(document: Document, texts: _Texts, notes: Notes) -> Document:
    """The address, with no text longer than Dotdigital takes."""
    if sum(map(len, filter(None, texts))) <= LIMIT // 2:
        return document
    return {field: notes.fit(field, text) for field, text in document.items()}
