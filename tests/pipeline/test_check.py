import copy
import math
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from healthmsg import errors
from healthmsg.errors import Outcome, StatusError
from healthmsg.pipeline.check import CheckStep, status_error
from healthmsg.pipeline.request import Request, Response
from tests.servers import CANARIES, METHODS, a_request, assert_error_tells_nothing, response


async def checked(answer: Response, request: Request | None = None) -> Response:
    async def proceed(_: Request) -> Response:
        return answer

    return await CheckStep()(request or a_request(), proceed)


async def error_of(answer: Response, request: Request | None = None) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await checked(answer, request)
    return caught.value


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.UnauthorizedError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (405, errors.MethodNotAllowedError),
        (412, errors.PreconditionFailedError),
        (418, StatusError),
        (429, errors.RateLimitedError),
        (500, errors.InternalServerError),
        (502, errors.BadGatewayError),
        (503, errors.ServiceUnavailableError),
        (504, errors.ServerError),
        (599, errors.ServerError),
        (799, errors.ServerError),
    ],
)
async def test_each_code_has_its_error_and_says_what_is_known(
    method: str, status: int, kind: type[StatusError]
) -> None:
    error = await error_of(response(status), a_request(method))
    assert type(error) is kind
    assert error.status == status
    unknown = status >= 500 and method != "GET"
    assert error.outcome is (Outcome.UNKNOWN if unknown else Outcome.NOT_SENT)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299, 304])
async def test_success_is_passed_on(status: int) -> None:
    answer = response(status)
    assert await checked(answer) is answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_success_only_where_a_link_is_expected(status: int) -> None:
    request = a_request("GET")
    assert type(await error_of(response(status), request)) is StatusError
    request.answers_with_link = True
    assert (await checked(response(status), request)).status == status


@pytest.mark.parametrize("status", [300, 305, 306, 404])
async def test_where_a_link_is_expected_other_codes_are_errors(status: int) -> None:
    request = a_request("GET")
    request.answers_with_link = True
    await error_of(response(status), request)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"error": "closed", "message": "The chat is closed"}', "closed", "The chat is closed"),
        (b'{"error": "closed"}', "closed", "closed"),
        (b'{"message": "The chat is closed"}', "", "The chat is closed"),
        (b'{"error": {"code": 7}, "message": ["x"]}', "", ""),
        (b'{"error": null, "message": 7}', "", ""),
        (b"{}", "", ""),
        (b"", "", ""),
        (b"<h1>Bad gateway</h1>", "", "<h1>Bad gateway</h1>"),
        (b'"The chat is closed"', "", '"The chat is closed"'),
        (b'["closed"]', "", '["closed"]'),
        (b"\xff\xfe caf\xe9", "", "\ufffd\ufffd caf\ufffd"),
        (b"[" * 100_000, "", "[" * 300),
        ("é".encode() * 1000, "", "é" * 300),
        (orjson.dumps({"error": "e" * 301, "message": "m" * 301}), "e" * 300, "m" * 300),
    ],
)
async def test_the_services_words_are_kept_whatever_their_shape(body: bytes, code: str, message: str) -> None:
    error = await error_of(response(400, body))
    assert (error.server_code, error.server_message) == (code, message)


GATEWAYS_WORDS = {
    "transactionId": "Id-6b1c5d5f8e2f0a1b2c3d4e5f-0:1",
    "status": "401",
    "name": "Unauthorized",
    "message": "Invalid access token",
    "info": "https://developer.kpn.com/errors#401",
}


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
async def test_an_error_of_the_gateway_keeps_its_transaction_name_and_info(before: bytes) -> None:
    error = await error_of(response(503, before + orjson.dumps(GATEWAYS_WORDS)))

    assert error.transaction_id == GATEWAYS_WORDS["transactionId"]
    assert error.server_code == "Unauthorized"
    assert error.server_message == "Invalid access token"
    assert error.server_info == "https://developer.kpn.com/errors#401"
    assert "answered 503 Service Unavailable (transaction Id-6b1c5d5f8e2f0a1b2c3d4e5f-0:1)." in str(error)
    assert "Invalid" not in str(error)
    again = copy.copy(pickle.loads(pickle.dumps(error)))  # noqa: S301 - our own
    assert (again.transaction_id, again.server_info) == (error.transaction_id, error.server_info)


