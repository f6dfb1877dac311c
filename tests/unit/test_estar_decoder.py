"""What an answer's bytes become, and which bytes are not read."""

import pytest

from estarsync_core.errors import RetryLater
from estarsync_core.estar.content import RawValue
from estarsync_core.profile import Records
from estarsync_runtime.estar.decoder import Answer, Decoder

RECORDS = Records(
    lists=frozenset({"Addresses", "Attributes"}),
    drop=frozenset({"Password", "Notes"}),
    rename={"Correo": "Email"},
)
DATA = ["Data", "Customer"]
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def soap(inside: str, *, head: str = "", result: str = "RetrieveResult") -> bytes:
    return (
        f'{head}<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" {XSI}><s:Body>'
        f'<RetrieveResponse xmlns="http://one/"><{result}>{inside}</{result}></RetrieveResponse></s:Body></s:Envelope>'
    ).encode()


def read(data: bytes, charset: str | None = "utf-8", path: list[str] = DATA) -> Answer:
    return Decoder(RECORDS).answer(data, charset, path)


def rows(customers: str) -> list[RawValue]:
    return read(soap(f"<Data>{customers}</Data>")).rows


def customer(inside: str) -> RawValue:
    (row,) = rows(f"<Customer>{inside}</Customer>")
    return row


def test_a_leaf_is_text_exactly_as_written() -> None:
    assert customer("<A> 1,299.00 </A><B>a &amp; b</B><C><![CDATA[<br>]]></C>") == {
        "A": " 1,299.00 ",
        "B": "a & b",
        "C": "<br>",
    }


def test_nil_empty_and_absent_differ() -> None:
    assert customer('<A xsi:nil="true"/><B/><C xsi:nil="1"></C><D xsi:nil="false"/>') == {
        "A": None,
        "B": "",
        "C": None,
        "D": "",
    }


def test_a_list_is_a_list_whatever_it_holds() -> None:
    one = customer("<Addresses><Address><City>Otaki</City></Address></Addresses>")
    assert one == {"Addresses": [{"City": "Otaki"}]}
    assert customer("<Addresses/>") == {"Addresses": []}
    assert customer('<Addresses xsi:nil="true"/>') == {"Addresses": None}
    assert customer("<Addresses><int>1</int><int>2</int></Addresses>") == {"Addresses": ["1", "2"]}


def test_a_list_that_the_profile_does_not_know_loses_nothing() -> None:
    assert customer("<Tags><T>a</T><T>b</T><T>c</T></Tags>") == {"Tags": {"T": ["a", "b", "c"]}}


def test_secrets_are_left_out_at_any_depth() -> None:
    inside = (
        "<ID>1</ID><Password>x</Password><password>x</password><Deep><Notes><N>x</N></Notes><K>k</K></Deep>"
        "<Attributes><NVP><Name>Password</Name><Value>x</Value></NVP><NVP><Name>DOB</Name></NVP><Notes>x</Notes>"
        "</Attributes>"
    )
    assert customer(inside) == {"ID": "1", "Deep": {"K": "k"}, "Attributes": [{"Name": "DOB"}]}


def test_another_sites_names_become_ours() -> None:
    assert customer("<Correo>a@x.nz</Correo>") == {"Email": "a@x.nz"}


def test_namespaces_do_not_matter() -> None:
    inside = '<Data xmlns="http://two"><p:Customer xmlns:p="http://three"><p:ID>1</p:ID></p:Customer></Data>'
    assert read(soap(inside)).rows == [{"ID": "1"}]


def test_rows_are_found_by_their_path_alone() -> None:
    nested = "<Customer><ID>1</ID><Customer><ID>2</ID></Customer></Customer><Other><Customer/></Other>"
    assert rows(nested) == [{"ID": "1", "Customer": {"ID": "2"}}]
    assert read(soap("<Customer/>")).rows == []
    assert read(soap("<Data><Customer/></Data>", result="Else")).rows == []


def test_a_token_is_a_row_of_text() -> None:
    assert read(soap("<Data>abc</Data>"), path=["Data"]).rows == ["abc"]
    assert read(soap("<Data><int>1</int><int>20</int></Data>"), path=["Data", "int"]).rows == ["1", "20"]


