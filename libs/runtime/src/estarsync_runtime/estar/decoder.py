"""From an answer's bytes to plain data.

Elements are known by their local names, since the namespaces differ from service to service. What the profile
drops is left out at any depth here already, so that no secret is ever held in a record.

The parser reads no DTD, resolves no entity, opens no file and no connection, and stops at 256 levels.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO

from lxml import etree
from typing_extensions import override

from estarsync_core.errors import RetryLater
from estarsync_core.estar.content import DropList, RawValue
from estarsync_core.profile import Records

_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_TRUE = {"true", "1"}
_PROLOG = re.compile(rb"\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*)*", re.DOTALL)
_DECLARED = re.compile(rb"\s*<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]+)")
_BOM = b"\xef\xbb\xbf"
_REFERENCE = re.compile(r"&#(?:x([0-9A-Fa-f]+)|([0-9]+));")
# What XML 1.0 can't hold, not even as a reference.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# The site's codes are not published; its words for "not you" or "not any more" hold one of these.
_ACCESS = re.compile(r"token|authenticat|session|log ?in|credential|password|user ?name", re.IGNORECASE)
_CALL_IDENTIFIER = re.compile(r"call identifier\W*([0-9A-Za-z][0-9A-Za-z-]{0,63})", re.IGNORECASE)
_CODE = re.compile(r"[0-9A-Za-z_.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Failure:
    """The shop's word that a call failed.

    `code` and `call_identifier` are safe to log; the shop's message is not kept, since it may name a person.
    `about_access` says that the token or the credentials were the trouble.
    """

    kind: str
    code: str
    call_identifier: str
    about_access: bool

    @override
    def __str__(self) -> str:
        parts = [self.kind]
        if self.code:
            parts.append(f"code {self.code}")
        if self.call_identifier:
            parts.append(f"call identifier {self.call_identifier}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows at the operation's result path, or why there are none."""

    rows: list[RawValue] = field(default_factory=list)
    failure: Failure | None = None


