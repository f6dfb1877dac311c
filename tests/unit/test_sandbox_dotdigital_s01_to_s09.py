"""S1 to S9: the behaviours that a faithful fake of Dotdigital has: access, quota, contacts."""

import httpx
import pytest

from sandbox.dotdigital.trial import Json, Trial, by_email

OK = {"FIRSTNAME": "Aroha"}


def error_code(response: httpx.Response) -> str:
    return str(response.json()["errorCode"])


def test_s1_wrong_credentials_are_401_with_a_body_in_v2_only() -> None:
    with Trial() as trial:
        v2 = trial.http.get("/v2/account-info", auth=("somebody", "else"))
        v3 = trial.http.get("/contacts/v3", auth=("somebody", "else"))
        assert (v2.status_code, v3.status_code) == (401, 401)
        assert v2.json() == {"message": "Authorization has been denied for this request."}
        assert v3.content == b""
        assert trial.http.get("/v2/account-info", auth=None, headers={"Authorization": "Bearer x"}).is_error


def test_s1_a_host_of_another_region_is_403_but_for_discovery() -> None:
    with Trial(wrong_hosts=frozenset({"r1-api.dotdigital.com"})) as trial:
        headers = {"Host": "r1-api.dotdigital.com"}
        refused = trial.http.get("/contacts/v3", headers=headers)
        assert (refused.status_code, refused.text) == (403, "Forbidden: Access is denied")
        assert trial.http.get("/v2/account-info", headers=headers).status_code == 200


def test_s2_account_info_names_the_endpoint_with_a_slash_at_its_end() -> None:
    def endpoint(trial: Trial) -> str:
        listed = trial.http.get("/v2/account-info").json()["properties"]
        assert all(isinstance(one["value"], str) for one in listed)
        return str(next(one["value"] for one in listed if one["name"] == "ApiEndpoint"))

    with Trial() as trial:
        assert endpoint(trial) == "http://dotdigital.sandbox/"
        trial.control("POST options", api_endpoint="https://r3-api.dotdigital.com/")
        assert endpoint(trial) == "https://r3-api.dotdigital.com/"


def test_s3_every_answer_carries_its_tiers_quota() -> None:
    with Trial(limits={"low": 2, "medium": 5, "high": 9}) as trial:
        first = trial.http.get("/contacts/v3")
        assert first.headers["X-RateLimit-Limit"] == "2"
        assert first.headers["X-RateLimit-Remaining"] == "1"
        assert first.headers["X-RateLimit-Scope"] == "lowCallRate"
        assert int(first.headers["X-RateLimit-Reset"]) == int(trial.clock.now().timestamp()) + 60
        assert trial.http.get("/v2/data-fields").headers["X-RateLimit-Scope"] == "mediumCallRate"
        high = trial.http.get("/contacts/v3/email/nobody@shop.example")
        assert (high.status_code, high.headers["X-RateLimit-Scope"]) == (404, "highCallRate")


def test_s3_a_used_up_minute_is_429_until_it_ends() -> None:
    with Trial(limits={"low": 2, "retry_after": True, "body": "json"}) as trial:
        trial.clock.advance(30)
        statuses = [trial.http.get("/contacts/v3").status_code for _ in range(3)]
        refused = trial.http.get("/contacts/v3")
        assert statuses == [200, 200, 429]
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        assert refused.headers["Retry-After"] == "30"
        assert error_code(refused) == "server:tooManyRequests"
        assert trial.http.get("/v2/account-info").status_code == 200  # tiers are counted apart
        trial.clock.advance(30)
        assert trial.http.get("/contacts/v3").status_code == 200


def test_s3_reset_can_be_seconds_to_go_and_a_429_has_no_body_by_default() -> None:
    with Trial(limits={"low": 0, "reset": "delta"}) as trial:
        trial.clock.advance(12.5)
        refused = trial.http.get("/contacts/v3")
        assert (refused.status_code, refused.content) == (429, b"")
        assert refused.headers["X-RateLimit-Reset"] == "48"
        assert "Retry-After" not in refused.headers


