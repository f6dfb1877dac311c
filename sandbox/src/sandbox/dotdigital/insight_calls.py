"""Insight data v3: collections, single records, listings and deletions."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import httpx
import msgspec

from sandbox.dotdigital.account import Account
from sandbox.dotdigital.call import Call
from sandbox.dotdigital.contact_calls import required_contact
from sandbox.dotdigital.contacts import Contact
from sandbox.dotdigital.errors import RefusedCall, not_found, reply, v3_refusal, wrong_value
from sandbox.dotdigital.insight import (
    COLLECTION_TYPES,
    Collection,
    Record,
    Refusal,
    Scope,
    is_collection_name,
)
from sandbox.dotdigital.insight_writes import Origin, declared, delete_record, ledger_key, write_record
from sandbox.dotdigital.ledger import WriteLine
from sandbox.dotdigital.paging import page
from sandbox.dotdigital.requests import Keys
from sandbox.dotdigital.times import since
from sandbox.dotdigital.validation import decode

_SERVICE = "insightData"


def _name(call: Call) -> str:
    name = call.params["collectionName"]
    if not is_collection_name(name):
        raise v3_refusal(400, "insightData:invalidId", f"The collectionName value '{name}' is invalid")
    return name


def _collection(call: Call, scope: Scope | None = None) -> Collection:
    name = _name(call)
    found = call.account.collection(name)
    if found is None or scope not in {None, found.scope}:
        raise not_found(_SERVICE, "collectionNotFound", name)
    return found


def _place(call: Call) -> tuple[Collection, Contact | None]:
    """The collection that a path names, and the contact if it names one."""
    if "identifier" in call.params:
        contact = required_contact(call, "insightData")
        return _collection(call, "contact"), contact
    return _collection(call, "account"), None


def _record(call: Call) -> tuple[Collection, Record]:
    collection, contact = _place(call)
    key = call.params["recordId"]
    record = collection.find(key)
    if record is None or (contact is not None and record.owner != contact.contact_id):
        where = f"Not found in the {collection.scope} collection '{collection.name}'"
        raise not_found(_SERVICE, "recordNotFound", key, where)
    return collection, record


def get_collections(call: Call) -> httpx.Response:
    """`GET /insightData/v3/collections`."""
    return reply(200, [one.summary() for one in call.account.collections.values()])


def get_account_collections(call: Call) -> httpx.Response:
    """`GET /insightData/v3/account`."""
    return reply(200, [one.summary() for one in call.account.collections.values() if one.scope == "account"])


def get_contact_collections(call: Call) -> httpx.Response:
    """`GET /insightData/v3/contacts/{identifier}/{value}`: counts are the contact's own."""
    contact = required_contact(call, "insightData")
    found: list[dict[str, Any]] = []
    for collection in call.account.collections.values():
        if collection.scope == "contact":
            count = sum(record.owner == contact.contact_id for record in collection.rows)
            if count:
                found.append({**collection.summary(), "recordCount": count})
    return reply(200, found)


def post_collection(call: Call) -> httpx.Response:
    """`POST /insightData/v3/collections/{collectionName}`: 200 where it is there already."""
    name = _name(call)
    scope = call.query.get("collectionScope", "")
    kind = COLLECTION_TYPES.get(call.query.get("collectionType", "").lower())
    if scope not in {"account", "contact"}:
        raise wrong_value(_SERVICE, "collectionScope")
    if kind is None:
        raise wrong_value(_SERVICE, "collectionType")
    found = call.account.collection(name)
    if found is not None:
        if found.scope != scope:
            raise wrong_value(_SERVICE, "collectionScope", f"the collection's scope is {found.scope}")
        return httpx.Response(200)
    if len(call.account.collections) >= call.account.options.collection_limit:
        raise RefusedCall(httpx.Response(412))
    call.account.collections[name] = Collection(name, kind, cast("Scope", scope))
    return httpx.Response(201)


def get_schema(call: Call) -> httpx.Response:
    """`GET /insightData/v3/collections/{collectionName}/schema`."""
    collection = _collection(call)
    return reply(
        200,
        {
            "collectionName": collection.name,
            "collectionType": collection.kind,
            "schema": collection.schema.shown(),
        },
    )


