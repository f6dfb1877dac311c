"""Customers that share an e-mail to one contact.

The winner among them speaks for the contact: active before inactive, then the latest modified, then the highest
numeric id.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import GenericAlias
from typing import Any, cast

import msgspec

from estarsync_core.dotdigital.fields import CREATED_FIELDS, DATA_FIELDS, DataFieldType
from estarsync_core.errors import InvalidRecord
from estarsync_core.estar.records import Address, Customer, CustomerGroup, Text
from estarsync_core.keys import canonical_email
from estarsync_core.mapping.fields import BadValue, Notes, Times, boolean, country_reader
from estarsync_core.mapping.raw import decode
from estarsync_core.mapping.result import Document, Mapped
from estarsync_core.mapping.text import clean
from estarsync_core.mapping.transforms import TRANSFORMS
from estarsync_core.profile import FieldSource, TenantProfile

Leaf = Callable[[Customer], object]

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_NO_ADDRESS = Address()
_LISTS = frozenset({"Attributes", "InterestGroups", "Addresses", "Websites"})
_NESTED = frozenset({"Account"})
_CHOSEN = {
    name for name in CREATED_FIELDS if not name.startswith("BILLING_")
}  # their source is the profile's
_ACTIVE = "CUSTOMER_ACTIVE"
_BIRTH = "DOB"
_CONSENT = "NEWSLETTER_SUBSCRIBE"


class ContactMapper:
    """Maps customer groups as one profile says; the profile must have none of the `problems`."""

    def __init__(self, profile: TenantProfile) -> None:
        self._times = Times(profile.zone, profile.null_dates)
        self._billing_types = frozenset(kind.lower() for kind in profile.contacts.billing_address_types)
        sources: dict[str, FieldSource] = {
            name: source for name, source in profile.contacts.fields.items() if source
        }
        self._decoder = _decoder(sources)
        self._leaves = {name: _leaf(source) for name, source in sources.items()}
        self._sources = sources
        self._lookups = {name: profile.lookup_of(source) for name, source in sources.items()}
        self._country = country_reader(profile.countries)
        self._shared_consent = profile.contacts.shared_consent if _CONSENT in sources else "winner"
        self._unmapped = frozenset(_CHOSEN - sources.keys())

    def map(self, key: str, value: bytes) -> Mapped:
        """The contact of a group.

        A data field is null where the shop says nothing, which clears it; it is null and named in `omitted` where
        the profile does not map it or its value is bad, so that Dotdigital keeps what it has.

        Raises:
            InvalidRecord: not a group, nobody in it, or the winner's e-mail is not the key.
        """
        group = decode(self._decoder, value)
        if not group.customers:
            raise InvalidRecord("customers", "missing")
        winner = max(group.customers, key=self._rank) if len(group.customers) > 1 else group.customers[0]
        email = canonical_email(winner.Email)
        if email != key:
            raise InvalidRecord("email", "key_mismatch")
        notes = Notes()
        values: Document = dict.fromkeys(DATA_FIELDS)
        self._names(winner, values, notes)
        self._billing(winner, values, notes)
        bad = set(self._chosen(winner, values, notes))
        if self._shared_consent != "winner" and len(group.customers) > 1:
            self._share_consent(group.customers, values, bad)
        document: Document = {
            "email": email,
            "renamed_from": notes.optional("renamed_from", _former(email), group.renamed_from),
            "data_fields": values,
            "omitted": [name for name in DATA_FIELDS if name in bad or name in self._unmapped],
        }
        return Mapped(document, None, tuple(notes))

    def _names(self, customer: Customer, values: Document, notes: Notes) -> None:
        first, last = clean(customer.FirstName), clean(customer.LastName)
        values["FIRSTNAME"] = notes.fit("FIRSTNAME", first)
        values["LASTNAME"] = notes.fit("LASTNAME", last)
        values["FULLNAME"] = notes.fit("FULLNAME", " ".join(filter(None, (first, last))) or None)

    def _billing(self, customer: Customer, values: Document, notes: Notes) -> None:
        address = self._billing_address(customer.Addresses or ())
        values["BILLING_ADDRESS_1"] = notes.text("BILLING_ADDRESS_1", address.Street)
        values["BILLING_ADDRESS_2"] = notes.text("BILLING_ADDRESS_2", address.Suburb)
        values["BILLING_CITY"] = notes.text("BILLING_CITY", address.City)
        values["BILLING_COMPANY"] = notes.text("BILLING_COMPANY", address.Company)
        values["BILLING_COUNTRY"] = notes.fit("BILLING_COUNTRY", self._country(address.Country))
        values["BILLING_POSTCODE"] = notes.text("BILLING_POSTCODE", address.Postcode)
        values["BILLING_STATE"] = notes.text("BILLING_STATE", address.State)
        phone = clean(address.ContactPhone) or clean(customer.Phone) or clean(customer.Mobile)
        values["BILLING_TELEPHONE"] = notes.fit("BILLING_TELEPHONE", phone)

    def _billing_address(self, addresses: list[Address] | tuple[()]) -> Address:
        for address in addresses:
            if (clean(address.Type) or "").lower() in self._billing_types:
                return address
        return addresses[0] if addresses else _NO_ADDRESS

    def _chosen(self, customer: Customer, values: Document, notes: Notes) -> list[str]:
        """Sets the fields whose source the profile chooses; gives the names of those whose value is bad."""
        bad = []
        for name, leaf in self._leaves.items():
            try:
                values[name] = self._value(name, leaf(customer), notes)
            except BadValue as problem:
                notes.append((name, problem.code))
                bad.append(name)
        birth = values[_BIRTH]
        if birth is not None and _LONG_AGO.date() < self._modified(customer).date() < birth:
            values[_BIRTH] = None
            notes.append((_BIRTH, "out_of_range"))  # born after the record was written
            bad.append(_BIRTH)
        return bad

    def _share_consent(self, customers: list[Customer], values: Document, bad: set[str]) -> None:
        """Consent by all who share the e-mail; who says nothing, or nothing that can be read, has no vote."""
        votes = set()
        for customer in customers:
            try:
                votes.add(self._value(_CONSENT, self._leaves[_CONSENT](customer), Notes()))
            except BadValue:
                continue
        votes.discard(None)
        if votes:
            values[_CONSENT] = False not in votes if self._shared_consent == "all" else True in votes
            bad.discard(_CONSENT)

    def _value(self, name: str, raw: object, notes: Notes) -> object:
        if raw is not None and not isinstance(raw, str):
            raise BadValue("wrong_type")
        text = clean(raw)
        source = self._sources[name]
        for transform in source.use:
            text = clean(TRANSFORMS[transform](text)) if text is not None else None
        lookup = self._lookups[name]
        if lookup and text is not None:
            if text in lookup:
                text = lookup[text]
            elif source.unknown == "omit":
                raise BadValue("not_in_lookup")
            else:
                notes.append((name, "not_in_lookup"))
        if text is None:
            text = source.default
        match DATA_FIELDS[name]:
            case DataFieldType.BOOLEAN:
                return boolean(text)
            case DataFieldType.DATE:
                return self._times.day(text)
            case _:
                return notes.fit(name, text)

    def _rank(self, customer: Customer) -> tuple[bool, datetime, bool, int, str]:
        digits = customer.ID.strip().lstrip("0")
        numeric = digits.isascii() and digits.isdigit()
        return self._active(customer), self._modified(customer), numeric, len(digits), digits

    def _active(self, customer: Customer) -> bool:
        leaf = self._leaves.get(_ACTIVE)
        if leaf is None:
            return True
        try:
            return self._value(_ACTIVE, leaf(customer), Notes()) is not False
        except BadValue:
            return True

    def _modified(self, customer: Customer) -> datetime:
        try:
            return self._times.instant(customer.DateModified) or _LONG_AGO
        except BadValue:
            return _LONG_AGO


def _former(email: str) -> Callable[[Text], str | None]:
    """A parser of the e-mail that the shopper had before; the same as now is none."""

    def parse(raw: Text) -> str | None:
        if clean(raw) is None:
            return None
        try:
            former = canonical_email(raw)
        except InvalidRecord as invalid:
            raise BadValue(invalid.code) from invalid
        return None if former == email else former

    return parse


def _decoder(sources: Mapping[str, FieldSource]) -> msgspec.json.Decoder[CustomerGroup]:
    """A decoder that also keeps the elements which only this profile knows."""
    tops = {source.path.partition(".")[0] for source in sources.values() if source.path}
    extra = sorted(tops - set(Customer.__struct_fields__))
    if not extra:
        return msgspec.json.Decoder(CustomerGroup)
    fields = [(name, Any, None) for name in extra]
    customers = GenericAlias(list, (msgspec.defstruct("Customer", fields, bases=(Customer,), frozen=True),))
    group = msgspec.defstruct(
        "CustomerGroup", [("customers", customers), ("renamed_from", Text, None)], frozen=True
    )
    return cast("msgspec.json.Decoder[CustomerGroup]", msgspec.json.Decoder(group))


def problems(profile: TenantProfile) -> list[str]:
    """What in the profile a contact mapper can't work by, one line each."""
    sources = ((name, source.path) for name, source in profile.contacts.fields.items() if source)
    return [
        f"contacts.fields.{name}.path: {path!r} is not the path of a text: write the name of a customer's element, "
        "or two names with a dot between, such as Account.AccountType"
        for name, path in sources
        if path is not None and not _holds_text(path)
    ]


def _holds_text(path: str) -> bool:
    top, *rest = path.split(".")
    if not top.isidentifier() or not all(rest):
        return False
    if top not in Customer.__struct_fields__:
        return True  # an element of this shop alone: what it holds is seen in each record
    return bool(rest) if top in _NESTED else not rest and top not in _LISTS


def _leaf(source: FieldSource) -> Leaf:
    if source.attribute is not None:
        return _attribute(source.attribute)
    if source.interest_group is not None:
        return _interest_group(source.interest_group)
    top, *rest = (source.path or "").split(".")

    def read(customer: Customer) -> object:
        found: object = getattr(customer, top)
        for step in rest:
            if not isinstance(found, dict):
                return found
            found = found.get(step)
        return found

    return read


def _attribute(name: str) -> Leaf:
    def read(customer: Customer) -> object:
        for pair in customer.Attributes or ():
            if clean(pair.Name) == name:
                return pair.Value
        return None

    return read


def _interest_group(name: str) -> Leaf:
    def read(customer: Customer) -> object:
        if customer.InterestGroups is None:
            return None
        return "true" if any(clean(group) == name for group in customer.InterestGroups) else "false"

    return read
