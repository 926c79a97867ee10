"""A chat's record as one object of bytes.

Without a store, memory has the record of each chat, and most of them are idle. As objects, the 20 ids of an
anchor take 2 KB. The service's ids are UUIDs [V]: one that is written as Python writes them takes 16 bytes,
and a list in which one is not stays text.
"""

import json
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final

from healthmsg.gateway.inbox.base import ChatRecord

Ids = tuple[str, ...]
# The stamp, the counter, whether it is closed, and the lengths of the hint and of the anchor.
_HEAD: Final = Struct("<qIBII")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_NO_STAMP: Final = -(2**63)
_AS_BYTES: Final = b"b"
_AS_TEXT: Final = b"t"
_UUID: Final = 16


def packed(record: ChatRecord) -> bytes:
    """Return a record without its key."""
    at = _NO_STAMP if record.anchor_at is None else (record.anchor_at - _EPOCH) // _TICK
    hint, anchor = _packed_hint(record.hint), _packed_ids(record.anchor)
    head = _HEAD.pack(at, record.counter, record.closed, len(hint), len(anchor))
    return b"".join((head, hint, anchor, _packed_ids(record.members)))


def unpacked(key: str, data: bytes) -> ChatRecord:
    """Return the record of a chat."""
    at, counter, closed, hint, anchor = _HEAD.unpack_from(data)
    after_hint = _HEAD.size + hint
    return ChatRecord(
        key,
        _ids(data[after_hint : after_hint + anchor]),
        None if at == _NO_STAMP else _EPOCH + at * _TICK,
        hint_in(data),
        _ids(data[after_hint + anchor :]),
        bool(closed),
        counter,
    )


def hint_in(data: bytes) -> str | None:
    """Return the hint of a packed record."""
    start = _HEAD.size
    length: int = _HEAD.unpack_from(data)[3]
    if not length:
        return None
    form, found = data[start : start + 1], data[start + 1 : start + length]
    return found.hex() if form == _AS_BYTES else found.decode("utf-8", "surrogatepass")


def _packed_hint(hint: str | None) -> bytes:
    if hint is None:
        return b""
    data = _from_hex(hint)
    if data is not None and data.hex() == hint:
        return _AS_BYTES + data
    return _AS_TEXT + hint.encode("utf-8", "surrogatepass")


def _packed_ids(ids: Ids | None) -> bytes:
    if ids is None:
        return b""
    data = _from_hex("".join(ids).replace("-", ""))
    if data is not None and _uuids(data) == ids:
        return _AS_BYTES + data
    # What ASCII has not is escaped: no text whatever fails.
    return _AS_TEXT + json.dumps(ids, separators=(",", ":")).encode()


def _ids(data: bytes) -> Ids | None:
    if not data:
        return None
    return _uuids(data[1:]) if data[:1] == _AS_BYTES else tuple(json.loads(data[1:]))


def _from_hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _uuids(data: bytes) -> Ids:
    """Return the ids in that form. What had another one makes others, or fewer."""
    digits = data.hex()
    return tuple(
        f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-{digits[at + 12 : at + 16]}"
        f"-{digits[at + 16 : at + 20]}-{digits[at + 20 : at + 32]}"
        for at in range(0, 2 * len(data), 2 * _UUID)
    )