def get_records(call: Call) -> httpx.Response:
    """A page of an account's collection, of a contact's, or of all contacts'."""
    everybody = call.template == "/insightData/v3/contacts/{collectionName}"
    collection, contact = (_collection(call, "contact"), None) if everybody else _place(call)
    modified = _modified(call)

    def rows(after: int) -> Iterator[tuple[int, Record]]:
        for number, record in collection.rows.after(after):
            if record.updated >= modified and (contact is None or record.owner == contact.contact_id):
                yield number, record

    options = call.account.options
    shown = page(
        call.url,
        _SERVICE,
        rows,
        Record.shown,
        largest=options.insight_page_max,
        options=options,
        rng=call.account.rng,
    )
    return reply(200, shown)


def _modified(call: Call) -> float:
    for name, value in call.query.items():
        if name.startswith("~"):
            time = since(value) if name == "~modified" else None
            if time is None:
                raise wrong_value(_SERVICE, name, f"'{value}'")
            return time
    return 0.0


def get_record(call: Call) -> httpx.Response:
    """One record."""
    return reply(200, _record(call)[1].shown())


def put_record(call: Call) -> httpx.Response:
    """Create (201) or replace (204) one record; its collection must be there."""
    collection, contact = _place(call)
    key = call.params["recordId"]
    document = decode(msgspec.Raw, call.body, "insightData")
    call.account.jobs.write_beside_import(call.now, f"insight:{ledger_key(collection, key)}")
    owner = None if contact is None else contact.contact_id
    written = write_record(call.account, collection, key, owner, bytes(document), Origin(call.now))
    if isinstance(written, Refusal):
        reason = declared(call.account, written.reason)
        details = [(key, detail) for detail in written.details]
        raise v3_refusal(400, "insightData:invalidJson", f"The record was refused: {reason}", details)
    return httpx.Response(201 if written else 204)


def delete_one(call: Call) -> httpx.Response:
    """Delete one record."""
    collection, record = _record(call)
    call.account.jobs.write_beside_import(call.now, f"insight:{ledger_key(collection, record.key)}")
    delete_record(call.account, collection, record, call.now)
    return httpx.Response(204)


def delete_records(call: Call) -> httpx.Response:
    """`…/deleteRecords`: by 1 to 5000 keys; each key counts once."""
    collection, contact = _place(call)
    keys = list(dict.fromkeys(decode(Keys, call.body, "insightData").keys))
    if not keys:
        raise v3_refusal(400, "insightData:noRecordsSpecified", "You must specify the keys of the records")
    missing: list[str] = []
    for key in keys:
        record = collection.find(key)
        if record is None or (contact is not None and record.owner != contact.contact_id):
            missing.append(key)
            continue
        call.account.jobs.write_beside_import(call.now, f"insight:{ledger_key(collection, key)}")
        delete_record(call.account, collection, record, call.now)
    summary = {
        "totalRecords": len(keys),
        "totalDeleted": len(keys) - len(missing),
        "totalNotFound": len(missing),
    }
    # `failures` is required by the OpenAPI file, and described nowhere.
    return reply(200, {"summary": summary, "notFound": missing, "failures": []})


def delete_collection(call: Call) -> httpx.Response:
    """`DELETE /insightData/v3/collections/{collectionName}`."""
    collection = _collection(call)
    return _later(call, len(collection), partial(_drop, call.account, collection))


def empty_collection(call: Call) -> httpx.Response:
    """`…/empty`, of a whole collection or of one contact's part of it."""
    collection, contact = _place(call) if "identifier" in call.params else (_collection(call), None)
    owner = None if contact is None else contact.contact_id
    count = sum(owner in {None, record.owner} for record in collection.rows)
    return _later(call, count, partial(_empty, call.account, collection, owner))


def _later(call: Call, size: int, work: Callable[[float, int], dict[str, Any]]) -> httpx.Response:
    job = call.account.jobs.open(call, "insight_async", size, work, [])
    return reply(202, {"jobId": job.id})


def _drop(account: Account, collection: Collection, at: float, _: int) -> dict[str, Any]:
    if account.collections.get(collection.name) is collection:
        del account.collections[collection.name]
    return _emptied(account, collection, list(collection.rows), at)


def _empty(account: Account, collection: Collection, owner: int | None, at: float, _: int) -> dict[str, Any]:
    records = [record for record in collection.rows if owner in {None, record.owner}]
    return _emptied(account, collection, records, at)


def _emptied(account: Account, collection: Collection, records: list[Record], at: float) -> dict[str, Any]:
    for record in records:
        collection.remove(record)
        key = ledger_key(collection, record.key)
        account.ledger.write(WriteLine(at, "insight_delete", key, "", b"", record.written))
    count = len(records)
    return {"summary": {"totalRecords": count, "totalProcessed": count, "totalFailed": 0}}
