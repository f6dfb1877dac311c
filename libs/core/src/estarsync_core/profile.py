"""The tenant profile: everything that differs from one eStar site to the next, as one validated value."""

import codecs
from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from estarsync_core.errors import ConfigurationError, InvalidRecord
from estarsync_core.keys import canonical_email
from estarsync_core.profile_problems import described
from estarsync_core.profile_reading import (
    Cadences,
    Notifications,
    Operation,
    Operations,
    Part,
    Positive,
    Records,
    Reference,
    Site,
    Soap,
    Windows,
    Word,
)
from estarsync_core.profile_text import Place, read_text


def _name_or_map(value: object) -> object:
    if not isinstance(value, str | dict | None):
        problem = "must be a map, or the name of one of `lookups`"
        raise ValueError(problem)  # noqa: TRY004 - pydantic reports no TypeError
    return value


__all__ = [
    "Cadences",
    "Contacts",
    "FieldSource",
    "Lookup",
    "Notifications",
    "Operation",
    "Operations",
    "Orders",
    "ProductFeed",
    "Products",
    "Records",
    "Reference",
    "Site",
    "Soap",
    "TenantProfile",
    "Transform",
    "Website",
    "Windows",
    "default_document",
    "load_profile",
]

Lookup = dict[str, Word]
Transform = Literal["lower", "upper", "digits", "invert", "day_first", "month_first"]
"""What can be done with a customer's text before it is read: `lower` and `upper` case; `digits` keeps only those;
`invert` makes yes of no and no of yes; `day_first` and `month_first` read 3/4/1980 as a date."""


class Website(Part):
    """What one of the shop's websites sells in, and where its pages and images are."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    """ISO 4217, such as NZD."""
    product_url: str
    """A product's page, with {id} and {sku} where they belong."""
    image_base: str
    """What a relative path of an image is below."""


class FieldSource(Part):
    """Where a data field comes from, and what is done with it: transforms, then the lookup, then the default."""

    path: str | None = None
    """A dotted path into the customer: `CustomerType`, `Account.AccountType`."""
    attribute: str | None = None
    """The name of one of the customer's Attributes."""
    interest_group: str | None = None
    """The name of an interest group: true where the customer is in it, else false."""
    use: tuple[Transform, ...] = ()
    """Transforms, in this order."""
    lookup: Annotated[str | Lookup | None, BeforeValidator(_name_or_map)] = None
    """What each text becomes: a map, or the name of one of `lookups`."""
    unknown: Literal["keep", "omit"] = "keep"
    """What becomes of a text that the lookup does not hold."""
    default: Word | None = None
    """What the field is where the shop says nothing."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.path, self.attribute, self.interest_group].count(None) != 2:  # noqa: PLR2004 - all but one
            raise ValueError("give either path or attribute or interest_group")
        return self


class Contacts(Part):
    """How customers become contacts."""

    billing_address_types: tuple[str, ...]
    """The first address of these types is the billing address, else the first of all."""
    shared_consent: Literal["winner", "all", "any"]
    """Whose NEWSLETTER_SUBSCRIBE counts where several customers share an e-mail: the winner's (active, then modified
    last, then the highest id); `all`: yes where nobody says no; `any`: yes where somebody says yes."""
    placeholder_emails: frozenset[str]
    """What the staff types where there is no e-mail: it is nobody's, so customers and orders with it are dead letters."""
    fields: dict[
        Literal[
            "CUSTOMER_ID",
            "CUSTOMER_TYPE",
            "CUSTOMER_USER_GROUP",
            "CUSTOMER_ACTIVE",
            "DOB",
            "NEWSLETTER_SUBSCRIBE",
            "ON_CREDIT_HOLD",
        ],
        FieldSource | None,
    ]

    @field_validator("placeholder_emails")
    @classmethod
    def _canonical(cls, value: frozenset[str]) -> frozenset[str]:
        try:
            return frozenset(canonical_email(email) for email in value)
        except InvalidRecord as error:
            raise ValueError(
                "holds something that is no e-mail; that is a dead letter by itself: take it out"
            ) from error


class ProductFeed(Part):
    """A file that holds all products, for a site without an operation that does.

    Each row is a product or an item of one. Rows with one ID are one product; a column or an element is found by the
    published name that `fields` gives it, those of an item under `Item.`.
    """

    location: Annotated[
        str, Field(pattern=r"^(/|\./|https://[^/\s?#@]+/|http://(localhost|127\.0\.0\.1)(:[0-9]+)?/)")
    ]
    """A file, a pattern such as /feeds/products-*.csv whose newest match is taken, or an https URL. A name that ends
    in .gz is unpacked."""
    format: Literal["xml", "jsonl", "csv"]
    fields: dict[str, str] = Field(default_factory=dict)
    """Published names by the feed's own: {sku: Item.Barcode, title: Title}. What is not named keeps its name; a CSV
    file must have every column that is named."""
    record: str = "Product"
    """Of XML: the path to a row from anywhere above it, such as Products/Product."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Of CSV."""
    encoding: str = "utf-8-sig"
    """Of CSV and JSON lines; XML says it itself."""
    done: str | None = None
    """A file counts as whole once another one with this ending beside it exists, such as .done. Without it, once
    it has not changed for `settle_seconds`."""
    settle_seconds: Annotated[float, Field(ge=0)] = 60.0
    max_bytes: Annotated[int, Field(gt=0)] = 2**31
    """A larger file, unpacked, is not taken."""
    max_row_bytes: Annotated[int, Field(gt=0)] = 2**20
    """A larger row is a dead letter; in XML, where no row ends in sight, the file is not taken."""
    timeout_seconds: Positive = 600.0
    """How long a download may take as a whole."""
    authorization: Reference | None = None
    """Where the value of the Authorization header is, such as `Bearer …`."""

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError as error:
            raise ValueError(f"{value!r} is no character set, such as utf-8 or windows-1252") from error
        return value

    @property
    def is_remote(self) -> bool:
        """Whether it is fetched over HTTP."""
        return self.location.startswith("http")


