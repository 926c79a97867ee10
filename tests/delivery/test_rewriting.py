import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthmsg.delivery.rewriting import Rewriting, Rewritings, explain, explain_files

LETTER = (
    "Beste Zoë, uw afspraak is op 3\u202fmaart \u2013 kom “nuchter” 👍"
    " en kijk op https://zorg.example/a?b=1&c=2 <b>op tijd</b>."
)


@pytest.mark.parametrize(
    ("sent", "kept", "kinds"),
    [
        ('Jansen & Zn\'s "bon"', "Jansen &amp; Zn&#39;s &quot;bon&quot;", {Rewriting.ENTITIES}),
        ("Een &eacute; blijft", "Een é blijft", {Rewriting.ENTITIES}),
        ("Goed zo 👍!", "Goed zo :thumbsup:!", {Rewriting.SYMBOLS}),
        ("Goed zo 👍!", "Goed zo ?!", {Rewriting.SYMBOLS}),
        ("Goed zo 👍!", "Goed zo \ufffd\ufffd!", {Rewriting.SYMBOLS}),
        ("Goed zo 👍!", "Goed zo !", {Rewriting.SYMBOLS}),
        ("Goed \U0001d433\U0001d428!", "Goed ??!", {Rewriting.SYMBOLS}),
        ("Bel ons ☎️ snel", "Bel ons ☎ snel", {Rewriting.INVISIBLE}),
        ("gezin 👨\u200d👩\u200d👧 hier", "gezin 👨👩👧 hier", {Rewriting.INVISIBLE}),
        ("de ﬁets ½ ①", "de fiets 1\u20442 1", {Rewriting.COMPATIBILITY}),
        ("“nuchter” \u2013 zo\u2019n", '"nuchter" - zo\'n', {Rewriting.PUNCTUATION}),
        ("<b>Let op</b>: morgen", "Let op: morgen", {Rewriting.TAGS}),
        ("Als 3 < 4 en 5 > 2 dan", "Als 3 2 dan", {Rewriting.TAGS}),
        ("Kijk op https://a.example/x nu", "Kijk op <https://a.example/x> nu", {Rewriting.LINKS}),
        (
            "Kijk op https://a.example/x nu",
            "Kijk op https://safe.example/?url=https%3A%2F%2Fa.example%2Fx nu",
            {Rewriting.LINKS},
        ),
        (
            "Kijk op https://a.example/x nu",
            "Kijk op [https://a.example/x](https://a.example/x) nu",
            {Rewriting.LINKS},
        ),
        ("Een lange brief die nog verder gaat", "Een lange brief die", {Rewriting.CUT}),
        ("Een lange brief die nog verder gaat", "Een lange brief…", {Rewriting.CUT}),
        ("Een lange brief 👍 die verder gaat", "Een lange brief", {Rewriting.CUT}),
        (" Hallo\r\n daar", "Hallo daar", set()),
        ("Cafe\u0301", "Café", set()),
    ],
)
def test_a_text_in_another_form_is_explained_by_what_was_done_to_it(
    sent: str, kept: str, kinds: set[Rewriting]
) -> None:
    assert explain(sent, kept) == frozenset(kinds)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Uw afspraak is op 3 maart", "Uw afspraak is op 4 maart"),
        ("Goed zo 👍!", "Goed zo 👎!"),
        ("Kijk op https://a.example/1 nu", "Kijk op https://a.example/2 nu"),
        ("Hallo", "Tot morgen"),
        ("Uw uitslag is goed", ""),
        ("kort", "ko"),
    ],
)
def test_another_text_is_not_explained(sent: str, kept: str) -> None:
    assert explain(sent, kept) is None


@pytest.mark.slow
@given(st.text(max_size=60))
def test_every_text_is_itself(text: str) -> None:
    assert explain(text, text) == frozenset()


@pytest.mark.parametrize(
    ("sent", "kept", "kinds"),
    [
        ([("a.pdf", 3)], [("a.pdf", 3)], set()),
        ([("a.pdf", 3)], [(None, None)], set()),
        ([("cafe\u0301.pdf", 3)], [("café.pdf", 3)], set()),
        ([("foto (1).png", 3)], [("foto_1_.png", 3)], {Rewriting.FILE_NAMES}),
        ([("Röntgen.png", 3)], [("rontgen.png", 3)], {Rewriting.FILE_NAMES}),
        ([("a.png", 3)], [("a.png", 2)], {Rewriting.FILE_SIZES}),
        ([("a b.png", 3)], [("a-b.png", 2)], {Rewriting.FILE_NAMES, Rewriting.FILE_SIZES}),
        ([("a.png", 3)], [("b.png", 3)], None),
        ([("a.png", 3)], [], None),
        ([("a.png", 3), ("a.png", 3)], [("a.png", 3), ("b.png", 3)], None),
    ],
)
def test_files_in_another_form_are_explained(
    sent: list[tuple[str, int]], kept: list[tuple[str | None, int | None]], kinds: set[Rewriting] | None
) -> None:
    assert explain_files(sent, kept) == (None if kinds is None else frozenset(kinds))