def test_comments_and_instructions_do_not_matter() -> None:
    data = soap(
        "<Data><!-- a --><Customer><A>1<!-- b -->2</A><?x y?></Customer></Data>",
        head='<?xml version="1.0" encoding="utf-8"?><!-- c -->\n',
    )
    assert read(data).rows == [{"A": "12"}]


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("&#x1F;a&#31;b&#0;&#xD83D;&#x110000;&#99999999999;", "ab"),
        ("&#x41;&#10;", "A\n"),
        ("a\x0bb\x00\ufffe", "ab"),
    ],
)
def test_characters_that_xml_forbids_are_taken_out(inside: str, expected: str) -> None:
    assert customer(f"<A>{inside}</A><B>&#x1;</B>") == {"A": expected, "B": ""}


def test_bytes_that_are_no_utf8_do_not_spoil_the_rest() -> None:
    data = soap("<Data><Customer><A>XX</A><B>M\u0101ori</B></Customer></Data>").replace(b"XX", b"\xff")
    assert read(data).rows == [{"A": "\ufffd", "B": "M\u0101ori"}]


@pytest.mark.parametrize(
    ("charset", "head"),
    [("windows-1252", ""), (None, '<?xml version="1.0" encoding="iso-8859-1"?>')],
)
def test_another_character_set_is_read(charset: str | None, head: str) -> None:
    data = soap("<Data><Customer><A>caf\xe9</A></Customer></Data>", head=head).decode().encode("latin-1")
    assert read(data, charset).rows == [{"A": "caf\xe9"}]


def test_a_byte_order_mark_does_not_matter() -> None:
    assert read(b"\xef\xbb\xbf" + soap("<Data><Customer/></Data>"), None).rows == [""]


BOMB = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "head",
    [
        f'<!DOCTYPE x [<!ENTITY l0 "ha">{BOMB}]>',
        '<!DOCTYPE x [<!ENTITY l9 SYSTEM "file:///etc/passwd">]>',
        '<?xml version="1.0"?>\n<!-- a --> <!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd" [<!ENTITY l9 "x">]>',
    ],
)
def test_what_declares_entities_is_not_read(head: str) -> None:
    with pytest.raises(RetryLater, match="DOCTYPE"):
        read(soap("<Data><Customer><A>&l9;</A></Customer></Data>", head=head))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   ",
        b"secret@example.com",
        b"<a><b></a>",
        soap("<Data><Customer><A>&l9;secret</A></Customer></Data>"),
        soap("<Data>" + "<a>" * 300 + "</a>" * 300 + "</Data>"),
        soap("<Data><Customer/></Data>")[:-20],
        soap("<Data/>").decode().encode("utf-16"),
    ],
)
def test_what_is_no_xml_is_refused_without_quoting_it(data: bytes) -> None:
    with pytest.raises(RetryLater, match="not XML") as caught:
        read(data)
    assert "secret" not in str(caught.value)


def test_what_is_no_soap_is_refused() -> None:
    with pytest.raises(RetryLater, match="no SOAP envelope"):
        read(b"<rss/>")
    with pytest.raises(RetryLater, match="character set"):
        read(soap("<Data/>"), "no-such-charset")


def test_a_refusal_keeps_its_code_and_identifier_and_nothing_personal() -> None:
    message = "No luck with jo@example.com. Call Identifier: 8f14-AB"
    answer = read(soap(f"<Success>false</Success><Code>17</Code><Message>{message}</Message>"))
    assert (answer.rows, str(answer.failure)) == ([], "Success=false, code 17, call identifier 8f14-AB")
    assert answer.failure is not None
    assert not answer.failure.about_access
    wrapped = read(
        soap("<ApiResponse><Success>0</Success><Code>jo@example.com</Code></ApiResponse>", result="R")
    )
    assert str(wrapped.failure) == "Success=false"


def test_a_refusal_says_when_it_is_about_access() -> None:
    answer = read(soap("<Success>false</Success><Message>The authentication token has expired</Message>"))
    assert answer.failure is not None
    assert answer.failure.about_access


def test_success_inside_a_record_is_no_refusal() -> None:
    assert read(
        soap("<Success>true</Success><Data><Customer><Success>false</Success></Customer></Data>")
    ).rows == [{"Success": "false"}]


@pytest.mark.parametrize(
    "fault",
    [
        "<s:Fault><faultcode>s:Server</faultcode><faultstring>Oops, Call Identifier 12</faultstring></s:Fault>",
        "<s:Fault><s:Code><s:Value>s:Server</s:Value></s:Code><s:Reason><s:Text>Oops, Call Identifier 12</s:Text></s:Reason></s:Fault>",
    ],
)
def test_a_fault_is_a_failure(fault: str) -> None:
    data = (
        f'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>{fault}</s:Body></s:Envelope>'
    )
    assert str(read(data.encode()).failure) == "soap:Fault, code s:Server, call identifier 12"
