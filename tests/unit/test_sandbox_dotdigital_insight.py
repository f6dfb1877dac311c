from typing import Any

import httpx
import pytest

from sandbox.dotdigital.schema import Schema, UnfitError
from sandbox.dotdigital.trial import Json, Trial, by_email, owned


def error_code(response: httpx.Response) -> str:
    return str(response.json()["errorCode"])


def put_products(trial: Trial, *records: Json) -> Json:
    return trial.report(trial.put_records(*records, name="catalog_estar", scope="account", kind="catalog"))


def fits(schema: Schema, document: Json) -> str:
    try:
        schema.fit(document, 1000, 255)
    except UnfitError as error:
        return error.reason
    return "fits"


@pytest.mark.parametrize(
    ("first", "later", "outcome"),
    [
        (1, 2.5, "fits"),
        (1, "1", "incompatible"),
        ("text", "2026-01-02T03:04:05Z", "fits"),
        ("2026-01-02T03:04:05Z", "2026-01-02 03:04:05", "fits"),
        ("2026-01-02T03:04:05+13:00", "text", "incompatible"),
        ("2026-01-02T03:04:05Z", "", "incompatible"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+1300", "incompatible"),
        ("2026-01-02", "yesterday", "incompatible"),
        (True, False, "fits"),
        (True, 1, "incompatible"),
        (True, "true", "incompatible"),
        (None, "anything", "fits"),
        ("text", None, "fits"),
        ([], {}, "fits"),
        ([], "text", "fits"),
        ({}, [], "incompatible"),
        ({"a": 1}, {"b": "x"}, "fits"),
        ({"a": 1}, {"a": "x"}, "incompatible"),
        ({"a": 1}, "x", "incompatible"),
        ([{"a": 1}], [{"a": 2, "b": [{"c": 1}]}], "fits"),
        ([{"a": 1}], [{"a": "x"}], "incompatible"),
        ([{"a": 1}], {"a": 1}, "incompatible"),
        (["x"], ["y", None], "fits"),
        (["x"], [1], "incompatible"),
        (["x"], "x", "incompatible"),
        ("x", ["x"], "incompatible"),
    ],
)
def test_the_first_value_fixes_a_keys_type(first: object, later: object, outcome: str) -> None:
    schema = Schema()
    assert fits(schema, {"key": first}) == "fits"
    expected = "fits" if outcome == "fits" else "JsonValueIncompatibleWithSchema"
    assert fits(schema, {"key": later}) == expected


def test_types_must_agree_within_one_record_as_well() -> None:
    schema = Schema()
    assert fits(schema, {"lines": [{"qty": 1}, {"qty": "one"}]}) == "JsonValueIncompatibleWithSchema"
    assert fits(schema, {"lines": [{"qty": "one"}]}) == "fits"  # a refused record teaches nothing


def test_keys_are_the_same_in_any_case_and_with_dash_or_underscore() -> None:
    schema = Schema()
    assert fits(schema, {"specialPrice": 1, "order_total": 1}) == "fits"
    assert fits(schema, {"specialprice": "x"}) == "JsonValueIncompatibleWithSchema"
    assert fits(schema, {"order-total": "x"}) == "JsonValueIncompatibleWithSchema"
    assert fits(schema, {"a": {"b-c": 1, "B_C": 1}}) == "JsonContainsDashUnderscoreClash"


def test_an_array_inside_an_object_inside_an_array_is_no_nested_array() -> None:
    schema = Schema()
    assert fits(schema, {"products": [{"categories": [{"name": "Tops"}]}]}) == "fits"
    assert fits(schema, {"products": [[{"name": "Tops"}]]}) == "JsonContainsNestedArray"
    assert fits(schema, {"sizes": ["S", ["M"]]}) == "JsonContainsNestedArray"


def test_the_schema_is_shown_as_it_was_learned() -> None:
    with Trial() as trial:
        trial.report(trial.put_contacts(by_email("a@shop.example")))
        json: dict[str, Any] = {
            "order_total": 5,
            "purchase_date": "2026-01-02T03:04:05Z",
            "gift": True,
            "note": None,
            "products": [{"specialPrice": 1.5, "sku": "S"}],
            "billing_address": {"billing_city": "Napier"},
        }
        trial.report(trial.put_records(owned("O1", "a@shop.example", **json)))
        shown = trial.http.get("/insightData/v3/collections/orders/schema").json()
        assert (shown["collectionName"], shown["collectionType"]) == ("orders", "orders")
        assert [one["name"] for one in shown["schema"]] == [
            "key",
            "contactIdentifier",
            "dateModified",
            "deleted",
            "rowId",
            "json",
        ]
        assert shown["schema"][-1]["fields"] == [
            {"name": "order_total", "type": "FLOAT", "fields": []},
            {"name": "purchase_date", "type": "TIMESTAMP", "fields": []},
            {"name": "gift", "type": "BOOLEAN", "fields": []},
            {
                "name": "products",
                "mode": "REPEATED",
                "type": "RECORD",
                "fields": [
                    {"name": "specialprice", "type": "FLOAT", "fields": []},
                    {"name": "sku", "type": "STRING", "fields": []},
                ],
            },
            {
                "name": "billing_address",
                "type": "RECORD",
                "fields": [{"name": "billing_city", "type": "STRING", "fields": []}],
            },
        ]


def test_a_record_is_replaced_as_a_whole_and_kept_to_the_byte() -> None:
    with Trial() as trial:
        put_products(trial, {"key": "P1", "json": {"sku": "P1", "price": 10.10, "brand": "X"}})
        created = trial.http.get("/insightData/v3/account/catalog_estar/P1").json()["created"]
        trial.clock.advance(60)
        body = b'{"collectionName":"catalog_estar","collectionScope":"account","collectionType":"catalog","records":[{"key":"P1","json":{"sku": "P1", "price":10.50}}]}'
        accepted = trial.http.put(
            "/insightData/v3/import", content=body, headers={"Content-Type": "application/json"}
        )
        trial.report(accepted)
        shown = trial.http.get("/insightData/v3/account/catalog_estar/P1")
        assert b'"json":{"sku": "P1", "price":10.50}' in shown.content
        assert shown.json()["created"] == created < shown.json()["updated"]


def test_names_of_collections_are_case_sensitive() -> None:
    with Trial() as trial:
        put_products(trial, {"key": "P1", "json": {"sku": "P1"}})
        missing = trial.http.get("/insightData/v3/account/Catalog_estar")
        assert (missing.status_code, error_code(missing)) == (404, "insightData:collectionNotFound")
        other = trial.put_records(
            {"key": "P1", "json": {"sku": 1}}, name="Catalog_estar", scope="account", kind="Catalog"
        )
        assert trial.report(other)["summary"]["totalImported"] == 1
        assert [one["collectionName"] for one in trial.http.get("/insightData/v3/account").json()] == [
            "catalog_estar",
            "Catalog_estar",
        ]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"collectionName": "1orders"}, "collectionName"),
        ({"collectionName": "x"}, "collectionName"),
        ({"collectionScope": "contacts"}, "collectionScope"),
        ({"collectionType": "order"}, "collectionType"),
        ({"records": []}, "records"),
        ({"records": [{"key": 5, "json": {}}]}, "records[0].key"),
        ({"records": [{"key": "P1"}]}, "records[0]"),
        ({"records": [{"key": "P1", "json": []}]}, "records[0].json"),
        ({"records": [{"key": "P1", "json": {}, "more": 1}]}, "records[0]"),
        (
            {
                "records": [
                    {
                        "key": "P1",
                        "json": {},
                        "contactIdentity": {"identifier": "email", "value": "a@b.example"},
                    }
                ]
            },
            "records[0].contactIdentity",
        ),
        ({"more": 1}, "more"),
    ],
)
def test_an_import_that_is_not_well_formed_is_400(change: Json, place: str) -> None:
    body = {
        "collectionName": "catalog_estar",
        "collectionScope": "account",
        "collectionType": "catalog",
        "records": [{"key": "P1", "json": {"sku": "P1"}}],
    }
    with Trial() as trial:
        refused = trial.http.put("/insightData/v3/import", json={**body, **change})
        assert refused.status_code == 400
        assert place in refused.json()["description"]
        assert trial.control("GET state")["collections"] == []


