from estarsync_core.estar.content import (
    DropList,
    RawValue,
    Record,
    canonical_json,
    content_hash,
    rows_of,
    text_of,
)


def test_equal_values_have_one_json_text_and_one_hash() -> None:
    one: RawValue = {"b": "1", "a": [None, ""], "c": {"y": "é", "x": "2"}}
    two: RawValue = {"c": {"x": "2", "y": "é"}, "a": [None, ""], "b": "1"}
    assert (
        canonical_json(one) == canonical_json(two) == '{"a":[null,""],"b":"1","c":{"x":"2","y":"é"}}'.encode()
    )
    assert content_hash(canonical_json(one)) == content_hash(canonical_json(two))


def test_nil_empty_and_absent_are_three_contents() -> None:
    values: list[Record] = [{"a": None}, {"a": ""}, {}]
    hashes = {content_hash(canonical_json(value)) for value in values}
    assert len(hashes) == 3


def test_dropped_names_go_at_any_depth_in_any_case() -> None:
    drop = DropList(["Password", "Cost"])
    value: Record = {
        "ID": "1",
        "password": "x",
        "Items": [{"Cost": "1.00", "Price": "2.00", "Inner": {"PASSWORD": "x", "Size": "L"}}, "text", None],
    }
    assert drop.strip(value) == {
        "ID": "1",
        "Items": [{"Price": "2.00", "Inner": {"Size": "L"}}, "text", None],
    }
    assert value["password"] == "x"


def test_a_named_value_of_a_dropped_name_goes_with_its_value() -> None:
    drop = DropList(["Password"])
    entries: list[RawValue] = [
        {"Name": " password ", "Value": "x"},
        {"Name": "DOB", "Value": "1990-01-01"},
        {"Name": None},
    ]
    assert drop.strip({"Attributes": entries}) == {"Attributes": entries[1:]}


def test_leaves_and_lists_are_read_without_trusting_their_form() -> None:
    record: Record = {"text": " a ", "nil": None, "list": [{"ID": "1"}, "stray"], "dict": {}}
    assert [text_of(record, name) for name in ("text", "nil", "list", "absent")] == ["a", "", "", ""]
    assert [rows_of(record, name) for name in ("list", "text", "absent")] == [[{"ID": "1"}], [], []]


def test_names_without_number_are_dropped_all_the_same() -> None:
    drop = DropList(["Secret"])
    names = {f"Name{number}": "x" for number in range(10_050)}
    assert drop.strip_record({**names, "SECRET": "x", "secret": "x"}) == names