class Decoder:
    """Reads answers for one profile.

    Args:
        records: the profile's lists, drop list and renamed elements.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._drop = DropList(records.drop)
        self._known: dict[str, tuple[str | None, bool]] = {}

    def answer(self, data: bytes, charset: str | None, result: Sequence[str]) -> Answer:
        """Read an answer.

        Args:
            data: the body.
            charset: from the Content-Type header, if it says one.
            result: the path from `<…Result>` to the rows.

        Raises:
            RetryLater: where it is no SOAP answer; says why, without quoting it.
        """
        data = _utf8(data, charset)
        if declares_a_doctype(data):
            raise RetryLater("the shop's answer has a DOCTYPE, which is not read: it is no SOAP answer")
        try:
            return self._read(data, result)
        except etree.XMLSyntaxError:
            # .NET writes references to characters that XML forbids; one of them spoils the whole answer.
            mended = _without_illegal(data)
        try:
            return self._read(mended, result)
        except etree.XMLSyntaxError as error:
            line, column = error.position
            raise RetryLater(
                f"the shop's answer is not XML (line {line}, column {column})"
            ) from None  # the parser's words may quote the answer

    def _read(self, data: bytes, result: Sequence[str]) -> Answer:
        *above, row_name = result
        events = etree.iterparse(
            BytesIO(data),
            events=("end",),
            tag=f"{{*}}{row_name}",
            encoding="utf-8",
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            remove_comments=True,
            remove_pis=True,
            huge_tree=False,
            collect_ids=False,
        )
        rows: list[RawValue] = []
        container: etree._Element | None = None
        for _, element in events:
            parent = element.getparent()
            if parent is None or (parent is not container and not _is_result_path(parent, above)):
                continue
            container = parent
            rows.append(self.value(element))
            element.clear()
            while element.getprevious() is not None:  # keeps memory at one row
                del container[0]
        failure = _failure(events.root)
        return Answer(failure=failure) if failure else Answer(rows)

    def value(self, element: etree._Element) -> RawValue:
        """An element as plain data: a list where the profile says so, named children, or text as written."""
        return self._value(element, is_list=self._names(element.tag)[1])

    def _value(self, element: etree._Element, *, is_list: bool) -> RawValue:
        if is_list:
            entries = [value for _, value in self._children(element)]
            if not entries and element.get(_NIL) in _TRUE:
                return None
            return [entry for entry in entries if not self._drop.holds_entry(entry)]
        if not len(element):
            return element.text or (None if element.get(_NIL) in _TRUE else "")
        children: dict[str, RawValue] = {}
        repeated: set[str] = set()
        for name, value in self._children(element):
            if name not in children:
                children[name] = value
            elif name in repeated:
                children[name].append(value)  # type: ignore[union-attr]  # `repeated` says that it is a list
            else:  # a list that the profile does not know: nothing of it may be lost
                children[name] = [children[name], value]
                repeated.add(name)
        return children

    def _children(self, element: etree._Element) -> Iterator[tuple[str, RawValue]]:
        known = self._known
        for child in element:
            tag = child.tag
            name, is_list = known.get(tag) or self._names(tag)
            if name is None:
                continue
            # Most are leaves with text: they are not worth a call.
            text = None if is_list or len(child) else child.text
            yield name, text or self._value(child, is_list=is_list)

    def _names(self, tag: str) -> tuple[str | None, bool]:
        """Our name for a tag, None where it is dropped, and whether it holds a list."""
        theirs = etree.QName(tag).localname
        ours = self._records.rename.get(theirs, theirs)
        dropped = self._drop.holds(theirs) or self._drop.holds(ours)
        known = (None if dropped else ours, ours in self._records.lists)
        self._known[tag] = known
        return known


def declares_a_doctype(data: bytes) -> bool:
    """Whether an XML text, of which this is the beginning, has a DOCTYPE before its root."""
    start = _PROLOG.match(data)
    at = start.end() if start else 0
    return data[at : at + 9].upper() == b"<!DOCTYPE"


def _local(element: etree._Element) -> str:
    return etree.QName(element.tag).localname


def _is_result_path(parent: etree._Element, above: Sequence[str]) -> bool:
    here: etree._Element | None = parent
    for name in reversed(above):
        if here is None or _local(here) != name:
            return False
        here = here.getparent()
    return here is not None and _local(here).endswith("Result")


def _failure(root: etree._Element) -> Failure | None:
    if _local(root) != "Envelope":
        raise RetryLater("the shop's answer is XML, but no SOAP envelope")
    for fault in root.iter("{*}Fault"):
        texts = {_local(leaf): (leaf.text or "").strip() for leaf in fault.iter() if len(leaf) == 0}
        message = texts.get("faultstring", texts.get("Text", ""))
        return _described("soap:Fault", texts.get("faultcode", texts.get("Value", "")), message)
    for success in root.iter("{*}Success"):
        parent = success.getparent()
        if (
            parent is not None
            and _local(parent).endswith(("Result", "Response"))
            and (success.text or "").strip().lower() in {"false", "0"}
        ):
            texts = {_local(leaf): (leaf.text or "").strip() for leaf in parent}
            return _described("Success=false", texts.get("Code", ""), texts.get("Message", ""))
    return None


def _described(kind: str, code: str, message: str) -> Failure:
    identifier = _CALL_IDENTIFIER.search(message)
    return Failure(
        kind,
        code if _CODE.fullmatch(code) else "",
        identifier[1] if identifier else "",
        about_access=bool(_ACCESS.search(message) or _ACCESS.search(code)),
    )


def _utf8(data: bytes, charset: str | None) -> bytes:
    """The answer in UTF-8, whatever it says of itself; the parser is told not to believe the declaration."""
    declared = _DECLARED.match(data)
    name = charset or (declared[1].decode() if declared else "utf-8")
    data = data.removeprefix(_BOM)
    if name.lower() in {"utf-8", "utf8", "us-ascii"}:
        return data
    try:
        return data.decode(name, "replace").encode()
    except (LookupError, UnicodeError) as error:
        raise RetryLater(f"the shop's answer is in an unknown character set, {name[:40]!r}") from error


def _without_illegal(data: bytes) -> bytes:
    text = _ILLEGAL.sub("", data.decode("utf-8", "replace"))
    return _REFERENCE.sub(_legal_reference, text).encode()


def _legal_reference(match: re.Match[str]) -> str:
    hexadecimal, decimal = match.groups()
    number = int(hexadecimal, 16) if hexadecimal else int(decimal[:9])
    return "" if number > 0x10FFFF or _ILLEGAL.match(chr(number)) else match[0]  # noqa: PLR2004 - Unicode's last
