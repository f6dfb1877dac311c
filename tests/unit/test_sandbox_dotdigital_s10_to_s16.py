"""S10 to S16: the behaviours that a faithful fake of Dotdigital has: fields, lists, Insight data, faults."""

import httpx
import pytest

from sandbox.asgi import ConnectionDropped
from sandbox.dotdigital.trial import Json, Trial, by_email, owned


def error_code(response: httpx.Response) -> str:
    return str(response.json()["errorCode"])


def reasons(report: Json) -> dict[str, str]:
    return {failure["key"]: failure["failureReason"] for failure in report["failures"]}


def test_s10_data_fields_are_checked_and_created_once() -> None:
    with Trial() as trial:

        def post(**body: object) -> tuple[int, str]:
            answer = trial.http.post("/v2/data-fields", json=body)
            return answer.status_code, answer.json().get("message", "")

        created = trial.http.post("/v2/data-fields", json={"Name": "newsletter_subscribe", "Type": "boolean"})
        assert created.status_code == 201
        assert created.json() == {
            "name": "NEWSLETTER_SUBSCRIBE",
            "type": "Boolean",
            "visibility": "Private",
            "defaultValue": None,
        }
        status, message = post(name="Newsletter_Subscribe", type="Boolean")
        assert (status, message) == (400, "Field already exists. ERROR_NON_UNIQUE_DATAFIELD")
        wrong = [
            {"name": "TWENTY_ONE_CHARACTERS", "type": "String"},
            {"name": "WITH SPACE", "type": "String"},
            {"name": "Email", "type": "String"},
            {"name": "AGE", "type": "Integer"},
            {"name": "AGE", "type": "Numeric", "defaultValue": "young"},
            {"type": "String"},
        ]
        for body in wrong:
            status, message = post(**body)
            assert (status, message.rpartition(" ")[2]) == (400, "ERROR_DATAFIELD_INVALID"), body
        listed = trial.http.get("/v2/data-fields").json()
        assert {"FIRSTNAME", "NEWSLETTER_SUBSCRIBE"} <= {one["name"] for one in listed}
        assert trial.http.put("/v2/data-fields", json={}).status_code == 405  # there is no update
        assert trial.http.delete("/v2/data-fields/FIRSTNAME").json()["result"] is False
        assert trial.http.delete("/v2/data-fields/NEWSLETTER_SUBSCRIBE").json()["result"] is True
        assert trial.http.delete("/v2/data-fields/NEWSLETTER_SUBSCRIBE").status_code == 404


def test_s11_lists_are_paged_and_their_names_are_shared_with_segments() -> None:
    with Trial(segments=("VIP",)) as trial:
        ids = [trial.new_list(f"list {number}") for number in range(4)]
        pages = [
            [one["id"] for one in trial.http.get(f"/v2/address-books?select=2&skip={skip}").json()]
            for skip in (0, 2, 4, 6)
        ]
        assert pages == [[1, ids[0]], [ids[1], ids[2]], [ids[3]], []]

        def message(name: object) -> str:
            answer = trial.http.post("/v2/address-books", json={"name": name})
            assert answer.status_code == 400
            return str(answer.json()["message"])

        for taken in ("LIST 1", "vip", "Test", "All Contacts"):
            assert message(taken) == "Error: ERROR_ADDRESSBOOK_DUPLICATE"
        for invalid in ("x" * 129, " ", 5, None):
            assert message(invalid) == "Error: ERROR_ADDRESSBOOK_INVALID"
        assert trial.http.get("/v2/address-books/5").json() == {
            "message": "Error: ERROR_ADDRESSBOOK_NOT_FOUND"
        }
        assert trial.http.get(f"/v2/address-books/{ids[0]}").json()["name"] == "list 0"


