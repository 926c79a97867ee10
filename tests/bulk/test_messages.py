"""What goes into bulk sending, and what comes out."""

import pytest

from healthmsg import Client, Environment, Outcome, Outgoing, SendResult, Upload, UploadResult

HANDLE = Client("token", environment=Environment("here", "http://127.0.0.1:1")).conversations("c1")


@pytest.mark.parametrize(
    ("to", "shown"),
    [
        ("conversations/c1", "'conversations/c1'"),
        ("groupchats/g1", "'groupchats/g1'"),
        ("users/u1", "'users/u1'"),
        (HANDLE, "<Chat conversations/c1>"),
        ("aux/conversations/s3cret", "'aux/conversations/{aux_id}'"),
        ("aux/groupchats/s3cret", "'aux/groupchats/{aux_id}'"),
        ("s3cret", "'…'"),
        ("conversations/", "'…'"),
        (None, "None"),
        (7, "'…'"),
    ],
)
def test_repr_shows_for_whom_a_message_is_unless_that_may_name_a_patient(to: str, shown: str) -> None:
    assert repr(Outgoing(to, "s3cret", key="s3cret")) == f"Outgoing(to={shown})"
    assert f"to={shown}, outcome=" in repr(SendResult("s3cret", to, Outcome.NOT_SENT))
    assert repr(Upload(to, ["s3cret"])) == f"Upload(to={shown})"
    assert f"to={shown}, outcome=" in repr(UploadResult(to, ["s3cret"], Outcome.NOT_SENT))