@pytest.mark.parametrize(
    "transaction", [None, 7, "", ["x"], "a b", "Jansen\n", "é", "\u202e", "x" * 101, {"id": "x"}]
)
async def test_a_transaction_that_could_be_a_text_is_not_in_the_error(transaction: object) -> None:
    error = await error_of(response(500, orjson.dumps({"transactionId": transaction, "message": "m"})))

    assert error.transaction_id == ""
    assert "transaction" not in str(error)


async def test_the_services_own_code_comes_before_the_gateways_name() -> None:
    error = await error_of(response(400, b'{"error": "closed", "name": "BadRequest", "info": 7}'))

    assert (error.server_code, error.server_info) == ("closed", "")


async def test_of_a_large_error_only_the_beginning_is_read() -> None:
    error = await error_of(response(500, b'{"message": "m", "x": "' + b"x" * 300_000 + b'"}'))

    assert error.server_message.startswith('{"message"')
    assert len(error.server_message) == 300


async def test_the_services_words_appear_nowhere_else() -> None:
    words = orjson.dumps({"error": CANARIES[0], "message": " ".join(CANARIES)})
    error = await error_of(response(400, words))
    assert error.server_code == CANARIES[0]
    assert_error_tells_nothing(error)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("17", 17),
        ("9" * 400, math.inf),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("", None),
        ("soon", None),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0),
        ("Mon, 01 Jan 2024 00:00:00 +9999999999999999999", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 99999999999999999999:00:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_the_wait_asked_for_is_read(status: int, value: str, seconds: float | None) -> None:
    assert (await error_of(response(status, Retry_After=value))).retry_after == seconds


@pytest.mark.parametrize("zone", ["GMT", "-0000", "+0200"])
async def test_a_date_to_wait_for_is_read_in_its_zone(zone: str) -> None:
    hours = 2 if zone == "+0200" else 0
    moment = datetime.now(UTC) + timedelta(seconds=100, hours=hours)
    value = format_datetime(moment).replace("+0000", zone)
    error = await error_of(response(429, Retry_After=value))
    assert error.retry_after == pytest.approx(100, abs=30)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("asked", "seconds"), [("00:02:00", 90), ("00:00:10", 0), ("soon", None)])
async def test_a_date_to_wait_for_is_read_by_the_services_own_clock(
    status: int, asked: str, seconds: float | None
) -> None:
    day = "Sat, 01 Jan 2000"  # this machine's clock says otherwise
    answer = response(status, Retry_After=f"{day} {asked} GMT", Date=f"{day} 00:00:30 GMT")
    assert (await error_of(answer)).retry_after == seconds


async def test_where_the_services_clock_cannot_be_read_this_machines_counts() -> None:
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=100))
    error = await error_of(response(429, Retry_After=value, Date="noon"))
    assert error.retry_after == pytest.approx(100, abs=30)


@given(
    value=st.text(),
    date=st.text(),
    body=st.binary(),
    status=st.integers(300, 999).filter(lambda code: code != 304),
)
@example(value="1 Jan 1 00:00:00 +2300", date="31 Dec 9999 23:59:59 -2300", body=b"nan", status=429)
@example(value="31 Dec 9999 23:59:59 -2300", date="1 Jan 1 00:00:00 +2300", body=b"", status=503)
def test_no_answer_is_so_strange_that_the_error_cannot_be_made(
    value: str, date: str, body: bytes, status: int
) -> None:
    error = status_error(response(status, body, Retry_After=value, Date=date), a_request())
    assert error.retry_after is None or error.retry_after >= 0
    assert len(error.server_message) <= 300


@pytest.mark.parametrize(
    ("used", "limit", "is_used_up"),
    [("100", "100", True), ("101", "100", True), ("99", "100", False), ("x", "1", False), ("", "", False)],
)
async def test_a_429_says_whether_it_is_the_users_quota(used: str, limit: str, *, is_used_up: bool) -> None:
    answer = response(429, quota_used=used, quota_limit=limit)
    assert isinstance(await error_of(answer), errors.QuotaExceededError) is is_used_up
