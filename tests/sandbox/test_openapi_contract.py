"""The helper that holds calls against the OpenAPI file finds what is wrong, and nothing else."""

from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import FormData, MultipartWriter

from tests.openapi_contract import Contract

CONTRACT = Contract()
MESSAGES = "/v1/aux/conversations/ward%203%2Fe/messages"
FILES = "/v1/conversations/c1/attachments"
JSON_TYPE = "application/json; charset=utf-8"
API_HEADERS = {"sunset": "n/a", "quota-interval": "1", "Quota-Time-Unit": "day"}


def form(*parts: tuple[str, str, str | None, str | None]) -> tuple[str, bytes]:
    """Write a form of (name, content, file name, type)."""
    rows = []
    for name, content, file_name, mime_type in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{file_name}"' if file_name else "")
        kind = f"Content-Type: {mime_type}\r\n" if mime_type else ""
        rows.append(f"--b\r\nContent-Disposition: {disposition}\r\n{kind}\r\n{content}\r\n")
    return "multipart/form-data; boundary=b", ("".join(rows) + "--b--\r\n").encode()


A_FILE = ("files", "%PDF", "uitslag.pdf", "application/pdf")


@pytest.mark.parametrize(
    ("method", "path", "query", "content_type", "body"),
    [
        ("GET", "/v1/me", "", None, b""),
        ("GET", "/v1/me/contacts", "page=0&amount=20", None, b""),
        ("GET", MESSAGES, "page=3", None, b""),
        ("GET", "/v1/groupchats/g1/attachments/a%20b", "headers=false", None, b""),
        ("GET", "/v1/groupchats/g1/pdf", "start_date=2026-01-02T03%3A04%3A05Z%2B00%3A00", None, b""),
        (
            "POST",
            "/v1/users/invite/coworker",
            "",
            JSON_TYPE,
            b'{"email":"a","first_name":"b","last_name":"c"}',
        ),
        ("POST", MESSAGES, "", JSON_TYPE, b'{"body": "Hallo"}'),
        ("DELETE", "/v1/groupchats/g1", "", "application/json", b'{"remove": true}'),
        ("POST", FILES, "", *form(("message", "Hallo", None, None), A_FILE, A_FILE)),
        ("POST", "/v1/aux/groupchats/g/avatar", "", *form(("avatar", "x", "a.png", "image/png"))),
    ],
)
def test_a_request_as_described_passes(
    method: str, path: str, query: str, content_type: str | None, body: bytes
) -> None:
    CONTRACT.check_request(method, path, query, content_type, body)