# --- what is learnt


def test_another_form_counts_as_the_text_only_once_it_was_learnt() -> None:
    rewritings = Rewritings()
    assert not rewritings.is_surely("A & B", "A &amp; B", (), ())
    assert rewritings.learn("C & D", "C &amp; D", (), ())
    assert rewritings.is_surely("A & B", "A &amp; B", (), ())
    assert not rewritings.is_surely("<b>A</b> & B", "A &amp; B", (), ())


def test_a_text_is_cut_at_a_length_that_was_seen() -> None:
    rewritings = Rewritings()
    assert rewritings.learn("Een lange brief die nog verder gaat", "Een lange brief die", (), ())
    assert rewritings.is_surely("Nog een brief van zo'n lengte", "Nog een brief van z", (), ())
    assert not rewritings.is_surely("Nog een brief van zo'n lengte", "Nog een brief van", (), ())


def test_emoji_alone_are_not_recognised_by_what_replaced_them() -> None:
    rewritings = Rewritings()
    assert rewritings.learn("Ja 👍", "Ja ?", (), ())
    assert rewritings.is_surely("Nee 👎", "Nee ?", (), ())
    assert not rewritings.is_surely("👎", "?", (), ())


def test_any_text_may_be_ours_until_known_ones_are_recognised() -> None:
    rewritings = Rewritings()
    other = "Dit is een heel ander bericht van iemand"
    assert rewritings.may_be(LETTER, other, (), ())
    rewritings.learn("Hallo", "Hallo", (), ())
    assert not rewritings.may_be(LETTER, other, (), ())
    assert not rewritings.learn("Hallo", "XQZ", (), ())
    assert rewritings.may_be(LETTER, other, (), ())


def test_a_text_of_which_only_a_hash_is_left_teaches_whether_texts_are_kept() -> None:
    rewritings = Rewritings()
    rewritings.learn_nothing_but(is_same=True)
    assert (rewritings.is_recognisable, rewritings.is_strange) == (True, False)
    rewritings.learn_nothing_but(is_same=False)
    assert rewritings.is_strange


@pytest.mark.parametrize(
    "kept",
    [
        LETTER[:40],
        LETTER.encode("latin-1", "replace").decode("latin-1"),
        LETTER.encode("ascii", "ignore").decode(),
        LETTER.upper(),
        "????? ??",
        "",
    ],
)
def test_what_resembles_the_text_may_be_it(kept: str) -> None:
    rewritings = Rewritings()
    rewritings.learn("Hallo", "Hallo", (), ())
    assert rewritings.may_be(LETTER, kept, (), ())


def test_a_short_text_may_be_anything() -> None:
    rewritings = Rewritings()
    rewritings.learn("Hallo", "Hallo", (), ())
    assert rewritings.may_be("Tot zo", "Een ander bericht dat lang genoeg is om te kennen", (), ())


@pytest.mark.parametrize(
    ("kept", "files", "may_be"),
    [
        ("", [("b.png", 9)], True),
        ("", [], True),
        ("Iets heel anders geschreven", [], False),
        ("", [("b.png", 9), ("c.png", 9)], False),
    ],
)
def test_an_upload_may_be_what_has_as_many_files_or_nothing_to_read(
    kept: str, files: list[tuple[str, int]], may_be: bool
) -> None:
    rewritings = Rewritings()
    rewritings.learn("Hallo", "Hallo", (), ())
    sent = "Bijgaand de brief van uw behandelend arts"
    assert rewritings.may_be(sent, kept, [("a.png", 3)], files) is may_be


def test_long_runs_of_emoji_are_compared_in_no_time() -> None:
    assert explain("👍?" * 2000 + "x", "??" * 2000 + "y") is None


def test_a_text_that_is_much_longer_than_known_ones_may_be_kept_as_anything() -> None:
    rewritings = Rewritings()
    rewritings.learn("Hallo", "Hallo", (), ())
    kept, letter = "Open de app om dit bericht te lezen.", "Een lange brief van uw arts. " * 20
    assert rewritings.may_be(letter, kept, (), ())
    rewritings.learn(letter, letter, (), ())
    assert not rewritings.may_be(letter, kept, (), ())