class Products(Part):
    """How items become catalogue records."""

    enabled_statuses: frozenset[Word]
    """The statuses of products that are on sale; a product without a status is too."""
    embargoed: Literal["disabled", "enabled"]
    """What a product is whose AvailableFrom is still to come."""
    feed: ProductFeed | None
    """Where products are read from, if not from the site's operations."""


class Orders(Part):
    """How order trees become order records."""

    statuses: frozenset[Word]
    """Orders in another status are not sent; one that was sent and gets another status is removed."""
    void_statuses: frozenset[Word]
    """The statuses of orders that were voided or cancelled."""
    voided: Literal["keep", "remove"]
    """`keep` sends voided orders with their status; `remove` takes them away. VOIDED_ORDERS goes before it."""
    status_names: Lookup
    """Names for the numbers in OrderStatus, for orders whose Status says nothing."""
    replacements: Literal["keep", "remove"]
    """Orders that replace another one, which was paid for already: `remove` does not send them."""
    replacement_values: frozenset[Word]
    """What ReplacementOf holds in such an order; empty: anything but nothing and 0."""
    dropped_line_statuses: frozenset[Word]
    """Lines in these statuses were returned, deleted or moved: they count for nothing."""
    split_line_statuses: frozenset[Word]
    """Lines in these statuses say that an order has relatives."""


def _wrong_name(name: str, among: str, *place: str) -> PydanticCustomError:
    message = f"{name!r} is not one of {among}"
    return PydanticCustomError("wrong_name", "{message}", {"message": message, "place": place})


class TenantProfile(Part):
    """One retailer's eStar site. Build it with `load_profile`."""

    site: Site
    timezone: str
    """The shop's IANA time zone: times without an offset are in it."""
    history_start: date
    """A first load reads from this day's midnight in the shop's zone."""
    soap: Soap
    records: Records
    notifications: Notifications
    windows: Windows
    cadences: Cadences
    websites: Annotated[dict[str, Website], Field(min_length=1)]
    """What each of the shop's websites sells in, by its id."""
    default_website: Word
    """The website of records that name none."""
    null_dates: frozenset[date]
    """Dates that stand for nothing."""
    lookups: dict[str, Lookup]
    """Maps that a field's `lookup` may name."""
    countries: Lookup
    """What to send in the place of a country as the shop writes it; upper and lower case are the same."""
    contacts: Contacts
    products: Products
    orders: Orders

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is not an IANA time zone, such as Pacific/Auckland") from error
        return value

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if self.default_website not in self.websites:
            raise _wrong_name(self.default_website, "websites", "default_website")
        for name, source in self.contacts.fields.items():
            if source and isinstance(source.lookup, str) and source.lookup not in self.lookups:
                raise _wrong_name(source.lookup, "lookups", "contacts", "fields", name, "lookup")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The shop's time zone."""
        return ZoneInfo(self.timezone)

    def lookup_of(self, source: FieldSource) -> Lookup:
        """A source's lookup, whether it is named or not; empty where there is none."""
        if isinstance(source.lookup, str):
            return self.lookups[source.lookup]
        return source.lookup or {}


_REPLACED = {("contacts", "fields"), ("products",), ("site",), ("websites",)}
"""Maps whose values are one thing each: another one replaces it as a whole."""
_ADDED_TO = {("records", "drop"), ("records", "lists")}
"""Lists that only grow: a site with one more secret must not lose sight of the others."""


def default_document() -> dict[str, Any]:
    """The default profile as plain data (it has no websites, so it is not a whole profile yet)."""
    text = files("estarsync_core.profiles").joinpath("default.yaml").read_text(encoding="utf-8")
    return read_text(text, "default.yaml").data


def load_profile(
    text: str, origin: str, overrides: Mapping[str, Mapping[str, object]] | None = None
) -> TenantProfile:
    """A tenant profile from its YAML text, laid over the default profile.

    Args:
        text: the YAML document; only what differs from the default.
        origin: what to call it in error messages, such as its file name.
        overrides: what goes before the text, by part and key, such as `{"orders": {"voided": "remove"}}`.

    Raises:
        ConfigurationError: with one line per problem, naming the line and the key and saying what to do.
    """
    own = read_text(text, origin)
    document = _merge(_merge(default_document(), own.data), overrides or {})
    try:
        return TenantProfile.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(described(error, own, origin, TenantProfile)) from error


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], at: Place = ()) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        mine = merged.get(key)
        here = (*at, key)
        if isinstance(mine, dict) and isinstance(value, Mapping) and at not in _REPLACED:
            merged[key] = _merge(mine, value, here)
        elif isinstance(mine, list) and isinstance(value, list) and here in _ADDED_TO:
            merged[key] = [*mine, *value]
        else:
            merged[key] = value
    return merged
