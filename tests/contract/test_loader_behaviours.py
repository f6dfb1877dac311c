"""The account's behaviours S1 to S16 (of the API facts, 12), each driven through the loader: where, and what is nowhere else.

`WHERE` is the table; a test holds it to the tests that there are.
"""

import ast
from pathlib import Path

import httpx
import pytest

from estarsync_core.entities import Entity
from estarsync_core.errors import ConfigurationError, Stop
from sandbox.dotdigital.options import Limits

CONTACT_IMPORT, INSIGHT_IMPORT = "/contacts/v3/import", "/insightData/v3/import"
HERE = "test_loader_behaviours"
ANSWERS, DELIVERY, LANES = "test_loader_answers", "test_loader_delivery", "test_loader_lanes"
RESTART, MOVES, RENAMES = "test_loader_restart", "test_loader_moves", "test_loader_renames"
ERASURES, SETTING_UP, FIREWALL = "test_loader_erasures", "test_provisioning", "test_consent_firewall"
WHERE = {
    "S1 credentials and regions": [
        (HERE, "test_wrong_credentials_and_the_wrong_region_end_the_start"),
        (HERE, "test_credentials_that_are_withdrawn_end_the_process"),
        (LANES, "test_a_refused_password_ends_the_process"),
    ],
    "S2 discovery": [
        (HERE, "test_the_accounts_own_region_is_called"),
        (SETTING_UP, "test_the_region_is_found_and_used"),
    ],
    "S3 quota headers": [
        (HERE, "test_every_form_of_the_quotas_headers_is_understood"),
        (ANSWERS, "test_a_used_up_quota_is_waited_out_and_never_exceeded"),
        (ANSWERS, "test_a_429_is_told_from_full_slots_whatever_its_body"),
        (ANSWERS, "test_another_clients_calls_cost_at_most_one_rejection_a_minute"),
    ],
    "S4 the flat scheme": [(ANSWERS, "test_the_flat_schemes_hour_is_waited_out")],
    "S5 imports that are refused as a whole": [
        (HERE, "test_full_contact_slots_are_waited_out"),
        (ANSWERS, "test_one_bad_record_is_found_in_a_refused_batch_and_the_rest_is_delivered"),
        (ANSWERS, "test_a_body_that_is_too_large_is_divided"),
    ],
    "S6 how imports end": [
        (ANSWERS, "test_an_import_that_comes_to_nothing_is_sent_again"),
        (ANSWERS, "test_an_import_that_never_ends_is_sent_again_after_the_deadline"),
        (LANES, "test_a_refused_import_stops_the_lane_and_is_sent_again_once_it_is_released"),
        (LANES, "test_an_import_that_fails_over_and_over_stops_the_lane"),
    ],
    "S7 contacts that are refused": [
        (HERE, "test_an_e_mail_that_dotdigital_does_not_take_is_a_dead_letter"),
        (HERE, "test_a_list_that_somebody_deleted_stops_the_lane_and_loses_nothing"),
        (ANSWERS, "test_records_that_the_report_refuses_are_dead_letters"),
        (ANSWERS, "test_both_vocabularies_of_failures_are_understood"),
    ],
    "S8 subscription": [
        (HERE, "test_on_an_account_with_double_opt_in_contacts_are_created_on_the_list_and_kept_up_to_date"),
        (DELIVERY, "test_suppressed_contacts_keep_their_status_and_get_their_orders"),
        (FIREWALL, "test_no_request_says_a_word_on_consent"),
    ],
    "S9 data fields of a contact": [
        (HERE, "test_null_clears_and_what_is_omitted_stays"),
        (HERE, "test_a_data_field_that_somebody_deleted_floods_nothing"),
    ],
    "S10 data fields of the account": [
        (SETTING_UP, "test_everything_missing_is_created_and_twice_changes_nothing"),
        (SETTING_UP, "test_every_problem_is_reported_together_and_nothing_is_created"),
        (SETTING_UP, "test_another_process_may_be_faster"),
    ],
    "S11 lists": [
        (SETTING_UP, "test_more_lists_than_a_page_holds_are_read"),
        (SETTING_UP, "test_a_list_name_that_a_segment_has_is_said"),
    ],
    "S12 Insight records that are refused": [
        (HERE, "test_a_value_of_another_type_is_a_dead_letter_with_dotdigitals_reason"),
        (HERE, "test_a_collection_that_somebody_deleted_is_made_again"),
        (ANSWERS, "test_full_slots_are_waited_out_without_burning_the_quota"),
        (ANSWERS, "test_an_order_whose_contact_has_vanished_at_dotdigital_parks_and_is_delivered"),
        (MOVES, "test_a_key_that_a_contact_of_whom_we_know_nothing_holds_is_a_dead_letter"),
    ],
    "S13 two vocabularies": [(ANSWERS, "test_both_vocabularies_of_states_are_understood")],
    "S14 single records and deletions": [
        (DELIVERY, "test_a_product_that_left_is_deleted_and_may_come_back"),
        (DELIVERY, "test_orders_are_deleted_one_by_one_under_their_contact"),
        (DELIVERY, "test_more_tombstones_than_one_call_takes"),
        (MOVES, "test_an_order_moves_to_its_new_contact"),
        (ERASURES, "test_an_erased_contact_is_deleted_after_its_orders"),
        (RENAMES, "test_a_conflict_is_reported_and_both_stay"),
    ],
    "S15 imports that finish out of order": [
        (HERE, "test_versions_of_a_key_never_pass_each_other_however_imports_are_shuffled"),
        (RESTART, "test_whatever_happens_the_account_ends_equal_to_the_latest_versions"),
    ],
    "S16 faults": [
        (HERE, "test_an_answer_that_takes_two_minutes_is_waited_for"),
        (ANSWERS, "test_a_gateways_error_is_a_lost_reply"),
        (ANSWERS, "test_after_a_lost_reply_only_the_identical_body_is_sent_and_newer_versions_wait"),
        (ANSWERS, "test_a_connection_that_was_refused_is_tried_again_at_once"),
        (ANSWERS, "test_a_lost_deletion_is_repeated"),
    ],
}