@pytest.mark.parametrize("status", [429, 400])
def test_s12_the_sixth_insight_import_is_refused(status: int) -> None:
    with Trial(insight_slots_status=status) as trial:
        trial.report(trial.put_contacts(by_email("a@shop.example")))
        answers = [trial.put_records(owned(f"O{number}", "a@shop.example", id="x")) for number in range(6)]
        assert [one.status_code for one in answers] == [202] * 5 + [status]
        assert error_code(answers[-1]) == "insightData:tooManyActiveImports"


def test_s12_an_import_makes_its_collection_and_reports_each_refusal() -> None:
    with Trial() as trial:
        trial.report(trial.put_contacts(by_email("a@shop.example"), by_email("b@shop.example")))
        trial.report(trial.put_records(owned("O1", "a@shop.example", total=5, custom={"a": 1}, paid="x")))
        report = trial.report(
            trial.put_records(
                owned("O2", "ghost@shop.example", total=5),
                owned("O3", "not an e-mail", total=5),
                owned("O4", "a@shop.example", total=6),
                owned("O4", "a@shop.example", total=7),
                owned("O1", "b@shop.example", total=5),
                owned("O5", "a@shop.example", total="5"),
                owned("O6", "a@shop.example", custom=[]),
                owned("O7", "a@shop.example", matrix=[[1]]),
                owned("O8", "a@shop.example", **{"a key": 1}),
                owned("O9", "a@shop.example", **{"a-key": 1, "a_key": 1}),
                owned("O10", "a@shop.example", Total=1, total=1),
                owned("O11", "a@shop.example", paid="x" * 1001),
                owned("O12", "a@shop.example", total=1e16),
                owned("O 13", "a@shop.example", total=1),
                owned("O14", "a@shop.example", **{"k" * 256: 1}),
            )
        )
        assert report["summary"] == {"totalRecords": 15, "totalImported": 1, "totalRejected": 14}
        assert reasons(report) == {
            "O2": "ContactEmailDoesNotExist",
            "O3": "InvalidContactIdentifier",
            "O4": "DuplicateKey",
            "O1": "KeyExistingForDifferentContact",
            "O5": "JsonValueIncompatibleWithSchema",
            "O6": "JsonValueIncompatibleWithSchema",
            "O7": "JsonContainsNestedArray",
            "O8": "JsonKeyInvalidCharacters",
            "O9": "JsonContainsDashUnderscoreClash",
            "O10": "JsonContainsDashUnderscoreClash",
            "O11": "JsonValueTooLong",
            "O12": "JsonNumberValueTooLarge",
            "O 13": "InvalidClientKey",
            "O14": "JsonKeyTooLong",
        }
        first = report["failures"][0]
        assert first["collectionOwner"] == {
            "ownerType": "contact",
            "contactIdentity": {"identifier": "email", "value": "ghost@shop.example"},
        }
        assert first["json"] == {"total": 5}
        assert trial.http.get("/insightData/v3/collections").json() == [
            {
                "collectionName": "orders",
                "collectionType": "orders",
                "collectionScope": "contact",
                "recordCount": 2,
            }
        ]


def test_s12_a_record_without_its_contact_is_refused_at_once_or_in_the_report() -> None:
    record = {"key": "O1", "json": {"total": 5}}
    with Trial() as trial:
        refused = trial.put_records(record)
        assert refused.status_code == 400
        assert "records[0].contactIdentity" in refused.json()["description"]
        trial.control("POST options", missing_identity="report")
        assert reasons(trial.report(trial.put_records(record))) == {"O1": "InvalidContactIdentifier"}


def test_s12_long_texts_can_be_allowed() -> None:
    with Trial(insight_text_limit=None) as trial:
        record = {"key": "P1", "json": {"name": "x" * 5000}}
        accepted = trial.put_records(record, name="catalog_estar", scope="account", kind="catalog")
        assert trial.report(accepted)["summary"]["totalRejected"] == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("finished", ["NotStarted", "NotFinished", "Finished"]),
        ("complete", ["NotStarted", "Processing", "Complete"]),
    ],
)
def test_s13_insight_imports_have_two_vocabularies(words: str, expected: list[str]) -> None:
    with Trial(insight_status_words=words, import_seconds=10, import_shuffle=0) as trial:
        record = {"key": "P1", "json": {"name": "Tee"}}
        accepted = trial.put_records(record, name="catalog_estar", scope="account", kind="catalog")
        path = f"/insightData/v3/import/{accepted.json()['importId']}"
        seen = []
        for seconds in (1, 5, 5):
            trial.clock.advance(seconds)
            seen.append(trial.http.get(path).json()["status"])
        assert seen == expected


