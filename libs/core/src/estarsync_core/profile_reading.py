"""The part of a tenant profile that says how a site is read: where it is, its names, windows and cadences."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator


def as_text(value: object) -> object:
    """What YAML takes for a number or a truth value, as the text that the shop would write."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Positive = Annotated[float, Field(gt=0)]
Word = Annotated[str, BeforeValidator(as_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]


class Part(BaseModel):
    """One map of a profile: its keys are known, and it does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Reference(Part):
    """Where a secret is: the profile itself never holds one."""

    env: str | None = None
    """The environment variable that holds it."""
    file: str | None = None
    """The file that holds it, such as a mounted secret."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env or file")
        return self


class Site(Part):
    """Where the eStar site is, and who may read it."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^/\s?#@]+")] | None
    """The primary site's URL; satellite sites have no API. ESTAR_BASE_URL goes before it."""
    username: Reference
    """Where the API user's name is. ESTAR_USERNAME goes before it."""
    password: Reference
    """Where the API user's password is. ESTAR_PASSWORD goes before it."""


class Operation(Part):
    """One SOAP operation: where it is, what its arguments and its rows are called.

    `arguments` maps our word for an argument to the element it travels in (`ids: customerIDs/int` repeats
    `<int>` inside `<customerIDs>`); `result` is the path from `<…Result>` to the rows.
    """

    service: str
    operation: str
    namespace: str
    arguments: dict[str, str]
    """Our word for each argument, and the element it travels in."""
    result: str
    """The path from the result to the rows."""
    batch: Annotated[int, Field(ge=1)] = 1
    """How many ids one call may ask for."""


class Operations(Part):
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


class Soap(Part):
    """How the site is called."""

    path: str
    """The path of a service's endpoint, with {service}."""
    version: Annotated[
        Literal["1.1", "1.2"],
        BeforeValidator(as_text),
        WithJsonSchema({"enum": ["1.1", "1.2", 1.1, 1.2]}),
    ]
    """SOAP's."""
    token_argument: str
    """The element that carries the token, the first parameter of every call."""
    timeout_seconds: Positive
    """How long an answer may take as a whole."""
    max_response_bytes: Annotated[int, Field(gt=0)]
    """A larger answer is given up; less is asked for the next time."""
    pause_seconds: Annotated[float, Field(ge=0)]
    """Calls are made one at a time; so long is waited between the end of one and the start of the next."""
    operations: Operations


class Records(Part):
    """How a response becomes a record."""

    lists: frozenset[str]
    """Elements that hold a list, whatever their children are called. The default's are always among them."""
    drop: frozenset[str]
    """Elements, and names of attributes, that never leave the extractor. The default's are always among them."""
    rename: dict[str, str]
    """Another site's element names, translated into the published ones: {Theirs: Ours}."""


class Notifications(Part):
    """What a notification is called in the events operation, and what names an order in its message."""

    subscriber: str
    sequence: str
    type: str
    message: str
    order_ids: Annotated[tuple[str, ...], Field(min_length=1)]
    """The names in a message that hold ids of orders."""


class Windows(Part):
    """How time is cut when changes are listed."""

    initial_hours: Positive
    """How wide the first window of a first load is."""
    max_hours: Positive
    """How wide a window may become."""
    max_ids: Annotated[int, Field(gt=0)]
    """A window that lists more is halved the next time."""
    overlap_minutes: Annotated[float, Field(ge=0)]
    """How far each run begins before the end of the last one."""
    lag_seconds: Annotated[float, Field(ge=0)]
    """How far a run stays behind now, for what the shop commits late."""
    deep_days: Positive = 15.0
    """How far back the deep sweep reads."""


class Cadences(Part):
    """Minutes from the end of one run to the start of the next."""

    contacts_modified: Positive
    orders_created: Positive
    orders_modified: Positive
    orders_deep: Positive
    products_snapshot: Positive