@pytest.mark.parametrize(
    ("method", "path", "query", "content_type", "body", "problem"),
    [
        ("GET", "/me", "", None, b"", "outside /v1"),
        ("GET", "/v1/nowhere", "", None, b"", "no path of the file fits"),
        ("GET", "/v1/conversations//messages", "", None, b"", "no path of the file fits"),
        ("GET", "/v1/conversations/a/b/messages", "", None, b"", "no path of the file fits"),
        ("PATCH", "/v1/me", "", None, b"", "/me knows no PATCH"),
        ("PUT", "/v1/conversations/c1", "", JSON_TYPE, b'{"subject":"x"}', "knows no PUT"),
        ("GET", "/v1/me", "page=0", None, b"", "takes no query parameter page"),
        ("GET", "/v1/me/contacts", "page=-1", None, b"", "page of GET /me/contacts: .* minimum"),
        ("GET", "/v1/me/contacts", "amount=many", None, b"", "not of type 'integer'"),
        ("GET", "/v1/me/contacts", "page=1&page=2", None, b"", "there twice"),
        (
            "GET",
            "/v1/conversations/c1/pdf",
            "start_date=yesterday",
            None,
            b"",
            "start_date of .* does not match",
        ),
        ("GET", "/v1/conversations/c1/pdf", "headers=no", None, b"", "not of type 'boolean'"),
        ("GET", "/v1/me", "", None, b"{}", "takes no body"),
        ("POST", MESSAGES, "", None, b"", "a body without a type instead of"),
        ("POST", MESSAGES, "", "text/plain", b"Hallo", "text/plain instead of"),
        ("POST", MESSAGES, "", JSON_TYPE, b"{", "is no JSON"),
        ("POST", MESSAGES, "", JSON_TYPE, b"[]", "not of type 'object'"),
        ("POST", MESSAGES, "", JSON_TYPE, b"{}", "'body' is a required property"),
        ("POST", MESSAGES, "", JSON_TYPE, b'{"body": 7}', r"\$\.body: 7 is not of type 'string'"),
        ("POST", MESSAGES, "", JSON_TYPE, b'{"body": "x", "text": "y"}', "'text' was unexpected"),
        ("POST", MESSAGES, "", JSON_TYPE, b'{"body": "x", "question": {"options": []}}', "question"),
        ("POST", FILES, "", JSON_TYPE, b"{}", "application/json instead of"),
        ("POST", FILES, "", "multipart/form-data; boundary=b", b"nothing", "the form is broken"),
        ("POST", FILES, "", *form(("message", "Hallo", None, None)), "'files' is a required property"),
        ("POST", FILES, "", *form(A_FILE, ("file", "x", "a", "text/plain")), "takes no part file"),
        ("POST", FILES, "", *form(("message", "a", None, None), ("message", "b", None, None)), "there twice"),
        ("POST", FILES, "", *form(("files", "x", None, "text/plain")), "has no name"),
        ("POST", FILES, "", *form(("files", "x", "a.txt", None)), "has no type"),
        ("POST", FILES, "", *form(("files", "", "a.txt", "text/plain")), "is empty"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    *, method: str, path: str, query: str, content_type: str | None, body: bytes, problem: str
) -> None:
    with pytest.raises(AssertionError, match=problem):
        CONTRACT.check_request(method, path, query, content_type, body)


async def test_a_form_as_aiohttp_writes_it_passes() -> None:
    data = FormData()
    data.add_field("message", "Bijlagen é")
    data.add_field("files", b"\x00\r\n\xff--", filename="é.png", content_type="image/png")
    writer = data()
    assert isinstance(writer, MultipartWriter)

    CONTRACT.check_request("POST", FILES, "", writer.content_type, await writer.as_bytes())


@pytest.mark.parametrize(
    ("method", "path", "status", "headers", "body"),
    [
        ("GET", "/v1/me", 200, {"content-type": JSON_TYPE, **API_HEADERS}, b'{"id":"u1","new":[1]}'),
        ("GET", MESSAGES, 200, {"Content-Type": JSON_TYPE}, b'[{"id":"m1","payload":null}]'),
        ("GET", MESSAGES, 429, {"Content-Type": JSON_TYPE, "retry-after": "1"}, b"{}"),
        ("DELETE", "/v1/groupchats/g1", 204, API_HEADERS, b""),
        (
            "GET",
            f"{FILES}/a1",
            302,
            {"Content-Type": JSON_TYPE, "Location": "http://x/f", "Set-Cookie": "a=b"},
            b'{"link":"http://x/f"}',
        ),
    ],
)
def test_an_answer_as_described_passes(
    method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    CONTRACT.check_response(method, path, status, headers, body)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"path": "/v1/nowhere"}, "no path of the file fits"),
        ({"method": "POST"}, "knows no POST"),
        ({"status": 500}, r"GET /me answered 500, which is none of \['200'"),
        ({"status": 404}, "answered 404"),
        ({"headers": {}}, "is of no type"),
        ({"headers": {"Content-Type": "text/html"}}, "is text/html"),
        (
            {"headers": {"Content-Type": JSON_TYPE, "Quota-Used": "many"}},
            "quota-used of .* not of type 'integer'",
        ),
        ({"body": b""}, "is no JSON"),
        ({"body": b'{"first_name":"x"}'}, "'id' is a required property"),
        ({"body": b'{"id":"u1","active":1}'}, r"\$\.active: 1 is not of type 'boolean'"),
        ({"method": "DELETE", "path": "/v1/groupchats/g1", "status": 204}, "has a body"),
        ({"path": f"{FILES}/a1", "status": 302, "body": b'{"link":"http://x"}'}, "has no Location"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(change: Mapping[str, Any], problem: str) -> None:
    answer = {
        "method": "GET",
        "path": "/v1/me",
        "status": 200,
        "headers": {"Content-Type": JSON_TYPE},
        "body": b'{"id":"u1"}',
        **change,
    }

    with pytest.raises(AssertionError, match=problem):
        CONTRACT.check_response(
            answer["method"], answer["path"], answer["status"], answer["headers"], answer["body"]
        )