def test_s14_single_records_are_created_replaced_and_deleted() -> None:
    with Trial() as trial:
        trial.report(trial.put_contacts(by_email("a+b@shop.example")))
        owner = "/insightData/v3/contacts/email/a%2Bb%40shop.example"
        missing = trial.http.put(f"{owner}/orders/O1", json={"total": 1})
        assert (missing.status_code, error_code(missing)) == (404, "insightData:collectionNotFound")
        created = "/insightData/v3/collections/orders?collectionScope=contact&collectionType=Orders"
        assert [trial.http.post(created).status_code for _ in range(2)] == [201, 200]
        stranger = trial.http.put("/insightData/v3/contacts/email/x@y.example/orders/O1", json={"total": 1})
        assert (stranger.status_code, error_code(stranger)) == (404, "insightData:contactNotFound")
        assert trial.http.put(f"{owner}/orders/O1", json={"total": 1, "note": "x"}).status_code == 201
        assert trial.http.put(f"{owner}/orders/O1", json={"total": 2}).status_code == 204
        shown = trial.http.get(f"{owner}/orders/O1").json()
        assert shown["json"] == {"total": 2}  # replaced as a whole
        assert shown["ownerContactId"] == 1
        assert trial.http.delete(f"{owner}/orders/O1").status_code == 204
        gone = trial.http.delete(f"{owner}/orders/O1")
        assert (gone.status_code, error_code(gone)) == (404, "insightData:recordNotFound")


def test_s14_records_are_deleted_by_their_keys() -> None:
    with Trial() as trial:
        records = [{"key": f"P{number}", "json": {"sku": f"P{number}"}} for number in range(3)]
        trial.report(trial.put_records(*records, name="catalog_estar", scope="account", kind="catalog"))
        path = "/insightData/v3/accounts/catalog_estar/deleteRecords"
        answer = trial.http.request("DELETE", path, json={"keys": ["P0", "P2", "P9", "P0"]})
        assert answer.json() == {
            "summary": {"totalRecords": 3, "totalDeleted": 2, "totalNotFound": 1},
            "notFound": ["P9"],
            "failures": [],
        }
        nothing = trial.http.request("DELETE", path, json={"keys": []})
        assert (nothing.status_code, error_code(nothing)) == (400, "insightData:noRecordsSpecified")


def test_s15_parallel_imports_may_end_in_another_order() -> None:
    def last_word(seed: int) -> str:
        with Trial(seed=seed) as trial:
            trial.put_contacts(by_email("a@shop.example", FIRSTNAME="older"))
            trial.put_contacts(by_email("a@shop.example", FIRSTNAME="newer"))
            trial.clock.advance(60)
            assert trial.control("GET summary")["violations"] == {"key_in_two_open_imports": 1}
            return str(trial.contact("a@shop.example")["dataFields"]["FIRSTNAME"])

    assert {last_word(seed) for seed in range(20)} == {"older", "newer"}
    assert [last_word(seed) for seed in range(20)] == [last_word(seed) for seed in range(20)]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_s16_server_errors_come_before_or_after_the_work(status: int) -> None:
    with Trial() as trial:
        trial.control("POST faults", once=[{"kind": f"http_{status}", "method": "PUT"}])
        assert trial.put_contacts(by_email("a@shop.example")).status_code == status
        assert trial.control("GET summary")["jobs"]["accepted"] == {}
        trial.control("POST faults", once=[{"kind": f"http_{status}", "after": True}])
        assert trial.put_contacts(by_email("a@shop.example")).status_code == status
        assert trial.control("GET summary")["jobs"]["accepted"] == {"contact_import": 1}
        assert trial.put_contacts(by_email("b@shop.example")).status_code == 202


