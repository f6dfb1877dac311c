"""Insight imports: accepted now, carried out later, reported."""

from collections.abc import Sequence
from typing import Any

import httpx
from msgspec import UNSET, Raw

from sandbox.dotdigital.account import Account
from sandbox.dotdigital.call import Call
from sandbox.dotdigital.contact_imports import is_uuid
from sandbox.dotdigital.contacts import Contact
from sandbox.dotdigital.errors import raw_reply, reply, v3_refusal, wrong_value
from sandbox.dotdigital.insight import COLLECTION_TYPES, Collection, Refusal, is_collection_name
from sandbox.dotdigital.insight_writes import Origin, declared, ledger_key, owner_of, write_record
from sandbox.dotdigital.jobs import Job
from sandbox.dotdigital.ledger import Violation
from sandbox.dotdigital.options import Options
from sandbox.dotdigital.requests import Identity, InsightEntry, InsightImport, LenientInsightImport
from sandbox.dotdigital.validation import decode

_OBJECT = 0x7B  # "{"


def put_import(call: Call) -> httpx.Response:
    """`PUT /insightData/v3/import`: makes the collection where there is none."""
    account, options = call.account, call.account.options
    if account.jobs.open_count("insight_import") >= options.insight_import_slots:
        kind = f"call_answered_{options.insight_slots_status}"
        account.ledger.violation(Violation(call.now, kind, f"PUT {call.template}", "slots"))
        text = "too many imports are being processed for the account; wait for one to complete"
        raise v3_refusal(options.insight_slots_status, "insightData:tooManyActiveImports", text)
    shape: type[InsightImport | LenientInsightImport] = InsightImport
    if options.unknown_keys == "ignore":
        shape = LenientInsightImport
    body = decode(shape, call.body, "insightData")
    _check(body, options)
    collection = _collection(account, body)
    named = dict.fromkeys(record.key for record in body.records)
    keys = [f"insight:{ledger_key(collection, key)}" for key in named]
    work = _InsightImport(account, collection, body.records)
    job = account.jobs.open(call, "insight_import", len(body.records), work, keys)
    work.import_id = job.id
    return reply(202, {"importId": job.id})


def _check(body: InsightImport | LenientInsightImport, options: Options) -> None:
    if not is_collection_name(body.collection_name):
        text = f"The collectionName value '{body.collection_name}' is invalid"
        raise v3_refusal(400, "insightData:invalidId", text)
    if body.collection_type.lower() not in COLLECTION_TYPES:
        raise wrong_value("insightData", "collectionType")
    for index, record in enumerate(body.records):
        path = f"records[{index}]"
        if memoryview(record.json)[0] != _OBJECT:
            text = f"Expected `object`, path {path}.json"
            raise v3_refusal(
                400, "server:badRequest", f"Bad request: {text}", [(f"{path}.json", "Expected `object`")]
            )
        owned = record.contact_identity is not UNSET and record.contact_identity is not None
        if body.collection_scope == "account" and owned:
            text = "a record of an account's collection has no contact"
            raise wrong_value("insightData", f"{path}.contactIdentity", text)
        if body.collection_scope == "contact" and not owned and options.missing_identity == "reject":
            text = "a record of a contact's collection needs its contact"
            raise wrong_value("insightData", f"{path}.contactIdentity", text)


def _collection(account: Account, body: InsightImport | LenientInsightImport) -> Collection:
    found = account.collection(body.collection_name)
    if found is None:
        if len(account.collections) >= account.options.collection_limit:
            raise v3_refusal(412, "insightData:collectionLimitExceeded", "too many Insight data collections")
        kind = COLLECTION_TYPES[body.collection_type.lower()]
        found = Collection(body.collection_name, kind, body.collection_scope)
        account.collections[found.name] = found
    if found.scope != body.collection_scope:
        raise wrong_value("insightData", "collectionScope", f"the collection's scope is {found.scope}")
    return found


class _InsightImport:
    """An import's work: records in order, and the report."""

    def __init__(self, account: Account, collection: Collection, records: Sequence[InsightEntry]) -> None:
        self._account = account
        self._collection = collection
        self._records = records
        self.import_id = ""

    def __call__(self, at: float, count: int) -> dict[str, Any]:
        failures: list[dict[str, Any]] = []
        seen: set[str] = set()
        origin = Origin(at, self.import_id)
        for entry in self._records[:count]:
            written = self._write(entry, seen, origin)
            if isinstance(written, Refusal):
                reason = declared(self._account, written.reason)
                self._account.ledger.failure(reason)
                failures.append(self._failure(entry, reason, written.details))
        total = len(self._records)
        report: dict[str, Any] = {
            "collectionName": self._collection.name,
            "summary": {
                "totalRecords": total,
                "totalImported": total - len(failures),
                "totalRejected": len(failures),
            },
        }
        return {**report, "failures": failures} if failures else report

    def _write(self, entry: InsightEntry, seen: set[str], origin: Origin) -> bool | Refusal:
        if entry.key in seen:
            return Refusal("DuplicateKey")
        seen.add(entry.key)
        owner: int | None = None
        if self._collection.scope == "contact":
            identity = entry.contact_identity
            if not isinstance(identity, Identity):
                return Refusal("InvalidContactIdentifier", ("The contact is missing",))
            found = owner_of(self._account, identity)
            if not isinstance(found, Contact):
                return found
            owner = found.contact_id
        return write_record(self._account, self._collection, entry.key, owner, bytes(entry.json), origin)

    def _failure(self, entry: InsightEntry, reason: str, details: tuple[str, ...]) -> dict[str, Any]:
        owner: dict[str, Any] = {"ownerType": self._collection.scope}
        if isinstance(entry.contact_identity, Identity):
            owner["contactIdentity"] = entry.contact_identity
        return {
            "collectionOwner": owner,
            "failureReason": reason,
            "details": list(details),
            "key": entry.key,
            # What can't be read here, a client could not read either.
            "json": {} if reason == "InvalidJson" else Raw(bytes(entry.json)),
        }


def get_import(call: Call) -> httpx.Response:
    """`GET /insightData/v3/import/{importId}`."""
    import_id = call.params["importId"]
    if not is_uuid(import_id):
        raise v3_refusal(400, "insightData:invalidId", f"The id value '{import_id}' is invalid")
    job = call.account.jobs.find(import_id, "insight_import")
    if job is None:
        text = f"The import request '{import_id}' could not be found!"
        raise v3_refusal(404, "insightData:importNotFound", text)
    return raw_reply(200, job.shown("importId", _status(call, job)))


def _status(call: Call, job: Job) -> str:
    production = call.account.options.insight_status_words == "finished"
    if job.state == "NotFinished":
        started = call.now >= job.accepted + (job.due - job.accepted) / 4
        return ("NotFinished" if production else "Processing") if started else "NotStarted"
    if job.state == "Finished":
        return "Finished" if production else "Complete"
    return "Failed"


def get_async(call: Call) -> httpx.Response:
    """`GET /insightData/v3/async/{jobId}`."""
    job_id = call.params["jobId"]
    if not is_uuid(job_id):
        raise v3_refusal(400, "insightData:invalidId", f"The id value '{job_id}' is invalid")
    job = call.account.jobs.find(job_id, "insight_async")
    if job is None:
        text = f"The job ID '{job_id}' could not be found!"
        raise v3_refusal(404, "insightData:asyncJobNotFound", text)
    return raw_reply(200, job.shown("jobId", job.state))