def test_s4_the_flat_scheme_is_400_after_its_rolling_hour() -> None:
    with Trial(limits={"scheme": "flat", "flat_per_hour": 3}) as trial:
        for _ in range(3):
            assert trial.http.get("/contacts/v3").status_code == 200
            trial.clock.advance(600)
        refused = trial.http.get("/contacts/v3")
        assert refused.status_code == 400
        assert "ERROR_APIUSAGE_EXCEEDED" in refused.json()["message"]
        assert not [name for name in refused.headers if name.startswith("x-ratelimit")]
        trial.clock.advance(1800)
        assert trial.http.get("/contacts/v3").status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        (b"{", "contacts:badJson", ""),
        (b"{}", "server:badRequest", "contacts"),
        (b'{"contacts": []}', "server:badRequest", "contacts"),
        (b'{"contacts": [{"identifiers": {"email": "a@b.example"}}]}', "server:badRequest", "contacts[0]"),
        (
            b'{"contacts": [{"matchIdentifier": "email", "identifiers": {"email": "a@b.example"}, "dataFields": []}]}',
            "server:badRequest",
            "contacts[0].dataFields",
        ),
        (
            b'{"contacts": [{"matchIdentifier": "email", "identifiers": {"email": 5}}]}',
            "server:badRequest",
            "contacts[0].identifiers.email",
        ),
        (
            b'{"contacts": [{"matchIdentifier": "email", "identifiers": {"email": "a@b.example"}, "lists": []}]}',
            "server:badRequest",
            "contacts[0].lists",
        ),
        (
            b'{"contacts": [{"matchIdentifier": "email", "identifiers": {"email": "a@b.example"}, "status": "x"}]}',
            "server:badRequest",
            "contacts[0]",
        ),
        (
            b'{"contacts": [{"matchIdentifier": "x", "identifiers": {}, "channelProperties": {"email": {"status": "?"}}}]}',
            "contacts:invalidValue",
            "contacts[0].channelProperties.email.status",
        ),
        (
            b'{"mergeOption": "overwrite-if-empty", "contacts": [{"matchIdentifier": "email", "identifiers": {}}]}',
            "contacts:invalidValue",
            "mergeOption",
        ),
        (
            b'{"contacts": [{"matchIdentifier": "x", "identifiers": {}, "consentRecords": [{"text": "t", "url": "u", "dateTimeConsented": "now", "ipAddress": "::1", "userAgent": "a"}]}]}',
            "contacts:invalidValue",
            "contacts[0].consentRecords[0].dateTimeConsented",
        ),
    ],
)
def test_s5_a_structural_error_is_400_for_the_whole_batch(body: bytes, code: str, place: str) -> None:
    with Trial() as trial:
        refused = trial.http.put(
            "/contacts/v3/import", content=body, headers={"Content-Type": "application/json"}
        )
        assert refused.status_code == 400
        assert error_code(refused) == code
        assert place in refused.json()["description"]
        assert trial.control("GET summary")["jobs"]["accepted"] == {}


def test_s5_structural_errors_can_be_left_to_the_report() -> None:
    with Trial(structural_errors="report") as trial:
        bad = {**by_email("bad@shop.example"), "dataFields": []}
        report = trial.report(trial.put_contacts(by_email("good@shop.example", **OK), bad))
        assert report["summary"]["newContacts"] == 1
        assert [one["failures"][0]["failureCode"] for one in report["failures"]] == ["ApiSchemaViolation"]
        assert "dataFields" in report["failures"][0]["failures"][0]["description"]


def test_s5_bodies_beyond_the_limit_are_413_and_others_than_json_415() -> None:
    with Trial(max_body_bytes=100) as trial:
        assert trial.put_contacts(by_email("a@shop.example", FIRSTNAME="x" * 100)).status_code == 413
        assert trial.http.put("/contacts/v3/import", content=b"{}").status_code == 415


def test_s5_the_26th_active_import_is_429() -> None:
    with Trial() as trial:
        accepted = [trial.put_contacts(by_email(f"c{number}@shop.example")) for number in range(26)]
        assert [one.status_code for one in accepted] == [202] * 25 + [429]
        assert error_code(accepted[-1]) == "contacts:tooManyActiveImports"
        trial.clock.advance(60)
        assert trial.put_contacts(by_email("late@shop.example")).status_code == 202


def test_s6_an_import_ends_later_and_then_says_what_it_did() -> None:
    with Trial(import_seconds=10, import_shuffle=0) as trial:
        import_id = trial.put_contacts(by_email("aroha@shop.example", **OK)).json()["importId"]
        path = f"/contacts/v3/import/{import_id}"
        trial.clock.advance(9)
        assert trial.http.get(path).json() == {"importId": import_id, "status": "NotFinished"}
        assert trial.http.get("/contacts/v3/email/aroha@shop.example").status_code == 404
        trial.clock.advance(2)
        report = trial.http.get(path).json()
        assert report["status"] == "Finished"
        assert report["summary"]["newContacts"] == 1
        assert report["created"] == [{"contactId": 1, "identifiers": {"email": "aroha@shop.example"}}]
        again = trial.report(trial.put_contacts(by_email("AROHA@shop.example", **OK)))
        assert [one["contactId"] for one in again["updated"]] == [1]


