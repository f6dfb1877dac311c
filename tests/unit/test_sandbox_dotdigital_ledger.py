import hashlib
import json
from pathlib import Path

import httpx
import msgspec
import pytest

from sandbox.dotdigital.options import BASIC, GENEROUS
from sandbox.dotdigital.trial import Trial, by_email, owned


def sha256(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def test_every_call_has_a_line() -> None:
    with Trial(limits={"high": 5}) as trial:
        trial.http.get("/contacts/v3/email/a@shop.example")
        trial.http.get("/nowhere")
        trial.http.get("/v2/account-info", auth=("somebody", "else"))
        trial.control("GET summary")  # the sandbox's own calls have none
        lines = trial.ledger("calls")
        assert [(one["path"], one["status"], one["tier"], one["remaining"]) for one in lines] == [
            ("/contacts/v3/{identifier}/{value}", 404, "high", 4),
            ("(unknown)", 404, "high", 3),
            ("/v2/account-info", 401, "high", 3),
        ]
        assert lines[0]["time"] == trial.clock.now().timestamp()
        summary = trial.control("GET summary")
        assert summary["calls"]["by_status"] == {"404": 2, "401": 1}
        assert summary["windows"]["high"] == {
            "limit": 5,
            "max_accepted": 2,
            "max_asked": 2,
            "windows_over": 0,
            "rejected": 0,
        }


def test_every_write_has_a_line_with_what_was_sent_and_what_it_replaced() -> None:
    with Trial(import_shuffle=0) as trial:
        first, second = by_email("A@shop.example", FIRSTNAME="A"), by_email("a@shop.example", FIRSTNAME="B")
        imports = [trial.put_contacts(first), trial.put_contacts(second)]
        trial.clock.advance(60)
        trial.http.patch("/contacts/v3/email/a@shop.example", json={"dataFields": {"FIRSTNAME": "C"}})
        trial.report(trial.put_records(owned("O1", "a@shop.example", total=1)))
        trial.http.delete("/insightData/v3/contacts/email/a@shop.example/orders/O1")
        trial.http.delete("/contacts/v3/email/a@shop.example")
        lines = trial.ledger("writes")
        assert [(one["kind"], one["key"]) for one in lines] == [
            ("contact", "a@shop.example"),
            ("contact", "a@shop.example"),
            ("contact_patch", "a@shop.example"),
            ("insight", "orders/O1"),
            ("insight_delete", "orders/O1"),
            ("contact_delete", "a@shop.example"),
        ]
        assert [one["import_id"] for one in lines[:3]] == [one.json()["importId"] for one in imports] + [""]
        assert [one["sha256"] for one in lines[:2]] == [sha256(first), sha256(second)]
        assert [one["previous"] for one in lines[:3]] == ["", sha256(first), sha256(second)]
        assert lines[3]["sha256"] == sha256({"total": 1}) == lines[4]["previous"]
        assert trial.control("GET summary")["writes"] == {
            "contact": 2,
            "contact_patch": 1,
            "insight": 1,
            "insight_delete": 1,
            "contact_delete": 1,
        }


def test_a_key_in_two_open_imports_is_a_violation_unless_the_body_is_the_same() -> None:
    with Trial() as trial:
        for _ in range(2):
            trial.put_contacts(by_email("a@shop.example", FIRSTNAME="A")).raise_for_status()
        summary = trial.control("GET summary")
        assert (summary["violations"], summary["jobs"]["identical_resends"]) == ({}, 1)
        trial.put_contacts(by_email("A@shop.example", FIRSTNAME="B")).raise_for_status()
        assert trial.control("GET summary")["violations"] == {"key_in_two_open_imports": 2}
        trial.clock.advance(60)
        trial.put_contacts(by_email("a@shop.example", FIRSTNAME="C")).raise_for_status()
        assert trial.control("GET summary")["violations"] == {"key_in_two_open_imports": 2}


def test_a_single_write_beside_an_open_import_is_a_violation() -> None:
    with Trial() as trial:
        product = {"key": "P1", "json": {"sku": "P1"}}
        trial.report(trial.put_records(product, name="catalog_estar", scope="account", kind="catalog"))
        path = "/insightData/v3/account/catalog_estar/P1"
        assert trial.http.put(path, json={"sku": "P1"}).status_code == 204
        assert trial.ledger("violations") == []
        trial.put_records(product, name="catalog_estar", scope="account", kind="catalog")
        trial.http.delete(path).raise_for_status()
        lines = trial.ledger("violations")
        assert [(one["kind"], one["key"]) for one in lines] == [
            ("single_write_beside_open_import", "insight:catalog_estar/P1")
        ]


def test_rejected_calls_are_told_apart() -> None:
    with Trial(limits={"low": 3}, contact_import_slots=1) as trial:
        trial.put_contacts(by_email("a@shop.example"))
        trial.put_contacts(by_email("b@shop.example"))
        for _ in range(3):
            trial.http.get("/contacts/v3")
        assert [one["detail"] for one in trial.ledger("violations")] == ["slots", "quota low", "quota low"]
        summary = trial.control("GET summary")
        assert summary["windows"]["low"] == {
            "limit": 3,
            "max_accepted": 3,
            "max_asked": 5,
            "windows_over": 1,
            "rejected": 2,
        }
        assert summary["jobs"]["most_open"] == {"contact_import": 1}


def test_tiers_can_be_set_and_an_unlimited_one_says_nothing() -> None:
    name = "GET /contacts/v3/import/{importId}"
    with Trial(tiers={name: "unlimited"}, limits={"high": 0}) as trial:
        accepted = trial.put_contacts(by_email("a@shop.example"))
        answer = trial.http.get(f"/contacts/v3/import/{accepted.json()['importId']}")
        assert answer.status_code == 200
        assert "X-RateLimit-Limit" not in answer.headers
        assert trial.ledger("calls")[-1]["remaining"] is None


def test_the_presets() -> None:
    assert (BASIC.low, BASIC.medium, BASIC.high) == (35, 150, 600)
    assert (GENEROUS.low, GENEROUS.medium, GENEROUS.high) == (6000, 6000, 6000)


def test_memory_is_bounded_and_a_file_has_everything(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Trial(keep_calls=2, keep_writes=3, ledger_path=path) as trial:
        trial.report(trial.put_contacts(*[by_email(f"c{number}@shop.example") for number in range(5)]))
        trial.http.get("/contacts/v3")
        assert len(trial.ledger("calls")) == 2
        assert [one["key"] for one in trial.ledger("writes")] == [f"c{n}@shop.example" for n in (2, 3, 4)]
        assert trial.control("GET summary")["writes"] == {"contact": 5}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["line"] for one in lines].count("write") == 5
    assert [one["line"] for one in lines].count("call") == 3
    assert set(lines[0]) == {
        "line",
        "time",
        "method",
        "path",
        "tier",
        "status",
        "remaining",
        "reply",
        "import_id",
    }


def test_the_ledger_is_read_in_parts() -> None:
    with Trial() as trial:
        for _ in range(5):
            trial.http.get("/contacts/v3")
        part = trial.http.get("/sandbox/ledger?kind=calls&offset=3&limit=1").text.splitlines()
        assert len(part) == 1
        assert len(trial.http.get("/sandbox/ledger?kind=calls&offset=3").text.splitlines()) == 2


def test_reports_are_kept_for_a_while() -> None:
    with Trial(reports_kept=1) as trial:
        first = trial.put_contacts(by_email("a@shop.example")).json()["importId"]
        trial.clock.advance(60)
        trial.report(trial.put_contacts(by_email("b@shop.example")))
        assert trial.http.get(f"/contacts/v3/import/{first}").status_code == 404


def test_the_account_can_begin_anew() -> None:
    with Trial() as trial:
        trial.report(trial.put_contacts(by_email("a@shop.example")))
        trial.control("POST reset", import_seconds=5)
        assert trial.control("GET state")["contacts"] == 0
        assert trial.ledger("calls") == []
        assert trial.control("GET options")["import_seconds"] == 5


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("POST options", {"import_second": 1}),
        ("POST options", {"limits": {"low": -1}}),
        ("POST faults", {"once": [{"kind": "earthquake"}]}),
        ("POST contacts", {"email": "not in a list"}),
        ("GET ledger?kind=secrets", None),
        ("GET ledger?offset=x", None),
    ],
)
def test_what_the_sandbox_does_not_understand_it_refuses(call: str, body: object) -> None:
    with Trial() as trial:
        method, _, path = call.partition(" ")
        assert trial.http.request(method, f"/sandbox/{path}", json=body).status_code == 400


def test_its_own_calls_need_no_credentials_and_unknown_ones_are_404() -> None:
    with Trial() as trial:
        assert trial.http.get("/sandbox/state", auth=None).status_code == 200
        missing: httpx.Response = trial.http.get("/sandbox/statistics")
        assert missing.status_code == 404
        assert "GET state" in missing.json()["error"]
        assert "password" not in trial.control("GET options")


def test_a_seed_repeats_a_run() -> None:
    def run(seed: int) -> list[object]:
        with Trial(seed=seed) as trial:
            trial.control("POST faults", probabilities={"http_503": 0.3, "import_failed": 0.3})
            seen: list[object] = []
            for number in range(30):
                answer = trial.put_contacts(by_email(f"c{number % 7}@shop.example", FIRSTNAME=str(number)))
                seen.append((answer.status_code, answer.text))
                trial.clock.advance(0.1)
            return [*seen, trial.control("GET summary")]

    assert run(3) == run(3)
    assert run(3) != run(4)