@pytest.mark.parametrize("json", [b'{"a":1e400}', b'{"a":' * 60 + b"1" + b"}" * 60])
def test_what_can_not_be_read_is_invalid_json_in_the_report(json: bytes) -> None:
    start = (
        b'{"collectionName":"catalog_estar","collectionScope":"account","collectionType":"catalog","records":'
    )
    headers = {"Content-Type": "application/json"}
    with Trial() as trial:
        body = start + b'[{"key":"P1","json":' + json + b"}]}"
        report = trial.report(trial.http.put("/insightData/v3/import", content=body, headers=headers))
        assert [one["failureReason"] for one in report["failures"]] == ["InvalidJson"]
        body = start + b'[{"key":"P1","json":{"a":"\xff"}}]}'
        refused = trial.http.put("/insightData/v3/import", content=body, headers=headers)
        assert (refused.status_code, error_code(refused)) == (400, "insightData:badJson")


def test_a_collection_has_one_scope() -> None:
    with Trial() as trial:
        put_products(trial, {"key": "P1", "json": {"sku": "P1"}})
        record = owned("O1", "a@shop.example", total=1)
        assert trial.put_records(record, name="catalog_estar", kind="catalog").status_code == 400
        created = trial.http.post(
            "/insightData/v3/collections/catalog_estar?collectionScope=contact&collectionType=catalog"
        )
        assert created.status_code == 400
        assert trial.http.get("/insightData/v3/contacts/catalog_estar").status_code == 404


