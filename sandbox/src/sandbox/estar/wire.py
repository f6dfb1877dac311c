"""Requests and responses as ASMX has them: SOAP 1.1, SOAP 1.2, and plain GET or form posts."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl

import httpx
from lxml import etree

from sandbox.estar import render
from sandbox.estar.contract import PRIMARY, Action

MAX_REQUEST_BYTES = 4 * 1024 * 1024  # the default limit of ASP.NET
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_XSD = "http://www.w3.org/2001/XMLSchema"
_TRUE = {"1", "true"}


class Binding(Enum):
    """How a call is wrapped; the value is the namespace of the envelope."""

    SOAP11 = "http://schemas.xmlsoap.org/soap/envelope/"
    SOAP12 = "http://www.w3.org/2003/05/soap-envelope"
    PLAIN = ""


class Fault(Exception):  # noqa: N818 - the name that SOAP gives it
    """A call that can't be carried out; answered with HTTP 500.

    Args:
        message: what is wrong, for the caller.
        code: a SOAP 1.1 fault code: Client, Server, VersionMismatch or MustUnderstand.
    """

    def __init__(self, message: str, code: str = "Client") -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a call was given, by our words for the arguments.

    An item of a list is its children's texts by local name; its own text is under "".
    """

    token: str | None
    texts: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[dict[str, str]]] = field(default_factory=dict)


def binding_of(request: httpx.Request) -> Binding:
    """How a request is wrapped.

    Raises:
        Fault: the content type is none that the service reads.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "GET" or kind == "application/x-www-form-urlencoded":
        return Binding.PLAIN
    if kind == "text/xml":
        return Binding.SOAP11
    if kind == "application/soap+xml":
        return Binding.SOAP12
    raise Fault(f"Request format is unrecognized: Content-Type {kind!r} is neither SOAP 1.1 nor SOAP 1.2")


def read_plain(request: httpx.Request, action: Action) -> Arguments:
    """The arguments of a GET or a form.

    Raises:
        Fault: the operation has list arguments, which only SOAP can carry.
    """
    if not action.primitive:
        raise Fault(f"{action.name} takes a list, so it must be called with SOAP")
    query = request.url.query if request.method == "GET" else request.content
    given = dict(parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True))
    texts = {word: given[path] for word, path in action.operation.arguments.items() if path in given}
    return Arguments(given.get(action.token_argument or ""), texts)


def read_soap(
    request: httpx.Request, binding: Binding, actions: dict[str, Action]
) -> tuple[Action, Arguments]:
    """Which operation an envelope calls, and with what.

    Raises:
        Fault: there is no such action, or the envelope can't be read.
    """
    named = _named_action(request, binding)
    root = _parse(request.content)
    if root.tag != f"{{{binding.value}}}Envelope":
        raise Fault("Possible SOAP version mismatch: the envelope is not of this version", "VersionMismatch")
    for header in root.iterfind(f"{{{binding.value}}}Header/*"):
        if header.get(f"{{{binding.value}}}mustUnderstand") in _TRUE:
            raise Fault(f"SOAP header {etree.QName(header).localname} was not understood", "MustUnderstand")
    call = root.find(f"{{{binding.value}}}Body/*")
    if call is None:
        raise Fault("The SOAP body is empty")
    if named is None:  # only SOAP 1.2 may leave the action to the body
        named = _action_of_element(call)
    action = next((a for a in actions.values() if a.soap_action == named), None)
    if action is None:
        raise Fault(f"Server did not recognize the value of HTTP Header SOAPAction: {named}")
    if call.tag != f"{{{action.operation.namespace}}}{action.operation.operation}":
        raise Fault(f"The body holds {call.tag}, which is not what the action {named} calls")
    return action, _arguments(call, action)


def _named_action(request: httpx.Request, binding: Binding) -> str | None:
    if binding is Binding.SOAP12:
        for parameter in request.headers["content-type"].split(";")[1:]:
            name, _, value = parameter.strip().partition("=")
            if name.lower() == "action":
                return value.strip('"')
        return None
    if "soapaction" not in request.headers:
        raise Fault(
            "Unable to handle request without a valid action parameter. Please supply a valid soap action."
        )
    return request.headers["soapaction"].strip().strip('"')


def _action_of_element(call: Any) -> str:  # noqa: ANN401 - lxml's stubs don't name the element's class
    name = etree.QName(call)
    return f"{(name.namespace or '').rstrip('/')}/{name.localname}"


def _parse(body: bytes) -> Any:  # noqa: ANN401 - lxml's stubs don't name the element's class
    if len(body) > MAX_REQUEST_BYTES:
        raise Fault("Maximum request length exceeded.")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Fault(f"Server was unable to read request. ---> {error}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise Fault("Server was unable to read request. ---> DTD is prohibited in this XML document.")
    return root


def _arguments(call: Any, action: Action) -> Arguments:  # noqa: ANN401 - as above
    texts: dict[str, str] = {}
    lists: dict[str, list[dict[str, str]]] = {}
    for word, path in action.operation.arguments.items():
        *containers, last = path.split("/")
        here = call
        for name in containers:
            here = _given(here, action).get(name) if here is not None else None
        if here is None:
            continue
        if containers:
            lists[word] = [_texts(row) for row in here if etree.QName(row).localname == last]
        elif last in _given(here, action):
            texts[word] = _own_text(_given(here, action)[last])
    token = _given(call, action).get(action.token_argument or "")
    return Arguments(None if token is None else _own_text(token), texts, lists)


def _given(element: Any, action: Action) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Children by name; as ASMX does, one outside the service's namespaces is no argument."""
    return {etree.QName(child).localname: child for child in element if _ours(child, action)}