def test_s6_unknown_and_malformed_import_ids() -> None:
    with Trial() as trial:
        unknown = trial.http.get("/contacts/v3/import/d7de900d-d337-43f6-b1e1-c8ec73e1a434")
        malformed = trial.http.get("/contacts/v3/import/123")
        assert (unknown.status_code, error_code(unknown)) == (404, "contacts:importNotFound")
        assert (malformed.status_code, error_code(malformed)) == (400, "contacts:invalidId")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("import_failed", "Failed"),
        ("import_rejected", "RejectedByWatchdog"),
        ("import_exceeds_limit", "ExceedsAllowedContactLimit"),
    ],
)
def test_s6_imports_can_be_made_to_end_badly(kind: str, status: str) -> None:
    with Trial() as trial:
        trial.control("POST faults", once=[{"kind": kind}])
        report = trial.report(trial.put_contacts(by_email("aroha@shop.example")))
        assert report == {"importId": report["importId"], "status": status}
        assert trial.control("GET state")["contacts"] == 0


def test_s7_each_contact_that_fails_says_why() -> None:
    with Trial(globally_suppressed=frozenset({"gsl@shop.example"})) as trial:
        report = trial.report(
            trial.put_contacts(
                by_email("bad@@shop.example"),
                by_email("twice@shop.example", FIRSTNAME="first"),
                by_email("Twice@shop.example", FIRSTNAME="second"),
                by_email("gsl@shop.example"),
                {**by_email("list@shop.example"), "lists": [999]},
                {**by_email("text@shop.example"), "lists": ["1"]},
                {"matchIdentifier": "mobileNumber", "identifiers": {"email": "match@shop.example"}},
                {"matchIdentifier": "email", "identifiers": {}},
                {"matchIdentifier": "contactId", "identifiers": {"contactId": 77}},
                {"matchIdentifier": "mobileNumber", "identifiers": {"mobileNumber": "12"}},
                by_email("type@shop.example", FIRSTNAME=5),
                by_email("field@shop.example", UNKNOWN="x"),
            )
        )
        listed = [
            (one["identifiers"].get("email"), one["failures"][0]["failureCode"]) for one in report["failures"]
        ]
        assert listed == [
            ("bad@@shop.example", "InvalidEmail"),
            ("Twice@shop.example", "Duplicate"),
            ("gsl@shop.example", "GloballySuppressed"),
            ("list@shop.example", "InvalidAddressBookIds"),
            ("text@shop.example", "ApiSchemaViolation"),
            ("match@shop.example", "InvalidMatchIdentifier"),
            (None, "NoValidIdentifiers"),
            (None, "InvalidContactId"),
            (None, "InvalidPhoneNumber"),
            ("type@shop.example", "ApiSchemaViolation"),
            ("field@shop.example", "ApiSchemaViolation"),
        ]
        assert report["summary"] == {
            "newContacts": 1,
            "updatedContacts": 0,
            "globallySuppressed": 1,
            "invalidEntries": 9,
            "duplicateIdentifiers": 1,
        }
        assert trial.contact("twice@shop.example")["dataFields"]["FIRSTNAME"] == "first"
        assert not any("index" in one for one in report["failures"])


def test_s7_repeated_contacts_can_all_be_left_out() -> None:
    with Trial(duplicates="none", failure_codes="openapi") as trial:
        report = trial.report(
            trial.put_contacts(by_email("twice@shop.example"), by_email("twice@shop.example"))
        )
        assert report["created"] == []
        assert [one["failures"][0]["failureCode"] for one in report["failures"]] == [
            "duplicateIdentifier"
        ] * 2


def test_s7_list_ids_as_text_can_be_refused_at_once() -> None:
    with Trial(text_lists="reject") as trial:
        refused = trial.put_contacts({**by_email("a@shop.example"), "lists": [1, "2"]})
        assert refused.status_code == 400
        assert "contacts[0].lists[1]" in refused.json()["description"]