def test_s16_the_connection_drops_before_or_after_acceptance() -> None:
    with Trial() as trial:
        trial.control(
            "POST faults", once=[{"kind": "drop_before"}, {"kind": "drop_after", "path": "/contacts"}]
        )
        with pytest.raises(ConnectionDropped):
            trial.put_contacts(by_email("a@shop.example"))
        assert trial.control("GET summary")["jobs"]["accepted"] == {}
        with pytest.raises(httpx.RemoteProtocolError):
            trial.put_contacts(by_email("a@shop.example"))
        trial.clock.advance(60)
        assert trial.control("GET state")["contacts"] == 1
        assert [(one["status"], one["reply"]) for one in trial.ledger("calls")] == [
            (0, "lost"),
            (202, "lost"),
        ]


def test_s16_an_answer_can_be_slow() -> None:
    with Trial() as trial:
        trial.control("POST faults", once=[{"kind": "slow", "seconds": 130}])
        before = trial.clock.monotonic()
        assert trial.put_contacts(by_email("a@shop.example")).status_code == 202
        assert trial.clock.monotonic() - before == 130


def test_s16_imports_vanish_never_end_or_report_less_than_they_did() -> None:
    with Trial() as trial:
        kinds = ("import_vanishes", "import_never_ends", "import_report_omits")
        shares = {"import_vanishes": 0.5, "import_report_omits": 0.5}
        faults = [{"kind": kind, "share": shares.get(kind)} for kind in kinds]
        trial.control("POST faults", once=faults)
        accepted = [
            trial.put_contacts(*[by_email(f"{name}{number}@shop.example") for number in range(40)])
            for name in ("vanished", "stuck", "omitted")
        ]
        trial.clock.advance(3600)
        answers = [trial.http.get(f"/contacts/v3/import/{one.json()['importId']}") for one in accepted]
        assert answers[0].status_code == 404
        assert answers[1].json()["status"] == "NotFinished"
        report = answers[2].json()
        assert report["status"] == "Finished"
        assert 0 < report["summary"]["newContacts"] == len(report["created"]) < 40
        assert trial.control("GET state")["contacts"] == 20 + 40
        assert trial.control("GET summary")["jobs"]["open"] == {"contact_import": 1}


def test_s16_quota_storms_lost_credentials_and_faults_at_random() -> None:
    with Trial() as trial:
        trial.control("POST faults", once=[{"kind": "unauthorized"}, {"kind": "quota_storm", "seconds": 30}])
        statuses = [trial.http.get("/contacts/v3").status_code for _ in range(3)]
        assert statuses == [401, 429, 429]
        trial.clock.advance(31)
        assert trial.http.get("/contacts/v3").status_code == 200
        trial.control("POST faults", probabilities={"http_503": 0.5})
        statuses = [trial.http.get("/contacts/v3").status_code for _ in range(100)]
        assert 30 < statuses.count(503) < 70
        trial.control("POST faults", clear=True)
        assert {trial.http.get("/contacts/v3").status_code for _ in range(20)} == {200}


def test_s16_another_client_eats_the_quota_and_the_quota_changes() -> None:
    with Trial(limits={"low": 10}) as trial:
        trial.control("POST faults", other_client={"low": 8})
        trial.clock.advance(45)
        assert trial.http.get("/contacts/v3").headers["X-RateLimit-Remaining"] == "3"
        trial.control("POST options", limits={"low": 4})
        assert trial.http.get("/contacts/v3").status_code == 429
        assert trial.control("GET options")["limits"] == {
            "scheme": "tiered",
            "low": 4,
            "medium": 6000,
            "high": 6000,
            "flat_per_hour": 2000,
            "reset": "epoch",
            "retry_after": False,
            "body": "empty",
        }
