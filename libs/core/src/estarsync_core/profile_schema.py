"""The JSON Schema of a tenant profile as a person writes it: what is left out is the default profile's."""

from typing import Any

from estarsync_core.profile import TenantProfile, default_document

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_WHOLE = {"FieldSource", "ProductFeed", "Reference", "Website"}
"""Parts that are replaced as a whole, so that what they need must be there."""


def profile_schema() -> dict[str, Any]:
    """The schema, with every default."""
    schema = TenantProfile.model_json_schema()
    parts: dict[str, Any] = schema["$defs"]
    for name, part in parts.items():
        if name not in _WHOLE:
            part.pop("required", None)
    schema["required"] = ["websites"]
    _default(schema, default_document(), parts)
    return {"$schema": DIALECT, **schema}


def _default(part: dict[str, Any], values: dict[str, Any], parts: dict[str, Any]) -> None:
    """Write the default profile's values beside the properties that they belong to."""
    for name, described in part["properties"].items():
        if name not in values:
            continue
        reference = described.get("$ref", "").rpartition("/")[2]
        # An operation is described once and used for many: its defaults stand where it is used.
        if reference in parts and reference != "Operation":
            _default(parts[reference], values[name], parts)
        else:
            described["default"] = values[name]