def test_there_is_a_limit_to_collections() -> None:
    with Trial(collection_limit=1) as trial:
        path = "/insightData/v3/collections/{}?collectionScope=account&collectionType=custom"
        assert trial.http.post(path.format("one")).status_code == 201
        assert trial.http.post(path.format("two")).status_code == 412
        record = {"key": "P1", "json": {"sku": "P1"}}
        assert trial.put_records(record, scope="account").status_code == 412


def test_products_can_be_checked_for_what_recommendations_need() -> None:
    with Trial(typed_collections=True) as trial:
        report = put_products(trial, {"key": "P1", "json": {"sku": "P1", "price": "5"}})
        failure = report["failures"][0]
        assert failure["failureReason"] == "Unknown"
        assert failure["details"] == [
            "Field 'name' is required but was missing",
            "Field 'url' is required but was missing",
            "Field 'image_path' is required but was missing",
            "Field 'price' is expected to be a number",
        ]


def test_reasons_can_be_kept_to_the_v3_file() -> None:
    with Trial(leaked_reasons=False) as trial:
        trial.report(trial.put_contacts(by_email("a@shop.example"), by_email("b@shop.example")))
        trial.report(trial.put_records(owned("O1", "a@shop.example", total=1)))
        nobody = {
            "key": "O2",
            "contactIdentity": {"identifier": "mobileNumber", "value": "64211234567"},
            "json": {},
        }
        by_id = {"key": "O3", "contactIdentity": {"identifier": "contactId", "value": "99"}, "json": {}}
        report = trial.report(trial.put_records(owned("O1", "b@shop.example", total=1), nobody, by_id))
        assert [one["failureReason"] for one in report["failures"]] == [
            "DuplicateKey",
            "InvalidContactIdentifier",
            "ContactIdDoesNotExist",
        ]


def test_a_single_record_that_does_not_fit_is_400() -> None:
    with Trial() as trial:
        put_products(trial, {"key": "P1", "json": {"sku": "P1"}})
        path = "/insightData/v3/account/catalog_estar/P2"
        unfit = trial.http.put(path, json={"sku": 5})
        assert unfit.status_code == 400
        assert "JsonValueIncompatibleWithSchema" in unfit.json()["description"]
        for body in (b"[]", b'{"sku": "P2"', b'{"sku": "P2"} x'):
            answer = trial.http.put(path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, body


def test_collections_are_emptied_and_deleted_by_jobs() -> None:
    def wait(trial: Trial, accepted: httpx.Response) -> Json:
        assert accepted.status_code == 202
        trial.clock.advance(60)
        shown: Json = trial.http.get(f"/insightData/v3/async/{accepted.json()['jobId']}").json()
        return shown

    with Trial() as trial:
        trial.report(trial.put_contacts(by_email("a@shop.example"), by_email("b@shop.example")))
        orders = [owned(f"O{name}", f"{name}@shop.example", total=1) for name in ("a", "b")]
        trial.report(trial.put_records(*orders))
        owner = "/insightData/v3/contacts/email/a@shop.example"
        assert [one["recordCount"] for one in trial.http.get(owner).json()] == [1]
        done = wait(trial, trial.http.delete(f"{owner}/orders/empty"))
        assert done["status"] == "Finished"
        assert done["summary"] == {"totalRecords": 1, "totalProcessed": 1, "totalFailed": 0}
        assert trial.http.get(owner).json() == []
        wait(trial, trial.http.delete("/insightData/v3/collections/orders/empty"))
        assert trial.http.get("/insightData/v3/collections").json()[0]["recordCount"] == 0
        refused = trial.report(trial.put_records(owned("O9", "a@shop.example", total="x")))
        assert refused["summary"]["totalRejected"] == 1  # an emptied collection keeps its schema
        wait(trial, trial.http.delete("/insightData/v3/collections/orders"))
        assert trial.http.get("/insightData/v3/collections").json() == []
        fresh = trial.report(trial.put_records(owned("O9", "a@shop.example", total="x")))
        assert fresh["summary"]["totalImported"] == 1  # and a deleted one has none


def test_a_contacts_records_are_deleted_by_key_and_only_its_own() -> None:
    with Trial() as trial:
        trial.report(trial.put_contacts(by_email("a@shop.example"), by_email("b@shop.example")))
        orders = [owned(f"O{name}", f"{name}@shop.example", total=1) for name in ("a", "b")]
        trial.report(trial.put_records(*orders))
        path = "/insightData/v3/contacts/email/a@shop.example/orders/deleteRecords"
        answer = trial.http.request("DELETE", path, json={"keys": ["Oa", "Ob"]}).json()
        assert answer["summary"] == {"totalRecords": 2, "totalDeleted": 1, "totalNotFound": 1}
        assert answer["notFound"] == ["Ob"]
        assert trial.http.get("/insightData/v3/contacts/email/b@shop.example/orders/Ob").status_code == 200
        many = {"keys": [str(number) for number in range(5001)]}
        assert trial.http.request("DELETE", path, json=many).status_code == 400