def test_the_table_names_tests_that_there_are():
    assert [name.split()[0] for name in WHERE] == [f"S{number}" for number in range(1, 17)]
    for module in {module for rows in WHERE.values() for module, _ in rows}:
        source = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
        tests = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
        named = {test for rows in WHERE.values() for where, test in rows if where == module}
        assert named <= tests, module


def test_wrong_credentials_and_the_wrong_region_end_the_start(rig):
    rig.options(wrong_hosts=frozenset({"r1-api.dotdigital.com"}))
    with pytest.raises(ConfigurationError, match="wrong region"):
        rig.kill()
    rig.options(wrong_hosts=frozenset(), password="another")
    with pytest.raises(ConfigurationError, match="refuses the credentials"):
        rig.kill()


def test_credentials_that_are_withdrawn_end_the_process(rig):
    rig.contact("a@shop.example", CUSTOMER_ID="7")
    rig.run()
    for path in (CONTACT_IMPORT, "/contacts/v3/{identifier}"):
        rig.fault("unauthorized", path=path)
        rig.contact("a@shop.example", FIRSTNAME=path)
        if path != CONTACT_IMPORT:
            rig.contact("b@shop.example", CUSTOMER_ID="7", renamed_from="a@shop.example")
        with pytest.raises(Stop, match="401"):
            rig.run()
        rig.kill()
        rig.run(300)
    assert rig.dead_letters(Entity.CONTACTS) == {}


def test_the_accounts_own_region_is_called(rigs):
    rig = rigs({"api_endpoint": "https://r3-api.dotdigital.com/"})
    rig.product("A")
    rig.run()
    hosts = [request.url.host for request in rig.requests]
    assert hosts[0] == "r1-api.dotdigital.com"
    assert set(hosts[1:]) == {"r3-api.dotdigital.com"}
    assert not any("//" in request.url.path for request in rig.requests)


@pytest.mark.parametrize("reset", ["epoch", "delta"])
@pytest.mark.parametrize("retry_after", [True, False])
def test_every_form_of_the_quotas_headers_is_understood(rigs, reset, retry_after):
    limits = Limits(low=3, medium=50, high=100, reset=reset, retry_after=retry_after)
    rig = rigs({"limits": limits}, loader_batch_records=1, dotdigital_quota_share=1.0)
    for number in range(9):
        rig.product(f"p{number}")
    rig.run(900, pace=0.5)
    assert rig.violations == {}
    assert rig.box.account.limits.summary(limits)["low"]["max_accepted"] == 3


def test_full_contact_slots_are_waited_out(rigs):
    rig = rigs(
        {"contact_import_slots": 1, "import_seconds": 20.0, "import_shuffle": 0.0}, loader_batch_records=1
    )
    for number in range(4):
        rig.contact(f"c{number}@shop.example")
    rig.run(900)
    assert rig.counted(Entity.CONTACTS) == {"delivered": 4}
    assert rig.dead_letters(Entity.CONTACTS) == {}


def test_an_e_mail_that_dotdigital_does_not_take_is_a_dead_letter(rig):
    rig.contact("a..b@shop.example")
    rig.contact("good@shop.example")
    rig.run()
    assert rig.dead_letters(Entity.CONTACTS) == {"a..b@shop.example": "InvalidEmail"}
    assert rig.held("good@shop.example") is not None


