"""The contact data fields that the sync owns, with their Dotdigital types."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class DataFieldType(StrEnum):
    """A data field's type; the value is Dotdigital's word for it."""

    STRING = "String"
    NUMERIC = "Numeric"
    DATE = "Date"
    BOOLEAN = "Boolean"


BUILT_IN_FIELDS = ("FIRSTNAME", "LASTNAME", "FULLNAME")
"""Every account has these; they can be neither created nor deleted."""

DATA_FIELDS: Mapping[str, DataFieldType] = MappingProxyType(
    {
        "FIRSTNAME": DataFieldType.STRING,
        "LASTNAME": DataFieldType.STRING,
        "FULLNAME": DataFieldType.STRING,
        "BILLING_ADDRESS_1": DataFieldType.STRING,
        "BILLING_ADDRESS_2": DataFieldType.STRING,
        "BILLING_CITY": DataFieldType.STRING,
        "BILLING_COMPANY": DataFieldType.STRING,
        "BILLING_COUNTRY": DataFieldType.STRING,
        "BILLING_POSTCODE": DataFieldType.STRING,
        "BILLING_STATE": DataFieldType.STRING,
        "BILLING_TELEPHONE": DataFieldType.STRING,
        "CUSTOMER_ACTIVE": DataFieldType.BOOLEAN,
        "CUSTOMER_ID": DataFieldType.STRING,
        "CUSTOMER_TYPE": DataFieldType.STRING,
        "CUSTOMER_USER_GROUP": DataFieldType.STRING,
        "DOB": DataFieldType.DATE,
        "NEWSLETTER_SUBSCRIBE": DataFieldType.BOOLEAN,
        "ON_CREDIT_HOLD": DataFieldType.BOOLEAN,
    }
)
"""Every data field of a contact document, in the order of the Avro schema."""

CREATED_FIELDS: Mapping[str, DataFieldType] = MappingProxyType(
    {name: kind for name, kind in DATA_FIELDS.items() if name not in BUILT_IN_FIELDS}
)
"""The data fields that provisioning creates where they are missing."""
