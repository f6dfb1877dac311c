import httpx
import pytest

from sandbox.dotdigital.trial import Json, Trial, by_email


def error_code(response: httpx.Response) -> str:
    return str(response.json()["errorCode"])


def seed(trial: Trial, *contacts: Json) -> None:
    trial.http.post("/sandbox/contacts", json=contacts).raise_for_status()


@pytest.mark.parametrize(
    ("kind", "sent", "kept"),
    [
        ("String", "text", "text"),
        ("String", "", ""),
        ("String", 5, None),
        ("String", True, None),
        ("String", "x" * 1001, None),
        ("String", ["a"], None),
        ("Numeric", 12.5, 12.5),
        ("Numeric", 7, 7),
        ("Numeric", "7", None),
        ("Numeric", True, None),
        ("Numeric", 10**18, None),
        ("Numeric", 0.12345678901, None),
        ("Date", "2026-01-02T13:04:05+13:00", "2026-01-02T00:04:05Z"),
        ("Date", "2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05Z"),
        ("Date", "1980-02-29", "1980-02-29T00:00:00Z"),
        ("Date", "1981-02-29", None),
        ("Date", "2026-01-02T03:04:05+1300", None),
        ("Date", "02/01/2026", None),
        ("Date", "", None),
        ("Date", 20260102, None),
        ("Boolean", True, True),
        ("Boolean", False, False),
        ("Boolean", "true", None),
        ("Boolean", "Yes", None),
        ("Boolean", 1, None),
    ],
)
def test_a_data_field_takes_its_own_type_only(kind: str, sent: object, kept: object) -> None:
    with Trial() as trial:
        trial.new_field("X", kind)
        report = trial.report(trial.put_contacts(by_email("a@shop.example", x=sent)))
        if kept is None:
            assert report["failures"][0]["failures"][0]["failureCode"] == "ApiSchemaViolation"
            assert trial.http.get("/contacts/v3/email/a@shop.example").status_code == 404
        else:
            value = trial.contact("a@shop.example")["dataFields"]["X"]
            assert (value, type(value)) == (kept, type(kept))


def test_what_is_left_out_stays_and_null_clears() -> None:
    with Trial() as trial:
        books = trial.new_list()
        first = {**by_email("a@shop.example", FIRSTNAME="A", LASTNAME="B"), "lists": [books]}
        trial.report(trial.put_contacts(first))
        trial.report(trial.put_contacts(by_email("a@shop.example", LASTNAME=None)))
        contact = trial.contact("a@shop.example")
        assert contact["dataFields"]["FIRSTNAME"] == "A"
        assert contact["dataFields"]["LASTNAME"] is None
        assert contact["lists"] == [{"id": books, "name": "eStar Contacts", "status": "subscribed"}]
        trial.control("POST options", empty_data_fields="omit")
        assert trial.contact("a@shop.example")["dataFields"] == {"FIRSTNAME": "A"}


def test_an_email_is_found_in_any_case_and_keeps_its_first_spelling() -> None:
    with Trial() as trial:
        trial.report(trial.put_contacts(by_email("Aroha@Shop.example")))
        report = trial.report(trial.put_contacts(by_email("aroha@shop.example", FIRSTNAME="A")))
        assert report["updated"] == [{"contactId": 1, "identifiers": {"email": "Aroha@Shop.example"}}]
        assert trial.contact("AROHA@SHOP.EXAMPLE")["contactId"] == 1


def test_other_identifiers_match_are_added_and_may_not_be_shared() -> None:
    with Trial(custom_identifiers=("memberId",)) as trial:
        both = {"email": "a@shop.example", "mobileNumber": "+64211234567", "memberId": "M1"}
        trial.report(trial.put_contacts({"matchIdentifier": "email", "identifiers": both}))
        renamed = {
            "matchIdentifier": "memberId",
            "identifiers": {"memberId": "M1", "email": "new@shop.example"},
        }
        report = trial.report(trial.put_contacts(renamed))
        assert report["updated"][0]["identifiers"] == {
            "email": "new@shop.example",
            "mobileNumber": "64211234567",
            "memberId": "M1",
        }
        assert trial.http.get("/contacts/v3/email/a@shop.example").status_code == 404
        assert trial.http.get("/contacts/v3/mobileNumber/64211234567").json()["contactId"] == 1
        taken = {"email": "b@shop.example", "memberId": "M1"}
        report = trial.report(trial.put_contacts({"matchIdentifier": "email", "identifiers": taken}))
        assert report["summary"]["duplicateIdentifiers"] == 1
        unknown = {"email": "c@shop.example", "badge": "1"}
        report = trial.report(trial.put_contacts({"matchIdentifier": "email", "identifiers": unknown}))
        assert report["summary"]["invalidEntries"] == 1


