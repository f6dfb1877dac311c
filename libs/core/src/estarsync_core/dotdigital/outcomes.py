"""What Dotdigital's answers mean: the one table from (call, status, code) to what happens next.

Facts: API facts 2.1, 2.4, 3.5, 3.7, 6.2 and 9. An answer that is not in the table is `STOP`: to spin on
something that nobody understands would burn the retailer's quota and hide the trouble.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Call(StrEnum):
    """A kind of call, as far as the meaning of its answers goes."""

    IMPORT = "import"
    STATUS = "status"
    DELETE = "delete"
    FIND_CONTACT = "find_contact"
    RENAME_CONTACT = "rename_contact"
    DELETE_CONTACT = "delete_contact"


_OF_ONE_CONTACT = frozenset({Call.FIND_CONTACT, Call.RENAME_CONTACT, Call.DELETE_CONTACT})


class Next(StrEnum):
    """What happens after an answer."""

    DONE = "done"
    RETRY = "retry"  # nothing happened there; send the same again after a while
    LOST = "lost"  # it may have been accepted; only the identical body may be sent again
    WAIT_QUOTA = "wait_quota"  # the tier's minute is used up
    WAIT_HOUR = "wait_hour"  # the flat scheme's hour is used up
    WAIT_SLOT = "wait_slot"  # too many imports are open
    BISECT = "bisect"  # one record spoils the whole batch
    SPLIT = "split"  # the body is too large
    VANISHED = "vanished"  # the import, or the contact, is not known there
    REFUSED = (
        "refused"  # this contact alone, and for good: a suppressed one can't be deleted, an e-mail is taken
    )
    STOP = "stop"  # a person must look


_ERROR_CODE = re.compile(r"ERROR_[A-Z_]+")
_V3_CODE = re.compile(r"[A-Za-z]{1,40}:[A-Za-z0-9_.]{1,80}")
_TOO_MANY_OPEN = re.compile(r"toomany\w*(import|job|active)", re.IGNORECASE)
USED_UP = "ERROR_APIUSAGE_EXCEEDED"
"""The code of the flat scheme's refusal."""
NO_ANSWER = 0
_SUCCESS = range(200, 300)
_REQUEST_TIMEOUT = 408
_FIRST_SERVER_ERROR = 500


def error_code(body: Any) -> str:  # noqa: ANN401 - whatever came
    """The error code in an answer of either API version, or `""`.

    Codes are closed words (`contacts:badJson`, `ERROR_APIUSAGE_EXCEEDED`), fit for logs and labels;
    descriptions may quote a shopper's data, so they may not.
    """
    if not isinstance(body, Mapping):
        return ""
    code = body.get("errorCode")
    if isinstance(code, str) and _V3_CODE.fullmatch(code):
        return code
    text = f"{body.get('message', '')} {body.get('description', '')}"
    found = _ERROR_CODE.search(text)
    if found:
        return found.group()
    # The flat scheme's refusal is documented as a text, too.
    return USED_UP if "excess" in text.lower() and "api" in text.lower() else ""


def too_many_open(code: str) -> bool:
    """Whether a refusal is about open imports or jobs, not about the quota of calls (API facts, 2.4)."""
    return _TOO_MANY_OPEN.search(code.replace("_", "")) is not None


def next_step(  # noqa: C901, PLR0911, PLR0912 - it is a table
    call: Call, status: int, code: str, *, sent: bool
) -> Next:
    """What to do after an answer.

    Args:
        call: what was asked.
        status: the HTTP status, `NO_ANSWER` where none came.
        code: see `error_code`.
        sent: whether the request may have reached Dotdigital; only looked at where no answer came.
    """
    if status == NO_ANSWER:
        return Next.LOST if sent else Next.RETRY
    if status in _SUCCESS:
        return Next.DONE
    if status >= _FIRST_SERVER_ERROR or status == _REQUEST_TIMEOUT:
        # A gateway's answer says nothing about what happened behind it.
        return Next.RETRY if call in {Call.STATUS, Call.FIND_CONTACT} else Next.LOST
    match status:
        case 400 if code == USED_UP:
            return Next.WAIT_HOUR
        case 400 | 429 if too_many_open(code):
            return Next.WAIT_SLOT
        case 429:
            return Next.WAIT_QUOTA
        case 400 if call is Call.IMPORT:
            return Next.BISECT
        case 413 if call is Call.IMPORT:
            return Next.SPLIT
        case 404 if call is Call.STATUS:
            return Next.VANISHED
        case 404 if call is Call.DELETE:
            return Next.DONE  # what is to be gone is gone
        case 404 if call in _OF_ONE_CONTACT:
            return Next.VANISHED
        case 400 | 409 if call in _OF_ONE_CONTACT:
            return Next.REFUSED
        case _:
            return Next.STOP