def _ours(element: Any, action: Action) -> bool:  # noqa: ANN401 - as above
    namespace = etree.QName(element).namespace or ""
    return namespace == action.operation.namespace or namespace.startswith(PRIMARY.rstrip("/"))


def _own_text(element: Any) -> str:  # noqa: ANN401 - as above
    return (element.text or "").strip()


def _texts(row: Any) -> dict[str, str]:  # noqa: ANN401 - as above
    return {"": _own_text(row), **{etree.QName(child).localname: _own_text(child) for child in row}}


def rows_inside(action: Action, rows: Iterable[str]) -> str:
    """Rendered rows inside the containers that the result path names."""
    content = "".join(rows)
    *containers, _ = action.operation.result.split("/")
    for name in reversed(containers[1:]):
        content = f"<{name}>{content}</{name}>"
    return data_inside(action, content, containers[0])


def data_inside(action: Action, content: str, tag: str) -> str:
    """Content inside the result's outermost child."""
    opening = f'{tag} xmlns="{action.types_namespace}"'
    return f"<{opening}>{content}</{tag}>" if content else f"<{opening} />"


def refusal_inside(action: Action, code: int, message: str) -> str:
    """A refusal, as the published ApiResponse has it."""
    values = {"Success": "false", "Code": str(code), "Message": message}
    return "".join(
        f'<{tag} xmlns="{action.types_namespace}">{render.text(value)}</{tag}>'
        for tag, value in values.items()
    )


def answer(binding: Binding, action: Action, inside: str) -> httpx.Response:
    """HTTP 200 with a result."""
    name, namespace = action.operation.operation, action.operation.namespace
    if binding is Binding.PLAIN:
        xml = f'<{name}Result xmlns:xsi="{_XSI}" xmlns="{namespace}">{inside}</{name}Result>'
        return _response(200, binding, xml)
    result = f"<{name}Result>{inside}</{name}Result>"
    body = f'<{name}Response xmlns="{namespace}">{result}</{name}Response>'
    return _response(200, binding, _envelope(binding, body))


def fault(binding: Binding, problem: Fault) -> httpx.Response:
    """HTTP 500 with a fault."""
    message = render.text(str(problem))
    if binding is Binding.PLAIN:
        return httpx.Response(500, headers={"content-type": "text/plain; charset=utf-8"}, text=str(problem))
    if binding is Binding.SOAP11:
        body = (
            f"<soap:Fault><faultcode>soap:{problem.code}</faultcode>"
            f"<faultstring>{message}</faultstring><detail /></soap:Fault>"
        )
    else:
        code = {"Client": "Sender", "Server": "Receiver"}.get(problem.code, problem.code)
        body = (
            f"<soap:Fault><soap:Code><soap:Value>soap:{code}</soap:Value></soap:Code>"
            f'<soap:Reason><soap:Text xml:lang="en">{message}</soap:Text></soap:Reason></soap:Fault>'
        )
    return _response(500, binding, _envelope(binding, body))


def _envelope(binding: Binding, body: str) -> str:
    return (
        f'<soap:Envelope xmlns:soap="{binding.value}" xmlns:xsi="{_XSI}" xmlns:xsd="{_XSD}">'
        f"<soap:Body>{body}</soap:Body></soap:Envelope>"
    )


def _response(status: int, binding: Binding, xml: str) -> httpx.Response:
    kind = "application/soap+xml" if binding is Binding.SOAP12 else "text/xml"
    content = f'<?xml version="1.0" encoding="utf-8"?>{xml}'.encode()
    return httpx.Response(status, headers={"content-type": f"{kind}; charset=utf-8"}, content=content)