def test_a_contact_is_saved_though_its_consent_record_is_not() -> None:
    record = {
        "text": "yes",
        "dateTimeConsented": "2026-01-01T00:00:00Z",
        "url": "https://shop.example",
        "ipAddress": "nowhere",
        "userAgent": "browser",
    }
    with Trial() as trial:
        report = trial.report(trial.put_contacts({**by_email("a@shop.example"), "consentRecords": [record]}))
        assert report["summary"]["newContacts"] == 1
        assert report["failures"][0]["failures"][0]["failureCode"] == "ConsentRecordsNotApplied"
        good = {**record, "ipAddress": "2b01::1"}
        trial.report(trial.put_contacts({**by_email("a@shop.example"), "consentRecords": [good]}))
        assert trial.contact("a@shop.example")["consentRecords"][0]["ipAddress"] == "2b01::1"


def test_post_creates_and_never_changes() -> None:
    with Trial() as trial:
        body = {"identifiers": {"email": "a@shop.example"}, "dataFields": {"firstname": "A"}}
        created = trial.http.post("/contacts/v3", json=body)
        assert created.status_code == 201
        assert created.json()["dataFields"]["FIRSTNAME"] == "A"
        again = trial.http.post("/contacts/v3", json=body)
        assert (again.status_code, error_code(again)) == (409, "contacts:idAlreadyExists")
        for wrong in (
            {},
            {"identifiers": {"email": "bad"}},
            {"identifiers": {"email": "b@shop.example"}, "matchIdentifier": "email"},
            {
                "identifiers": {"email": "b@shop.example"},
                "channelProperties": {"email": {"resubscribeOptions": {}}},
            },
            {"identifiers": {"email": "b@shop.example"}, "dataFields": {"FIRSTNAME": 5}},
        ):
            assert trial.http.post("/contacts/v3", json=wrong).status_code == 400, wrong


def test_patch_updates_creates_and_renames() -> None:
    with Trial() as trial:
        path = "/contacts/v3/email/a@shop.example"
        entry = {"identifiers": {"email": "a@shop.example"}, "dataFields": {"FIRSTNAME": "A"}}
        assert trial.http.patch(path, json={"dataFields": {"FIRSTNAME": "A"}}).status_code == 400
        assert trial.http.patch(path, json={**entry, "matchIdentifier": "email"}).status_code == 201
        assert trial.http.patch(path, json={"dataFields": {"LASTNAME": "B"}}).status_code == 200
        keep = trial.http.patch(
            f"{path}?merge-option=overwrite-if-empty", json={"dataFields": {"FIRSTNAME": "other"}}
        )
        assert keep.json()["dataFields"]["FIRSTNAME"] == "A"
        wrong = trial.http.patch(f"{path}?merge-option=overwriteIfEmpty", json={})
        assert (wrong.status_code, error_code(wrong)) == (400, "contacts:invalidValue")
        renamed = trial.http.patch(path, json={"identifiers": {"email": "new@shop.example"}})
        assert renamed.json()["identifiers"] == {"email": "new@shop.example"}
        assert renamed.json()["dataFields"]["LASTNAME"] == "B"
        trial.http.patch(path, json=entry).raise_for_status()
        conflict = trial.http.patch(path, json={"identifiers": {"email": "new@shop.example"}})
        assert (conflict.status_code, error_code(conflict)) == (409, "contacts:idAlreadyExists")
        assert trial.http.patch(path, json={"identifiers": {"contactId": 99}}).status_code == 400


