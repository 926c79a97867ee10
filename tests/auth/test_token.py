import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest

from healthmsg import Token
from healthmsg.errors import ConfigurationError
from tests.auth.token_service import NOON, REFRESH_TOKEN, VALUE, assert_tells_no_secret, expiring

BAD_TEXTS = [
    "",
    " ",
    f"{VALUE} x",
    f"{VALUE}\n",
    f"\t{VALUE}",
    f"{VALUE}\x7f",
    f"{VALUE}é",
    None,
    7,
    VALUE.encode(),
]


@pytest.mark.parametrize("value", BAD_TEXTS)
def test_a_value_that_cannot_stand_in_a_header_is_refused_without_repeating_it(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Token(value)
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize("value", ["", f"{REFRESH_TOKEN}\n", f"{REFRESH_TOKEN}é", 7])
def test_a_refresh_token_that_cannot_be_one_is_refused_without_repeating_it(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Token(VALUE, refresh_token=value)
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize("moment", [datetime(2026, 3, 1), "2026-03-01T00:00:00Z", 7])  # noqa: DTZ001 - naive is the point
def test_times_without_a_time_zone_are_refused(moment: datetime) -> None:
    with pytest.raises(ConfigurationError, match="time zone"):
        Token(VALUE, created_at=moment)
    with pytest.raises(ConfigurationError, match="time zone"):
        Token(VALUE, expires_at=moment)


def test_times_of_another_zone_are_kept_in_utc() -> None:
    token = Token(VALUE, created_at=NOON.astimezone(timezone(timedelta(hours=2))))
    assert token.created_at == NOON
    assert token.created_at.tzinfo is UTC


def test_a_new_token_was_made_now_and_its_end_is_unknown() -> None:
    token = Token(VALUE)
    assert datetime.now(UTC) - token.created_at < timedelta(minutes=1)
    assert token.expires_at is None
    assert not token.is_expired(datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize("scopes", ["read write", ("read", ""), (None,)])
def test_scopes_must_be_separate_texts(scopes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="scopes"):
        Token(VALUE, scopes)


def test_a_token_expires_at_its_end_or_a_leeway_before() -> None:
    token = expiring(100)
    assert not token.is_expired(NOON + timedelta(seconds=99))
    assert token.is_expired(NOON + timedelta(seconds=100))
    assert token.is_expired(NOON + timedelta(seconds=70), timedelta(seconds=30))
    assert not token.is_expired(NOON + timedelta(seconds=69), timedelta(seconds=30))


def test_repr_shows_no_secret() -> None:
    shown = repr(Token(VALUE, ("read",), refresh_token=REFRESH_TOKEN))
    assert VALUE not in shown
    assert REFRESH_TOKEN not in shown
    assert "read" in shown


def test_a_token_survives_pickle_and_copy() -> None:
    token = expiring()
    assert pickle.loads(pickle.dumps(token)) == token  # noqa: S301 - our own bytes
    assert copy.deepcopy(token) == token
