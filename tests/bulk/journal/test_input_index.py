"""What a run was given: the keys, and whose results are still to come."""

from collections import Counter

import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from healthmsg.bulk.journal import InputIndex, JournalFile, fingerprint_of
from healthmsg.bulk.journal.input_index import key_of
from healthmsg.errors import JournalError

CHAT = "aux/conversations/patient 7"
A, B = b"a" * 32, b"b" * 32


def own(*keys: str) -> list[tuple[int, str | None, bytes]]:
    return [(number, key, A) for number, key in enumerate(keys)]


def test_the_same_messages_have_the_same_keys_and_each_repetition_its_own() -> None:
    with InputIndex() as first, InputIndex() as second:
        given = [(0, None, A), (1, None, B), (2, None, A), (3, None, A)]
        keys = first.add(given)
        assert keys == [key_of(A, 0), key_of(B, 0), key_of(A, 1), key_of(A, 2)]
        assert [second.add([one])[0] for one in given] == keys


def test_every_part_of_a_message_and_the_salt_make_another_one() -> None:
    file = JournalFile("/a.pdf", "a.pdf", 4)
    made = {
        fingerprint_of(CHAT, "Dag", (), None, salt=b"salt"),
        fingerprint_of(CHAT, "Dag", (file,), None, salt=b"salt"),
        fingerprint_of("conversations/c1", "Dag", (), None, salt=b"salt"),
        fingerprint_of(CHAT, "Dag", (), None, salt=b"other"),
    }
    assert len(made) == 4


def test_a_key_is_accepted_once_whether_it_comes_in_the_same_batch_or_later() -> None:
    with InputIndex() as given:
        assert given.add(own("a", "b", "a")) == ["a", "b", None]
        assert given.add(own("c", "b")) == ["c", None]


def test_a_derived_key_that_a_message_has_as_its_own_is_not_given_to_another_nor_shifts_the_rest() -> None:
    first, second, third = (key_of(A, nth) for nth in range(3))
    with InputIndex() as given:
        assert given.add([(0, first, B), (1, None, A), (2, None, A)]) == [first, None, second]
        assert given.add([(3, third, B)]) == [third]
        assert given.add([(4, None, A)]) == [None]


@pytest.mark.slow
@over(
    st.lists(
        st.lists(st.tuples(st.sampled_from([None, "x", key_of(A, 0), key_of(A, 1)]), st.sampled_from([A, B])))
    )
)
def test_keys_do_not_depend_on_how_many_come_at_once(batches: list[list[tuple[str | None, bytes]]]) -> None:
    taken, equal = set[str](), Counter[bytes]()

    def expected(key: str | None, fingerprint: bytes) -> str | None:
        if key is None:
            key = key_of(fingerprint, equal[fingerprint])
            equal[fingerprint] += 1
        is_new = key not in taken
        taken.add(key)
        return key if is_new else None

    number = 0
    with InputIndex() as given:
        for batch in batches:
            listed = [(number + place, *one) for place, one in enumerate(batch)]
            number += len(batch)
            assert given.add(listed) == [expected(*one) for one in batch]


def test_what_was_given_is_pending_until_it_is_taken() -> None:
    with InputIndex() as given:
        given.add(own("a", "b", "c"))
        assert given.pending_after("", 2) == [(0, "a"), (1, "b")]
        assert given.pending_after("b", 2) == [(2, "c")]
        assert given.is_pending("b")

        assert (given.report("b"), given.report("b"), given.report("z")) == (1, 1, None)

        assert [given.is_pending(key) for key in "abz"] == [True, False, False]
        assert [given.knows(key) for key in "abz"] == [True, True, False]
        assert given.pending_after("", 9) == [(0, "a"), (2, "c")]
        assert [given.is_pending(key) for key in "abz"] == [True, False, False]
        assert given.add(own("b")) == [None]


def test_numbers_looked_up_ahead_are_the_same() -> None:
    with InputIndex() as given:
        given.add(own("a", "b", "c"))
        given.prefetch(["b", "z"])
        assert [given.report(key) for key in "abz"] == [0, 1, None]
        assert given.pending_after("", 9) == [(2, "c")]


def test_thousands_are_noted_and_none_is_forgotten() -> None:
    keys = [f"k{number:05}" for number in range(3_000)]
    with InputIndex() as given:
        given.add(own(*keys))
        for at in range(0, len(keys), 64):
            given.prefetch(keys[at : at + 64])  # of which the second half never comes
            for key in keys[at : at + 32]:
                assert given.report(key) == int(key[1:])
        awaited = [key for at in range(0, len(keys), 64) for key in keys[at + 32 : at + 64]]
        assert [key for _, key in given.pending_after("", 9_999)] == awaited


def test_a_full_disk_is_said_with_what_to_do_and_without_what_was_written() -> None:
    with InputIndex() as given:
        given._ask("PRAGMA max_page_count = 20")
        with pytest.raises(JournalError, match=r"SQLITE_FULL.*start again") as caught:
            given.add(own(*(f"c4nary{number}" for number in range(9_000))))
    assert "c4nary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_full_disk_is_no_error_of_a_message_that_was_delivered() -> None:
    keys = [f"k{number:05}" for number in range(3_000)]
    with InputIndex() as given:
        given.add(own(*keys))
        given._ask("PRAGMA query_only = ON")  # as if nothing could be written any more
        assert [given.report(key) for key in keys] == list(range(3_000))
        with pytest.raises(JournalError, match="start again"):
            given.prefetch(keys[:1])
