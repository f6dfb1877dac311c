"""The bodies that v3 calls take, by the OpenAPI files: decoding one checks it."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Scope = Literal["account", "contact"]
MergeOption = Literal["overwrite", "overwriteIfNotEmpty", "overwriteIfEmpty"]
MobileStatus = Literal["noSubscription", "subscribed", "unsubscribed", "suppressed"]
INT32 = 2**31 - 1

_LOCALES = Literal[
    "cs-CS", "da-DA", "de-DE", "el-EL", "en-EN", "es-ES", "es", "fi-FI", "fr-FR", "hu-HU",
    "it-IT", "nl-NL", "nb-NO", "pl-PL", "pt-PT", "ru-RU", "se-SE", "sk-SK", "tr-TR", "zh-CN",
]  # fmt: skip


class _Strict(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    pass


class ResubscribeOptions(_Strict):
    """How somebody who left is asked back."""

    resubscribe_with_no_challenge: bool = True
    preferred_locale: _LOCALES | UnsetType = UNSET
    redirect_url_after_challenge: str | UnsetType = UNSET


class EmailChannel(_Strict):
    """`emailType` and `optInType` are matched in any case, as the OpenAPI file's own example needs."""

    email_type: str | UnsetType = UNSET
    opt_in_type: str | UnsetType = UNSET
    status: Literal["subscribed", "unsubscribed", "suppressed"] | UnsetType = UNSET
    resubscribe_options: ResubscribeOptions | UnsetType = UNSET


class MobileChannel(_Strict):
    """SMS or WhatsApp."""

    status: MobileStatus | UnsetType = UNSET


class ChannelProperties(_Strict):
    """No other channel exists."""

    email: EmailChannel | UnsetType = UNSET
    sms: MobileChannel | UnsetType = UNSET
    whats_app: MobileChannel | UnsetType = UNSET


class Preference(_Strict):
    """A marketing preference and whether it is wanted."""

    id: int
    is_opted_in: bool


class ConsentRecord(_Strict):
    """What somebody agreed to, when and where."""

    text: Annotated[str, Meta(min_length=1)]
    date_time_consented: str
    url: str
    ip_address: str
    user_agent: Annotated[str, Meta(min_length=1)]


class ContactEntry(_Strict):
    """A contact in a single call."""

    identifiers: dict[str, str | int] = {}
    match_identifier: Annotated[str, Meta(pattern="^[-A-Za-z0-9_]{1,50}$")] | UnsetType = UNSET
    data_fields: dict[str, Any] | UnsetType = UNSET
    channel_properties: ChannelProperties | UnsetType = UNSET
    lists: Annotated[list[int | str], Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    preferences: Annotated[list[Preference], Meta(min_length=1)] | UnsetType = UNSET
    consent_records: Annotated[list[ConsentRecord], Meta(min_length=1, max_length=5)] | UnsetType = UNSET


class LenientEntry(ContactEntry, forbid_unknown_fields=False):
    """The same, where unknown keys are ignored."""


class ImportEntry(ContactEntry):
    """A contact in an import."""

    identifiers: dict[str, str | int]
    match_identifier: Annotated[str, Meta(pattern="^[-A-Za-z0-9_]{1,50}$")]


class LenientImportEntry(ImportEntry, forbid_unknown_fields=False):
    """The same, where unknown keys are ignored."""


class ContactImport(_Strict):
    """`PUT /contacts/v3/import`."""

    contacts: Annotated[list[ImportEntry], Meta(min_length=1)]
    merge_option: MergeOption = "overwrite"


class LenientContactImport(Struct, rename="camel", kw_only=True):
    """The same, where unknown keys are ignored."""

    contacts: Annotated[list[LenientImportEntry], Meta(min_length=1)]
    merge_option: MergeOption = "overwrite"


class RawContactImport(Struct, rename="camel", kw_only=True):
    """The same, with contacts that are looked at one by one."""

    contacts: Annotated[list[Raw], Meta(min_length=1)]
    merge_option: MergeOption = "overwrite"


class Identity(_Strict):
    """Whose an Insight record is; `value` may be null by the OpenAPI file, and then finds nobody."""

    identifier: str
    value: str | None


class InsightEntry(_Strict):
    """A record in an import."""

    key: str
    json: Raw
    contact_identity: Identity | UnsetType | None = UNSET


class InsightImport(_Strict):
    """`PUT /insightData/v3/import`; `collectionType` is matched in any case, as SDKs send it."""

    collection_name: str
    collection_scope: Scope
    collection_type: str
    records: Annotated[list[InsightEntry], Meta(min_length=1)]


class LenientInsightImport(Struct, rename="camel", kw_only=True):
    """The same, where unknown keys beside `records` are ignored; a record's never are."""

    collection_name: str
    collection_scope: Scope
    collection_type: str
    records: Annotated[list[InsightEntry], Meta(min_length=1)]


class Keys(_Strict):
    """`…/deleteRecords`."""

    keys: Annotated[list[str], Meta(max_length=5000)]