class ImportState(StrEnum):
    """Where an import is."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    REFUSED = "refused"


_STATES = {
    **dict.fromkeys(("finished", "complete", "completed"), ImportState.FINISHED),
    **dict.fromkeys(("notstarted", "notfinished", "processing"), ImportState.RUNNING),
    **dict.fromkeys(
        ("failed", "unknown", "notavailableinthisversion", "invalidfileformat"), ImportState.FAILED
    ),
    **dict.fromkeys(("rejectedbywatchdog", "exceedsallowedcontactlimit"), ImportState.REFUSED),
}


def import_state(word: str) -> ImportState:
    """The state behind either vocabulary's word; an unknown word counts as running until the deadline."""
    return _STATES.get(word.lower(), ImportState.RUNNING)


class Fate(StrEnum):
    """What an import's report decides for one record."""

    DELIVERED = "delivered"
    PARK = "park"  # its contact is not there yet
    RETRY = "retry"  # the report does not say
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A record's fate, and Dotdigital's code for it where there is one."""

    fate: Fate
    code: str = ""


_PARKED = frozenset({"contactemaildoesnotexist", "contactiddoesnotexist"})
_OF_THE_ACCOUNT = frozenset({"invalidaddressbookids"})
_UNCLEAR = frozenset({"unknown", ""})
_DELIVERED = Verdict(Fate.DELIVERED)
_UNACCOUNTED = Verdict(Fate.RETRY, "unaccounted")


def contact_judge(
    count: int, summary: Mapping[str, Any], saved: Iterable[str], failures: Iterable[tuple[str, str]]
) -> Callable[[str], Verdict]:
    """Each contact's fate by the report of a finished contact import.

    Failures carry no index, so records are found by their e-mail. A contact that was saved was saved, whatever
    else failed beside it (API facts, 3.5).

    Args:
        count: how many contacts were sent.
        summary: the report's totals.
        saved: the e-mails of those that were created or updated; gone through once at most.
        failures: e-mail and code of those that failed.

    Returns:
        From an e-mail to its fate.
    """
    failed = dict(failures)
    all_saved = not failed and _total(summary, "newContacts", "updatedContacts") == count
    there = frozenset[str]() if all_saved else frozenset(saved)

    def judge(email: str) -> Verdict:
        if all_saved or email in there:
            return _DELIVERED
        return _failure(failed[email]) if email in failed else _UNACCOUNTED

    return judge


def insight_judge(
    count: int, summary: Mapping[str, Any], failures: Iterable[tuple[str, str]]
) -> Callable[[str], Verdict]:
    """Each record's fate, by record key, by the report of a finished Insight import.

    The report names only failures; the rest counts as delivered if the totals account for every record.

    Args:
        count: how many records were sent, each with a key of its own.
        summary: the report's totals.
        failures: key and reason of those that failed.

    Returns:
        From a record key to its fate.
    """
    failed = dict(failures)
    rest = _DELIVERED if _total(summary, "totalImported") == count - len(failed) else _UNACCOUNTED
    return lambda key: _failure(failed[key]) if key in failed else rest


def is_of_the_account(code: str) -> bool:
    """Whether a record was refused for what the account lacks (our list was deleted), so that all others would be, too."""
    return code.lower() in _OF_THE_ACCOUNT


def _failure(code: str) -> Verdict:
    word = code if re.fullmatch(r"[A-Za-z]{1,60}", code) else ""
    if word.lower() in _PARKED:
        return Verdict(Fate.PARK, word)
    if word.lower() in _UNCLEAR:
        return Verdict(Fate.RETRY, word or "unaccounted")
    return Verdict(Fate.DEAD_LETTER, word)


def _total(summary: Mapping[str, Any], *names: str) -> int:
    counts = [summary.get(name) for name in names]
    return sum(count for count in counts if isinstance(count, int))