def test_patch_can_not_subscribe_somebody_who_has_yet_to_confirm() -> None:
    with Trial() as trial:
        seed(trial, {"email": "a@shop.example", "email_status": "pendingOptIn"})
        body = {"channelProperties": {"email": {"status": "subscribed"}}}
        refused = trial.http.patch("/contacts/v3/email/a@shop.example", json=body)
        assert refused.status_code == 400
        assert "does not allow resubscribing" in refused.json()["description"]


def test_put_replaces_the_whole_contact() -> None:
    with Trial() as trial:
        books, other = trial.new_list(), trial.new_list("other")
        entry = {**by_email("a@shop.example", FIRSTNAME="A", LASTNAME="B"), "lists": [books, other]}
        trial.report(trial.put_contacts(entry))
        body = {"identifiers": {"email": "a@shop.example"}, "dataFields": {"LASTNAME": "C"}, "lists": [other]}
        replaced = trial.http.put("/contacts/v3/email/a@shop.example", json=body).json()
        assert (replaced["dataFields"]["FIRSTNAME"], replaced["dataFields"]["LASTNAME"]) == (None, "C")
        assert [one["id"] for one in replaced["lists"]] == [other]
        wrong = {**body, "dataFields": {"LASTNAME": 5}}
        assert trial.http.put("/contacts/v3/email/a@shop.example", json=wrong).status_code == 400
        assert trial.contact("a@shop.example")["dataFields"]["LASTNAME"] == "C"
        assert trial.http.put("/contacts/v3/email/x@shop.example", json=body).status_code == 404


def test_a_deleted_contact_comes_back_from_the_recycle_bin() -> None:
    with Trial() as trial:
        trial.report(trial.put_contacts(by_email("a@shop.example", FIRSTNAME="A")))
        assert trial.http.delete("/contacts/v3/email/a@shop.example").json() == {"contactId": 1}
        gone = trial.http.get("/contacts/v3/email/a@shop.example")
        assert (gone.status_code, error_code(gone)) == (404, "contacts:contactNotFound")
        report = trial.report(trial.put_contacts(by_email("a@shop.example", LASTNAME="B")))
        assert report["updated"][0]["contactId"] == 1
        assert trial.contact("a@shop.example")["dataFields"]["FIRSTNAME"] == "A"
        trial.http.delete("/contacts/v3/contactId/1").raise_for_status()
        assert trial.http.post("/v2/accounts/empty-recycle-bin/").status_code == 202
        assert trial.report(trial.put_contacts(by_email("a@shop.example")))["created"][0]["contactId"] == 2


def test_a_suppressed_contact_can_be_updated_but_not_deleted() -> None:
    with Trial() as trial:
        seed(trial, {"email": "a@shop.example", "email_status": "suppressed"})
        report = trial.report(trial.put_contacts(by_email("a@shop.example", FIRSTNAME="A")))
        assert report["summary"]["updatedContacts"] == 1
        assert trial.contact("a@shop.example")["status"] == "suppressed"
        refused = trial.http.delete("/contacts/v3/email/a@shop.example")
        assert refused.status_code == 400


def test_contacts_are_deleted_in_bulk() -> None:
    with Trial() as trial:
        seed(trial, {"email": "a@shop.example"}, {"email": "s@shop.example", "email_status": "suppressed"})
        references = [{"email": "a@shop.example"}, {"email": "x@shop.example"}, {"email": "s@shop.example"}]
        accepted = trial.http.post("/contacts/v3/delete", json=references)
        assert accepted.status_code == 202
        trial.clock.advance(60)
        report = trial.http.get(f"/contacts/v3/delete/{accepted.json()['deleteId']}").json()
        assert report["status"] == "Finished"
        assert report["summary"] == {
            "requestedContacts": 3,
            "deletedContacts": 1,
            "unknownContacts": 1,
            "invalidEntries": 1,
        }
        assert report["deleted"] == references[:1]
        assert trial.control("GET state")["contacts"] == 1
        nothing = trial.http.post("/contacts/v3/delete", json=[])
        assert error_code(nothing) == "contacts:noContactsSpecified"
        many = trial.http.post("/contacts/v3/delete", json=[{"contactId": 1}] * 5001)
        assert many.status_code == 400
        assert (
            trial.http.post("/contacts/v3/delete", json=[{"email": "a", "contactId": 1}]).status_code == 400
        )


