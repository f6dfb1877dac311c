"""The tenant profile: everything that differs from one eStar site to the next, as one validated value."""

from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from estarsync_core.errors import ConfigurationError

Positive = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Operation(_Part):
    """One SOAP operation: where it is, what its arguments and its rows are called.

    `arguments` maps our word for an argument to the element it travels in (`ids: customerIDs/int` repeats
    `<int>` inside `<customerIDs>`); `result` is the path from `<…Result>` to the rows.
    """

    service: str
    operation: str
    namespace: str
    arguments: dict[str, str]
    result: str
    batch: Annotated[int, Field(ge=1)] = 1


class Operations(_Part):
    """Every operation that the adapter calls."""

    authenticate: Operation
    list_customers_modified: Operation
    retrieve_customers: Operation
    list_orders_created: Operation
    list_orders_modified: Operation
    retrieve_orders: Operation
    retrieve_related_orders: Operation
    list_products: Operation
    retrieve_products: Operation
    retrieve_events: Operation


class Soap(_Part):
    """How the site is called."""

    path: str
    version: Literal["1.1", "1.2"]
    token_argument: str
    timeout_seconds: Positive
    max_response_bytes: Annotated[int, Field(gt=0)]
    operations: Operations


class Records(_Part):
    """How a response becomes a record."""

    lists: frozenset[str]
    drop: frozenset[str]
    rename: dict[str, str]


class Notifications(_Part):
    """What a notification is called in the events operation, and what names an order in its message."""

    subscriber: str
    sequence: str
    type: str
    message: str
    order_ids: Annotated[tuple[str, ...], Field(min_length=1)]


class Windows(_Part):
    """How time is cut when changes are listed."""

    initial_hours: Positive
    max_hours: Positive
    max_ids: Annotated[int, Field(gt=0)]
    overlap_minutes: Annotated[float, Field(ge=0)]
    lag_seconds: Annotated[float, Field(ge=0)]
    deep_days: Positive = 15.0


class Cadences(_Part):
    """Minutes from the end of one run to the start of the next."""

    contacts_modified: Positive
    orders_created: Positive
    orders_modified: Positive
    orders_deep: Positive
    products_snapshot: Positive


class Website(_Part):
    """What one of the shop's websites sells in, and where its pages and images are."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    product_url: str
    image_base: str


class FieldSource(_Part):
    """Where a data field comes from: a dotted path into the customer, or one of its Attributes by name."""

    path: str | None = None
    attribute: str | None = None
    lookup: dict[str, str] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.attribute is None):
            raise ValueError("give either path or attribute")
        return self


class Contacts(_Part):
    """How customers become contacts."""

    billing_address_types: tuple[str, ...]
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


class Products(_Part):
    """How items become catalogue records."""

    enabled_statuses: frozenset[str]


class Orders(_Part):
    """How order trees become order records."""

    statuses: frozenset[str]
    dropped_line_statuses: frozenset[str]
    split_line_statuses: frozenset[str]


class TenantProfile(_Part):
    """One retailer's eStar site. Build it with `load_profile`."""

    timezone: str
    history_start: date
    soap: Soap
    records: Records
    notifications: Notifications
    windows: Windows
    cadences: Cadences
    websites: Annotated[dict[str, Website], Field(min_length=1)]
    default_website: str
    null_dates: frozenset[date]
    contacts: Contacts
    products: Products
    orders: Orders

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{value!r} is not an IANA time zone, such as Pacific/Auckland") from error
        return value

    @model_validator(mode="after")
    def _default_website_exists(self) -> Self:
        if self.default_website not in self.websites:
            raise ValueError(f"default_website {self.default_website!r} is not one of websites")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The shop's time zone."""
        return ZoneInfo(self.timezone)


def default_document() -> dict[str, Any]:
    """The default profile as plain data (it has no websites, so it is not a whole profile yet)."""
    text = files("estarsync_core.profiles").joinpath("default.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def load_profile(text: str, origin: str) -> TenantProfile:
    """A tenant profile from its YAML text, laid over the default profile.

    Args:
        text: the YAML document; only what differs from the default.
        origin: what to call it in error messages, such as its file name.

    Raises:
        ConfigurationError: with one line per problem, naming the key.
    """
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError([f"{origin} is not YAML: {error}"]) from error
    if not isinstance(document, dict):
        raise ConfigurationError([f"{origin} must be a map of keys, as the default profile is"])
    try:
        return TenantProfile.model_validate(_merge(default_document(), document))
    except ValidationError as error:
        raise ConfigurationError(
            [f"{origin}: {'.'.join(map(str, e['loc'])) or 'the profile'}: {e['msg']}" for e in error.errors()]
        ) from error


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], at: tuple[str, ...] = ()) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        mine = merged.get(key)
        # A field's source is one thing: another one replaces it as a whole.
        part_by_part = isinstance(mine, dict) and isinstance(value, dict) and at != ("contacts", "fields")
        merged[key] = _merge(mine or {}, value, (*at, key)) if part_by_part else value
    return merged