def test_a_list_that_somebody_deleted_stops_the_lane_and_loses_nothing(rig):
    (ours,) = [one for one in rig.box.account.lists if one.name == "eStar Contacts"]
    remove = httpx.Request("DELETE", f"https://r1-api.dotdigital.com/v2/address-books/{ours.id}")
    login = httpx.BasicAuth(rig.box.account.options.username, rig.box.account.options.password)
    assert rig.box.handle(next(login.auth_flow(remove))).is_success
    rig.contact("a@shop.example")
    rig.run(until=lambda: rig.lanes.stopped(Entity.CONTACTS))
    assert rig.dead_letters(Entity.CONTACTS) == {}
    rig.kill()  # creates the list again
    rig.turn_for(5)
    rig.release(Entity.CONTACTS)
    rig.run()
    assert [one.name for one in rig.box.account.lists if one.id in rig.held("a@shop.example").lists] == [
        "eStar Contacts"
    ]


def test_on_an_account_with_double_opt_in_contacts_are_created_on_the_list_and_kept_up_to_date(rigs):
    rig = rigs({"double_opt_in": True})
    rig.contact("a@shop.example", FIRSTNAME="A", NEWSLETTER_SUBSCRIBE=True)
    rig.order("O-1", "a@shop.example")
    rig.run()
    rig.contact("a@shop.example", FIRSTNAME="B", NEWSLETTER_SUBSCRIBE=False)
    rig.run()
    contact = rig.held("a@shop.example")
    assert contact.email_status == "pendingOptIn"
    assert len(contact.lists) == 1
    assert (contact.fields["FIRSTNAME"], contact.fields["NEWSLETTER_SUBSCRIBE"]) == ("B", False)
    assert rig.record("orders", "O-1") is not None


def test_null_clears_and_what_is_omitted_stays(rig):
    rig.contact("a@shop.example", FIRSTNAME="A", LASTNAME="B", BILLING_CITY="Napier")
    rig.run()
    rig.contact("a@shop.example", FIRSTNAME=None, LASTNAME=None, omitted=["BILLING_CITY", "LASTNAME"])
    rig.run()
    fields = rig.held("a@shop.example").fields
    assert "FIRSTNAME" not in fields
    assert (fields["LASTNAME"], fields["BILLING_CITY"]) == ("B", "Napier")


def test_a_data_field_that_somebody_deleted_floods_nothing(rigs):
    rig = rigs(loader_dead_letter_run=5)
    remove = httpx.Request("DELETE", "https://r1-api.dotdigital.com/v2/data-fields/BILLING_CITY")
    login = httpx.BasicAuth(rig.box.account.options.username, rig.box.account.options.password)
    assert rig.box.handle(next(login.auth_flow(remove))).is_success
    for number in range(20):
        rig.contact(f"c{number}@shop.example", BILLING_CITY="Napier")
    rig.run(until=lambda: rig.lanes.stopped(Entity.CONTACTS))
    assert rig.dead_letters(Entity.CONTACTS) == {}
    rig.kill()  # creates the field again
    rig.turn_for(5)
    rig.release(Entity.CONTACTS)
    rig.run()
    assert rig.held("c7@shop.example").fields["BILLING_CITY"] == "Napier"


def test_a_value_of_another_type_is_a_dead_letter_with_dotdigitals_reason(rig):
    rig.product("A")
    rig.run()
    body = {
        "collectionName": "catalog_estar", "collectionScope": "account", "collectionType": "catalog",
        "records": [{"key": "X", "json": {"brand": 7}}],
    }  # fmt: skip
    request = httpx.Request("PUT", f"https://r1-api.dotdigital.com{INSIGHT_IMPORT}", json=body)
    login = httpx.BasicAuth(rig.box.account.options.username, rig.box.account.options.password)
    assert rig.box.handle(next(login.auth_flow(request))).is_success
    rig.clock.advance(5)
    rig.product("B", document={"brand": "Acme"})
    rig.product("C")
    rig.run()
    assert rig.dead_letters(Entity.PRODUCTS) == {"B": "JsonValueIncompatibleWithSchema"}
    assert rig.record("catalog_estar", "C") is not None


def test_a_collection_that_somebody_deleted_is_made_again(rig):
    rig.product("A")
    rig.run()
    del rig.box.account.collections["catalog_estar"]
    rig.product("A", price=2.0)
    rig.product("B")
    rig.tombstone(Entity.PRODUCTS, "B")
    rig.run()
    assert rig.record("catalog_estar", "A")["price"] == 2.0


@pytest.mark.parametrize("seconds", [1.0, 30.0])
def test_versions_of_a_key_never_pass_each_other_however_imports_are_shuffled(rigs, seconds):
    rig = rigs({"import_seconds": seconds, "import_shuffle": 1.0}, loader_batch_records=2)
    for version in range(6):
        for sku in "ABCDE":
            rig.product(sku, price=float(version))
            rig.turn_for(0.2)
    rig.run(3600)
    assert {rig.record("catalog_estar", sku)["price"] for sku in "ABCDE"} == {5.0}
    assert rig.violations == {}


def test_an_answer_that_takes_two_minutes_is_waited_for(rig):
    rig.fault("slow", path=INSIGHT_IMPORT, seconds=121.0)
    rig.product("A")
    rig.run(300)
    assert len(rig.bodies(INSIGHT_IMPORT)) == 1
    assert rig.record("catalog_estar", "A") is not None
