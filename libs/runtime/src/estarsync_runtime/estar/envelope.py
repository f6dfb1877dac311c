"""A call as SOAP 1.1 or 1.2 carries it: everything travels in the body, nothing in the URL."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from lxml import etree

from estarsync_core.errors import ConfigurationError
from estarsync_core.profile import Operation

Argument: TypeAlias = str | Sequence[str] | Sequence[Mapping[str, str]]
_ENVELOPES = {
    "1.1": "http://schemas.xmlsoap.org/soap/envelope/",
    "1.2": "http://www.w3.org/2003/05/soap-envelope",
}


def request(
    version: Literal["1.1", "1.2"],
    operation: Operation,
    token: tuple[str, str] | None,
    arguments: Mapping[str, Argument],
) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a call.

    Args:
        version: SOAP's.
        operation: whose profile entry says where each argument goes.
        token: the token's element and the token, its first parameter; None for the call that gets one.
        arguments: by our word for each; a list is repeated in the last element of its path,
            and a map becomes the children of that element.

    Raises:
        ConfigurationError: where a value holds a character that XML can't carry.
    """
    namespace = operation.namespace
    envelope = _ENVELOPES[version]
    root = etree.Element(f"{{{envelope}}}Envelope", nsmap={"soap": envelope})
    body = etree.SubElement(root, f"{{{envelope}}}Body")
    default = {None: namespace}
    call = etree.SubElement(body, f"{{{namespace}}}{operation.operation}", nsmap=default)  # type: ignore[arg-type]  # the stubs forget the default namespace
    try:
        if token is not None:
            _add(call, namespace, *token)
        for word, path in operation.arguments.items():
            if word in arguments:
                _add(call, namespace, path, arguments[word])
    except ValueError as error:
        raise ConfigurationError(
            [f"{operation.operation} can't be called: a value holds a control character"]
        ) from error
    action = f"{namespace.rstrip('/')}/{operation.operation}"
    headers = (
        {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{action}"'}
        if version == "1.1"
        else {"Content-Type": f'application/soap+xml; charset=utf-8; action="{action}"'}
    )
    return etree.tostring(root, xml_declaration=True, encoding="utf-8"), headers


def _add(call: etree._Element, namespace: str, path: str, value: Argument) -> None:
    *containers, last = path.split("/")
    parent = call
    for name in containers:
        parent = etree.SubElement(parent, f"{{{namespace}}}{name}")
    for text in [value] if isinstance(value, str) else value:
        element = etree.SubElement(parent, f"{{{namespace}}}{last}")
        if isinstance(text, str):
            element.text = text
            continue
        for name, child in text.items():
            etree.SubElement(element, f"{{{namespace}}}{name}").text = child
