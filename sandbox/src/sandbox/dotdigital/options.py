"""What can be set on the sandbox: each field's comment says what is behind it; all may change in mid-run."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Tier = Literal["low", "medium", "high", "unlimited"]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Frozen):
    """How many calls are allowed, and how an answer says so.

    `low`, `medium` and `high` are calls a minute; minutes are those of the clock. In the `flat` scheme there is one
    rolling hour and no header.
    """

    scheme: Literal["tiered", "flat"] = "tiered"
    low: Count = 6000
    medium: Count = 6000
    high: Count = 6000
    flat_per_hour: Count = 2000
    reset: Literal["epoch", "delta"] = (
        "epoch"  # the docs say epoch seconds, an SDK's comment says seconds to go
    )
    retry_after: bool = False  # not documented
    body: Literal["empty", "json", "text"] = "empty"  # of a 429 for the tier; not documented


GENEROUS = Limits()
"""Enough for a test that is not about limits."""

BASIC = Limits(low=35, medium=150, high=600)
"""The smallest package. Only the low tier's number is published; medium and high are our assumption."""

PRESETS = {"basic": BASIC, "generous": GENEROUS}


class Options(_Frozen):
    """Everything that makes one sandbox account differ from another."""

    username: str = "apiuser-sandbox@apiconnector.com"
    password: str = "sandbox"  # noqa: S105 - a sandbox's default, open to everybody on purpose

    # The account
    account_id: int = 4711
    account_name: str = "Sandbox"
    currency: str = "NZD"
    time_zone: str = "Pacific/Auckland"
    api_endpoint: str | None = None  # account-info's ApiEndpoint; None = the base URL of the call itself
    wrong_hosts: frozenset[str] = frozenset()  # Host headers of another region: 403 except for account-info
    custom_identifiers: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()  # they share the lists' namespace
    double_opt_in: bool = False  # "enforce double opt-in for all signups, including bulk uploads"
    globally_suppressed: frozenset[str] = frozenset()  # e-mails that no account may import
    recycle_bin: bool = True  # a deleted contact comes back, with its data fields, when it is written again

    # Quota
    limits: Limits = GENEROUS
    tiers: dict[str, Tier] = {}  # "PUT /contacts/v3/import": "low"; over the sandbox's own table

    # Asynchronous jobs
    contact_import_slots: Count = 25
    insight_import_slots: Count = 5
    delete_slots: Count = 5  # the limit exists, its number is not published
    insight_slots_status: Literal[400, 429] = 429  # not documented
    import_seconds: Seconds = 0.2
    import_seconds_per_record: Seconds = 0.0001
    import_shuffle: Share = 0.5  # each delay is varied by up to this share, so imports finish out of order
    max_body_bytes: Count = 50 * 1024 * 1024
    reports_kept: Annotated[int, Field(ge=1)] = 1000  # older reports are 404

    # Strictness, where the published facts leave a choice
    unknown_keys: Literal["reject", "ignore"] = "reject"  # a key that the OpenAPI file does not name
    structural_errors: Literal["reject", "report"] = (
        "reject"  # whole import 400, or ApiSchemaViolation per contact
    )
    text_lists: Literal["report", "reject"] = "report"  # lists: ["12"]; seen only in the report, in the field
    unknown_data_fields: Literal["fail", "ignore"] = "fail"
    duplicates: Literal["first_wins", "none"] = "first_wins"
    resubscribe: Literal["silent", "challenge"] = (
        "silent"  # the OpenAPI file's default; an engineer says challenge
    )
    failure_codes: Literal["documented", "openapi"] = (
        "documented"  # InvalidEmail, Duplicate or invalidEmail, ...
    )
    missing_identity: Literal["reject", "report"] = (
        "reject"  # a contact-scoped record without contactIdentity
    )
    insight_status_words: Literal["finished", "complete"] = (
        "finished"  # production's words, or the OpenAPI file's
    )
    leaked_reasons: bool = True  # failure reasons that only the v2 API declares
    typed_collections: bool = False  # refuse catalogue records without name, sku, price, url, image_path
    list_created_status: Literal[200, 201] = 200  # the OpenAPI file says 200, the swagger file 201

    # Sizes
    text_limit: Count = 1000  # of a data field
    data_field_limit: Count = 395
    list_limit: Count = 5000
    collection_limit: Count = 1000
    insight_text_limit: Count | None = 1000
    insight_key_limit: Count = 255  # of a key inside a record's json; not published
    record_key_pattern: str = r"[A-Za-z0-9._-]{1,255}"  # not published; this much is safe in a URL

    # Read-back
    default_page: Annotated[int, Field(ge=1)] = 1000
    insight_page_max: Annotated[int, Field(ge=1)] = (
        1000  # the OpenAPI file's maxItems, though limit goes to 5000
    )
    short_pages: bool = False  # pages end early at random
    empty_data_fields: Literal["null", "omit"] = "null"

    # Ledger
    keep_calls: Count = 200_000
    keep_writes: Count = 1_000_000
    ledger_path: Path | None = None  # every line, as JSON lines; the newest stay in memory as well
