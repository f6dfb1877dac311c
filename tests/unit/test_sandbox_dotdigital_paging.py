from datetime import timedelta

import httpx
import pytest

from sandbox.dotdigital.rows import Rows
from sandbox.dotdigital.trial import Json, Trial, by_email, owned


def walk(trial: Trial, url: str) -> list[list[Json]]:
    pages = []
    following: str | None = url
    while following is not None:
        page = trial.http.get(following).raise_for_status().json()
        pages.append(page["_items"])
        following = page["_links"].get("next", {}).get("link")
    return pages


def fill(trial: Trial, count: int) -> None:
    trial.report(trial.put_contacts(*[by_email(f"c{number}@shop.example") for number in range(count)]))


def test_pages_are_ascending_and_end_without_next() -> None:
    with Trial() as trial:
        fill(trial, 5)
        pages = walk(trial, "/contacts/v3?limit=2")
        assert [[one["contactId"] for one in page] for page in pages] == [[1, 2], [3, 4], [5]]
        assert [len(page) for page in walk(trial, "/contacts/v3?limit=5")] == [5]


def test_links_carry_markers_that_work_on_their_own() -> None:
    with Trial() as trial:
        fill(trial, 5)
        links = trial.http.get("/contacts/v3?limit=2&data-fields=FIRSTNAME").json()["_links"]
        assert set(links) == {"self", "first", "next"}
        page = trial.http.get("/contacts/v3", params={"limit": 2, "marker": links["next"]["marker"]}).json()
        assert [one["contactId"] for one in page["_items"]] == [3, 4]
        again = trial.http.get(page["_links"]["self"]["link"]).json()
        assert again["_items"] == page["_items"]
        first = trial.http.get(page["_links"]["first"]["link"]).json()
        assert [one["contactId"] for one in first["_items"]] == [1, 2]
        assert "data-fields=FIRSTNAME" in links["next"]["link"]


def test_an_empty_account_has_one_empty_page() -> None:
    with Trial() as trial:
        assert walk(trial, "/contacts/v3") == [[]]


def test_rows_that_go_or_come_while_paging_shift_nothing() -> None:
    with Trial() as trial:
        fill(trial, 6)
        first = trial.http.get("/contacts/v3?limit=3").json()
        trial.http.delete("/contacts/v3/contactId/2").raise_for_status()
        fill(trial, 7)
        rest = walk(trial, first["_links"]["next"]["link"])
        assert [one["contactId"] for page in rest for one in page] == [4, 5, 6, 7]
        assert [one["contactId"] for one in walk(trial, "/contacts/v3")[0]] == [1, 2, 3, 4, 5, 6, 7]


def test_insight_pages_hold_at_most_a_thousand_whatever_limit_says() -> None:
    with Trial() as trial:
        records = [{"key": f"P{number}", "json": {"sku": f"P{number}"}} for number in range(1500)]
        trial.report(trial.put_records(*records, name="catalog_estar", scope="account", kind="catalog"))
        pages = walk(trial, "/insightData/v3/account/catalog_estar?limit=5000")
        assert [len(page) for page in pages] == [1000, 500]


def test_pages_can_be_shorter_than_their_limit() -> None:
    with Trial(short_pages=True) as trial:
        fill(trial, 200)
        pages = walk(trial, "/contacts/v3?limit=50")
        assert sorted({one["contactId"] for page in pages for one in page}) == list(range(1, 201))
        assert all(25 <= len(page) <= 50 for page in pages[:-1])
        assert len(pages) > 4


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=5001",
        "limit=many",
        "marker=!!!",
        "marker=Zm9v",
        "~modified=gte::2026-01-01",
        "~modified=2026-01-01T00:00:00Z",
        "~created=gte::2026-01-01T00:00:00Z&~modified=gte::2026-01-01T00:00:00Z",
        "~listId=999",
        "~listId=abc",
        "~segmentId=1",
        "~status=subscribed",
        "include=everything",
        "data-fields=UNKNOWN",
    ],
)
def test_wrong_filters_are_400(query: str) -> None:
    with Trial() as trial:
        refused = trial.http.get(f"/contacts/v3?{query}")
        assert refused.status_code == 400
        assert refused.json()["errorCode"] == "contacts:invalidFilter"


def test_contacts_are_shown_as_asked() -> None:
    with Trial() as trial:
        fill(trial, 1)

        def shown(query: str) -> Json:
            found: Json = trial.http.get(f"/contacts/v3{query}").json()["_items"][0]
            return found

        key = {"contactId", "status", "created", "updated", "identifiers"}
        assert set(shown("")) == key
        assert shown("?data-fields=lastname|FIRSTNAME")["dataFields"] == {"LASTNAME": None, "FIRSTNAME": None}
        assert len(shown("?data-fields=[[ALL]]")["dataFields"]) == 6
        assert set(shown("?include=lists|channelProperties")) == key | {"lists", "channelProperties"}


def test_contacts_are_filtered_by_time_and_by_list() -> None:
    with Trial(import_shuffle=0) as trial:
        books = trial.new_list()
        fill(trial, 2)
        now = trial.clock.now() + timedelta(seconds=1)
        since = f"gte::{now:%Y-%m-%dT%H:%M:%SZ}"
        trial.clock.advance(60)
        trial.report(
            trial.put_contacts(
                {**by_email("c1@shop.example"), "lists": [books]}, {**by_email("new@shop.example")}
            )
        )

        def ids(name: str, value: object) -> list[int]:
            page: httpx.Response = trial.http.get("/contacts/v3", params={name: str(value)})
            return [one["contactId"] for one in page.json()["_items"]]

        assert ids("~modified", since) == [2, 3]
        assert ids("~created", since) == [3]
        assert ids("~listId", books) == [2]


def test_records_are_filtered_by_time_and_by_contact() -> None:
    with Trial(import_shuffle=0) as trial:
        fill(trial, 2)
        trial.report(
            trial.put_records(
                *[owned(f"O{number}", f"c{number % 2}@shop.example", n=1) for number in range(4)]
            )
        )
        since = f"gte::{trial.clock.now():%Y-%m-%dT%H:%M:%S.000Z}"
        trial.report(trial.put_records(owned("O1", "c1@shop.example", n=2)))
        url = "/insightData/v3/contacts/orders"
        assert [one["key"] for one in walk(trial, f"{url}?~modified={since}")[0]] == ["O1"]
        own = walk(trial, "/insightData/v3/contacts/email/c1@shop.example/orders?limit=1")
        assert [[one["key"] for one in page] for page in own] == [["O1"], ["O3"]]
        assert trial.http.get(f"{url}?~modified=yesterday").status_code == 400
        assert trial.http.get(f"{url}?~status=x").status_code == 400


def test_rows_keep_their_order_through_removal_and_return() -> None:
    rows: Rows[str] = Rows()
    for _ in range(5000):
        number = rows.next_number()
        rows.add(number, f"row {number}")
    for number in range(1, 4990):
        rows.remove(number)
    rows.add(17, "back")
    assert [number for number, _ in rows.after(0)] == [17, *range(4990, 5001)]
    assert [number for number, _ in rows.after(4998)] == [4999, 5000]
    rows.clear()
    assert (len(rows), list(rows.after(0)), rows.next_number()) == (0, [], 5001)
