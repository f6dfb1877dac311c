"""What Dotdigital's answers mean."""

import pytest

from estarsync_core.dotdigital.outcomes import (
    Call,
    Fate,
    ImportState,
    Next,
    Verdict,
    contact_judge,
    error_code,
    import_state,
    insight_judge,
    is_of_the_account,
    next_step,
    too_many_open,
)

USED_UP = "ERROR_APIUSAGE_EXCEEDED"
TOO_MANY = "contacts:tooManyActiveImports"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, ""),
        ([], ""),
        ({}, ""),
        ({"errorCode": "contacts:badJson", "description": "x"}, "contacts:badJson"),
        ({"errorCode": "ruru@shop.example", "description": "x"}, ""),
        ({"errorCode": 7}, ""),
        ({"message": "Field already exists. ERROR_NON_UNIQUE_DATAFIELD"}, "ERROR_NON_UNIQUE_DATAFIELD"),
        ({"message": "Error: ERROR_FEATURENOTACTIVE"}, "ERROR_FEATURENOTACTIVE"),
        ({"message": None, "description": "Import. ERROR_X"}, "ERROR_X"),
        ({"message": "Your account has generated excess API activity."}, USED_UP),
        ({"message": "Authorization has been denied for this request."}, ""),
    ],
)
def test_the_code_is_found_in_either_versions_body(body, code):
    assert error_code(body) == code


@pytest.mark.parametrize(
    ("code", "open_jobs"),
    [
        (TOO_MANY, True),
        ("ERROR_IMPORT_TOOMANYACTIVEIMPORTS", True),
        ("insightData:tooManyImports", True),
        ("contacts:tooManyBulkDeleteJobs", True),
        ("server:tooManyRequests", False),
        ("", False),
    ],
)
def test_open_jobs_are_told_from_the_quota(code, open_jobs):
    assert too_many_open(code) is open_jobs


@pytest.mark.parametrize(
    ("call", "status", "code", "step"),
    [
        (Call.IMPORT, 202, "", Next.DONE),
        (Call.STATUS, 200, "", Next.DONE),
        (Call.DELETE, 204, "", Next.DONE),
        (Call.IMPORT, 400, USED_UP, Next.WAIT_HOUR),
        (Call.STATUS, 400, USED_UP, Next.WAIT_HOUR),
        (Call.IMPORT, 429, TOO_MANY, Next.WAIT_SLOT),
        (Call.IMPORT, 400, TOO_MANY, Next.WAIT_SLOT),
        (Call.IMPORT, 429, "", Next.WAIT_QUOTA),
        (Call.IMPORT, 429, "server:tooManyRequests", Next.WAIT_QUOTA),
        (Call.STATUS, 429, "", Next.WAIT_QUOTA),
        (Call.IMPORT, 400, "contacts:badJson", Next.BISECT),
        (Call.IMPORT, 400, "", Next.BISECT),
        (Call.STATUS, 400, "contacts:invalidId", Next.STOP),
        (Call.DELETE, 400, "insightData:noRecordsSpecified", Next.STOP),
        (Call.IMPORT, 413, "", Next.SPLIT),
        (Call.DELETE, 413, "", Next.STOP),
        (Call.STATUS, 404, "contacts:importNotFound", Next.VANISHED),
        (Call.DELETE, 404, "insightData:recordNotFound", Next.DONE),
        (Call.FIND_CONTACT, 200, "", Next.DONE),
        (Call.FIND_CONTACT, 404, "contacts:contactNotFound", Next.VANISHED),
        (Call.FIND_CONTACT, 400, "contacts:invalidId", Next.REFUSED),
        (Call.RENAME_CONTACT, 200, "", Next.DONE),
        (Call.RENAME_CONTACT, 409, "contacts:idAlreadyExists", Next.REFUSED),
        (Call.RENAME_CONTACT, 400, USED_UP, Next.WAIT_HOUR),
        (Call.DELETE_CONTACT, 404, "contacts:contactNotFound", Next.VANISHED),
        (Call.DELETE_CONTACT, 400, "contacts:invalidContactStatus", Next.REFUSED),
        (Call.DELETE_CONTACT, 403, "", Next.STOP),
        (Call.IMPORT, 404, "", Next.STOP),
        (Call.IMPORT, 401, "", Next.STOP),
        (Call.IMPORT, 403, "", Next.STOP),
        (Call.IMPORT, 409, "contacts:idAlreadyExists", Next.STOP),
        (Call.IMPORT, 412, "", Next.STOP),
        (Call.IMPORT, 302, "", Next.STOP),
        (Call.IMPORT, 100, "", Next.STOP),
    ],
)
def test_every_answer_has_one_meaning(call, status, code, step):
    assert next_step(call, status, code, sent=True) is step


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 520])
def test_a_gateways_error_may_hide_an_accepted_call(status):
    assert next_step(Call.IMPORT, status, "", sent=True) is Next.LOST
    assert next_step(Call.DELETE, status, "", sent=True) is Next.LOST
    assert next_step(Call.STATUS, status, "", sent=True) is Next.RETRY
    assert next_step(Call.FIND_CONTACT, status, "", sent=True) is Next.RETRY
    assert next_step(Call.RENAME_CONTACT, status, "", sent=True) is Next.LOST


