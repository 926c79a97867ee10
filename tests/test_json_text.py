"""What is read of JSON that is not proper JSON, and where JSON is read."""

import json
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthmsg.auth.stores import FileTokenStore
from healthmsg.auth.token import Token
from healthmsg.cli.recipients.reading import read_json_lines
from healthmsg.codec import decode, encode
from healthmsg.errors import InvalidResponseError
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.models import Message
from healthmsg.pipeline.request import Response

BOM = b"\xef\xbb\xbf"
LENIENT = {
    "half of an emoji": (rb'["a\ud83d"]', ["a\ufffd"]),
    "the other half": (rb'["\uDE00a"]', ["\ufffda"]),
    "halves in the wrong order": (rb'["\ude00\ud83d"]', ["\ufffd\ufffd"]),
    "half before an escape": (rb'["\ud83d\u0041\ud83d\n"]', ["\ufffdA\ufffd\n"]),
    "a whole emoji beside a half": (rb'["\ud83d\ude00\ud83d"]', ["\U0001f600\ufffd"]),
    "an escaped backslash before what looks like a half": (rb'["\\ud83d", "\ud83d"]', ["\\ud83d", "\ufffd"]),
    "half of an emoji as a key": (rb'{"\ud83d": 1}', {"\ufffd": 1}),
    "halves as three bytes each": (b'["\xed\xa0\xbd\xed\xb8\x80"]', ["\U0001f600"]),
    "one half as three bytes": (b'["\xed\xa0\xbdx"]', ["\ufffdx"]),
    "an emoji that was cut": (b'["a\xf0\x9f\x98"]', ["a\ufffd"]),
    "a byte that is not UTF-8": (b'["Zo\xeb"]', ["Zo\ufffd"]),
    "a tab and a newline": (b'["a\tb\nc"]', ["a\tb\nc"]),
    "another control character": (b'["a\x01b"]', ["a\x01b"]),
    "no number": (b"[NaN, Infinity, -Infinity]", [None, None, None]),
    "a number beyond all": (b"[1e400, -1e400, " + b"9" * 5000 + b"]", [None, None, None]),
    "more than 64 bits beside something improper": (b"[18446744073709551616, NaN]", [2.0**64, None]),
    "64 bits beside something improper": (b"[18446744073709551615, NaN]", [2**64 - 1, None]),
    "a byte order mark": (BOM + b'{"id": "1"}', {"id": "1"}),
    "two of them, within white space": (b"\r\n" + BOM + BOM + b"[]", []),
    "a zero byte at the end": (b"[]\r\n\x00", []),
    "UTF-16 with a mark": ('["é😀"]'.encode("utf-16"), ["é😀"]),
    "UTF-16 without one": ('["é😀"]'.encode("utf-16-be"), ["é😀"]),
    "half of an emoji in UTF-16": (
        '["a'.encode("utf-16-le") + b"\x3d\xd8" + '"]'.encode("utf-16-le"),
        ["a\ufffd"],
    ),
    "UTF-32": ('["é😀"]'.encode("utf-32-le"), ["é😀"]),
}
NO_JSON = (
    *(b"", b" ", BOM, b"<html>", b'{"a": 1,}', b"{'a': 1}", b"[1] [2]", b'"abc', b'["\\x41"]', b"01"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"\x00" * 8, b"None", b"undefined"),
)


@pytest.mark.parametrize(("written", "meant"), LENIENT.values(), ids=LENIENT)
def test_improper_json_is_read_with_what_is_wrong_replaced(written: bytes, meant: object) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(written)

    assert parse_json(written) == meant
    assert orjson.loads(encode(parse_json(written))) == meant


@pytest.mark.parametrize("written", NO_JSON)
def test_only_what_is_no_json_at_all_is_an_error(written: bytes) -> None:
    with pytest.raises(NotJSONError) as caught:
        parse_json(written)

    # The library's own error holds all that was read.
    assert caught.value.__context__ is None
    assert not caught.value.args


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.floats(),
        lambda some: st.lists(some) | st.dictionaries(st.text(), some),
    )
)
def test_whatever_python_writes_as_json_can_be_read_and_written_again(document: object) -> None:
    # Python writes NaN, halves of pairs and numbers of any size.
    encode(parse_json(json.dumps(document)))


@given(st.binary())
def test_whatever_bytes_come_nothing_else_is_raised(data: bytes) -> None:
    with suppress(NotJSONError):
        encode(parse_json(data))


@given(st.text(), st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
def test_proper_text_comes_through_unchanged(text: str, encoding: str) -> None:
    assert parse_json(json.dumps([text], ensure_ascii=False).encode(encoding)) == [text]


def test_one_message_with_half_an_emoji_leaves_the_others_readable() -> None:
    page = rb'[{"id": "m1", "body": "Tot morgen"}, {"id": "m2", "body": "Dank u \ud83d", "unread": NaN}]'

    messages = decode(page, tuple[Message, ...], "GET conversations/{id}/messages")

    assert [message.body for message in messages] == ["Tot morgen", "Dank u \ufffd"]
    assert messages[1].extra == {"unread": None}
    encode(messages)


def test_the_body_of_an_answer_is_read_leniently() -> None:
    assert Response("GET me", 200, {}, BOM + rb'{"link": "\ud83d"}').json() == {"link": "\ufffd"}
    with pytest.raises(InvalidResponseError):
        Response("GET me", 200, {}, b"<html>").json()


async def test_a_token_file_that_an_editor_gave_a_mark_is_read(tmp_path: Path) -> None:
    store = FileTokenStore(tmp_path / "tokens.json")
    await store.save("ward", Token("t1"))
    path = tmp_path / "tokens.json"
    path.write_bytes(BOM + path.read_bytes())

    loaded = await store.load("ward")

    assert loaded is not None
    assert loaded.value == "t1"


def test_a_raw_tab_in_json_lines_is_read_and_half_an_emoji_refused() -> None:
    # What is about to be sent is never replaced.
    recipients = read_json_lines('{"to": "p1", "name": "Jan\tPiet"}\n{"to": "p2", "name": "\\ud83d"}')

    assert [row.fields["name"] for row in recipients.rows] == ["Jan\tPiet"]
    assert [problem.line for problem in recipients.problems] == [2]