def test_bulk_deletions_have_slots_too() -> None:
    with Trial(delete_slots=1) as trial:
        statuses = [
            trial.http.post("/contacts/v3/delete", json=[{"contactId": 1}]).status_code for _ in range(2)
        ]
        assert statuses == [202, 429]


def test_a_deleted_contacts_orders_are_gone() -> None:
    with Trial() as trial:
        seed(trial, {"email": "a@shop.example"}, {"email": "b@shop.example"})
        for name in ("a", "b"):
            record = {
                "key": f"O-{name}",
                "contactIdentity": {"identifier": "email", "value": f"{name}@shop.example"},
                "json": {"total": 1},
            }
            trial.report(trial.put_records(record))
        trial.http.delete("/contacts/v3/email/a@shop.example").raise_for_status()
        items = trial.http.get("/insightData/v3/contacts/orders").json()["_items"]
        assert [one["key"] for one in items] == ["O-b"]


def test_unknown_keys_can_be_ignored() -> None:
    entry = {**by_email("a@shop.example"), "nickname": "A"}
    with Trial(unknown_keys="ignore") as trial:
        assert trial.put_contacts(entry, extra=1).status_code == 202
        body = {"identifiers": {"email": "b@shop.example"}, "nickname": "B"}
        assert trial.http.post("/contacts/v3", json=body).status_code == 201
        strict = {**entry, "channelProperties": {"fax": {}}}
        assert trial.put_contacts(strict).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/contacts/v3/email/not-an-email",
        "/contacts/v3/contactId/abc",
        "/contacts/v3/mobileNumber/12",
        "/contacts/v3/badge/7",
        f"/contacts/v3/email/{'x' * 250}@shop.example",
    ],
)
def test_identifiers_in_paths_are_checked(path: str) -> None:
    with Trial() as trial:
        refused = trial.http.get(path)
        assert (refused.status_code, error_code(refused)) == (400, "contacts:invalidId")


def test_values_in_paths_are_decoded_once() -> None:
    with Trial() as trial:
        seed(trial, {"email": "a+b/c%d@shop.example"})
        found = trial.http.get("/contacts/v3/email/a%2Bb%2Fc%25d%40shop.example")
        assert found.json()["identifiers"]["email"] == "a+b/c%d@shop.example"


def test_lists_count_their_contacts_and_can_be_renamed_and_deleted() -> None:
    with Trial() as trial:
        books = trial.new_list()
        trial.report(trial.put_contacts({**by_email("a@shop.example"), "lists": [books, books]}))
        path = f"/v2/address-books/{books}"
        assert trial.http.get(path).json()["contacts"] == 1
        renamed = trial.http.put(path, json={"name": "Shop", "visibility": "Public"}).json()
        assert (renamed["name"], renamed["visibility"]) == ("Shop", "Public")
        assert [one["id"] for one in trial.http.get("/v2/address-books/public").json()] == [books]
        assert [one["name"] for one in trial.http.get("/v2/address-books/private").json()] == ["Test"]
        assert (
            trial.http.delete("/v2/address-books/1")
            .json()["message"]
            .endswith("ERROR_ADDRESSBOOK_NOTWRITABLE")
        )
        assert trial.http.delete(path).status_code == 204
        assert trial.contact("a@shop.example")["lists"] == []
        report = trial.report(trial.put_contacts({**by_email("a@shop.example"), "lists": [books]}))
        assert report["failures"][0]["failures"][0]["failureCode"] == "InvalidAddressBookIds"


def test_deleting_a_data_field_deletes_its_values() -> None:
    with Trial() as trial:
        trial.new_field("SHOE_SIZE", "Numeric")
        trial.report(trial.put_contacts(by_email("a@shop.example", SHOE_SIZE=42)))
        trial.http.delete("/v2/data-fields/shoe_size").raise_for_status()
        trial.new_field("SHOE_SIZE")
        assert trial.contact("a@shop.example")["dataFields"]["SHOE_SIZE"] is None