@pytest.mark.parametrize(
    ("code", "all_alike"), [("InvalidAddressBookIds", True), ("invalidEmail", False), ("", False)]
)
def test_what_the_account_lacks_is_no_records_fault(code, all_alike):
    assert is_of_the_account(code) is all_alike


def test_no_answer_is_a_lost_one_only_where_the_request_may_have_left():
    assert next_step(Call.IMPORT, 0, "ReadTimeout", sent=True) is Next.LOST
    assert next_step(Call.IMPORT, 0, "ConnectError", sent=False) is Next.RETRY


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Finished", ImportState.FINISHED),
        ("Complete", ImportState.FINISHED),
        ("Completed", ImportState.FINISHED),
        ("NotStarted", ImportState.RUNNING),
        ("NotFinished", ImportState.RUNNING),
        ("Processing", ImportState.RUNNING),
        ("Failed", ImportState.FAILED),
        ("InvalidFileFormat", ImportState.FAILED),
        ("RejectedByWatchdog", ImportState.REFUSED),
        ("ExceedsAllowedContactLimit", ImportState.REFUSED),
        ("SomethingNew", ImportState.RUNNING),
        ("", ImportState.RUNNING),
    ],
)
def test_both_vocabularies_of_states_are_known(word, state):
    assert import_state(word) is state


DELIVERED = Verdict(Fate.DELIVERED)
UNACCOUNTED = Verdict(Fate.RETRY, "unaccounted")


def test_a_contact_that_was_saved_is_delivered_whatever_else_failed():
    failures = [
        ("b@shop.example", "consentRecordsNotApplied"),
        ("c@shop.example", "InvalidEmail"),
        ("d@shop.example", ""),
    ]
    judge = contact_judge(5, {"newContacts": 2}, ["a@shop.example", "b@shop.example"], failures)
    assert [judge(f"{name}@shop.example") for name in "abcde"] == [
        DELIVERED,
        DELIVERED,
        Verdict(Fate.DEAD_LETTER, "InvalidEmail"),
        UNACCOUNTED,
        UNACCOUNTED,
    ]


@pytest.mark.parametrize(
    ("summary", "verdict"),
    [
        ({"newContacts": 1, "updatedContacts": 1}, DELIVERED),
        ({"newContacts": 1, "updatedContacts": 0}, UNACCOUNTED),
        ({"newContacts": "two", "updatedContacts": None}, UNACCOUNTED),
        ({}, UNACCOUNTED),
    ],
)
def test_a_report_without_rows_counts_only_where_its_totals_account_for_everyone(summary, verdict):
    assert contact_judge(2, summary, [], [])("a@shop.example") == verdict


def test_records_fail_by_their_key_and_the_rest_is_delivered():
    reasons = {
        "1": "ContactEmailDoesNotExist",
        "2": "JsonValueIncompatibleWithSchema",
        "3": "Unknown",
        "4": "a person's name, say",
    }
    judge = insight_judge(5, {"totalRecords": 5, "totalImported": 1, "totalRejected": 4}, reasons.items())
    assert {key: judge(key) for key in "12345"} == {
        "1": Verdict(Fate.PARK, "ContactEmailDoesNotExist"),
        "2": Verdict(Fate.DEAD_LETTER, "JsonValueIncompatibleWithSchema"),
        "3": Verdict(Fate.RETRY, "Unknown"),
        "4": UNACCOUNTED,
        "5": DELIVERED,
    }


def test_records_that_the_totals_do_not_account_for_are_unclear():
    judge = insight_judge(2, {"totalImported": 1}, [])
    assert (judge("1"), judge("2")) == (UNACCOUNTED, UNACCOUNTED)