def test_s8_a_new_contact_is_subscribed_and_an_existing_ones_status_is_left_alone() -> None:
    with Trial() as trial:
        trial.control("GET summary")
        trial.http.post(
            "/sandbox/contacts", json=[{"email": "left@shop.example", "email_status": "unsubscribed"}]
        ).raise_for_status()
        trial.report(trial.put_contacts(by_email("new@shop.example"), by_email("left@shop.example", **OK)))
        assert trial.contact("new@shop.example")["channelProperties"]["email"]["status"] == "subscribed"
        left = trial.contact("left@shop.example")
        assert left["status"] == "unsubscribed"
        assert left["dataFields"]["FIRSTNAME"] == "Aroha"
        assert trial.control("GET summary")["violations"] == {}


def test_s8_with_double_opt_in_a_new_contact_is_pending_and_is_mailed() -> None:
    with Trial(double_opt_in=True) as trial:
        books = trial.new_list()
        trial.report(trial.put_contacts({**by_email("new@shop.example"), "lists": [books]}))
        trial.report(trial.put_contacts(by_email("later@shop.example")))
        trial.report(trial.put_contacts({**by_email("later@shop.example"), "lists": [books]}))
        assert trial.contact("new@shop.example")["status"] == "pendingOptIn"
        assert trial.contact("new@shop.example")["lists"][0]["status"] == "pending"
        assert (
            trial.contact("later@shop.example")["lists"] == []
        )  # it joins when it is created, or not at all
        assert trial.control("GET summary")["mails_to_shoppers"] == {"confirm_opt_in": 2}


@pytest.mark.parametrize("resubscribe", ["silent", "challenge"])
def test_s8_asking_somebody_back_trips_the_wire(resubscribe: str) -> None:
    with Trial(resubscribe=resubscribe) as trial:
        trial.http.post(
            "/sandbox/contacts", json=[{"email": "left@shop.example", "email_status": "unsubscribed"}]
        ).raise_for_status()
        back = {**by_email("left@shop.example"), "channelProperties": {"email": {"status": "subscribed"}}}
        trial.report(trial.put_contacts(back))
        summary = trial.control("GET summary")
        assert summary["violations"] == {"consent_fields": 1, "resubscribe_attempted": 1}
        silent = resubscribe == "silent"
        assert trial.contact("left@shop.example")["status"] == ("subscribed" if silent else "unsubscribed")
        assert summary["mails_to_shoppers"] == ({} if silent else {"resubscribe_challenge": 1})


@pytest.mark.parametrize(
    "channels",
    [
        {"email": {"optInType": "Single"}},
        {"email": {"status": "subscribed"}},
        {"email": {"resubscribeOptions": {}}},
        {"sms": {"status": "subscribed"}},
        {"whatsApp": {"status": "noSubscription"}},
    ],
)
def test_s8_any_write_that_touches_consent_is_noted(channels: Json) -> None:
    with Trial() as trial:
        trial.put_contacts({**by_email("a@shop.example"), "channelProperties": channels}).raise_for_status()
        lines = trial.ledger("violations")
        assert [(line["kind"], line["key"]) for line in lines] == [("consent_fields", "a@shop.example")]


def test_s8_a_format_is_not_consent() -> None:
    with Trial() as trial:
        plain = {**by_email("a@shop.example"), "channelProperties": {"email": {"emailType": "plainText"}}}
        trial.report(trial.put_contacts(plain))
        assert trial.contact("a@shop.example")["channelProperties"]["email"]["emailType"] == "PlainText"
        assert trial.ledger("violations") == []


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        ("overwrite", {"FIRSTNAME": "new", "LASTNAME": None, "GENDER": "", "POSTCODE": "6011"}),
        ("overwriteIfNotEmpty", {"FIRSTNAME": "new", "LASTNAME": "old", "GENDER": "old", "POSTCODE": "6011"}),
        ("overwriteIfEmpty", {"FIRSTNAME": "old", "LASTNAME": "old", "GENDER": "old", "POSTCODE": "6011"}),
    ],
)
def test_s9_merge_modes(merge: str, expected: Json) -> None:
    with Trial() as trial:
        trial.report(
            trial.put_contacts(by_email("a@shop.example", FIRSTNAME="old", LASTNAME="old", GENDER="old"))
        )
        change = by_email("a@shop.example", firstname="new", LastName=None, GENDER="", POSTCODE="6011")
        trial.report(trial.put_contacts(change, mergeOption=merge))
        fields = trial.contact("a@shop.example")["dataFields"]
        assert {name: fields[name] for name in expected} == expected
        assert fields["FULLNAME"] is None


def test_s9_unknown_data_fields_can_be_ignored() -> None:
    with Trial(unknown_data_fields="ignore") as trial:
        report = trial.report(trial.put_contacts(by_email("a@shop.example", UNKNOWN="x", **OK)))
        assert report["summary"]["newContacts"] == 1
