"""Fields as other programs write them."""

import pytest

from healthmsg.cli.problems import Problems
from healthmsg.cli.recipients.template import Template, check_template, find_placeholders

COLUMNS = ("aux_id", "voornaam", "first_name")


def check(template: str) -> tuple[list[str], list[str]]:
    """Return what is refused, and what is only noted."""
    problems, doubts = Problems(), Problems()
    notes = check_template(Template.parse(template), COLUMNS, problems, doubts)
    return [str(problem) for problem in problems.in_order()], notes


@pytest.mark.parametrize(
    "written",
    [
        *("{{first_name}}", "{{ voornaam }}", "{{{{voornaam}}}}", "${{voornaam}}"),
        *("{{user.first_name | upper}}", "%voornaam%", "%(voornaam)s", "%First Name%", "«voornaam»"),
        *("« Voornaam »", "<<voornaam>>", "<voornaam>", "<%= voornaam %>", "[voornaam]", "[[Voornaam]]"),
        *("[contact:voornaam]", "$voornaam", "*|VOORNAAM|*", "#voornaam#", "@voornaam@", "__voornaam__"),
        *("[vornaam]", "{{%if voornaam%}}"),
        # What names a field anywhere.
        *("[naam]", "{{achternaam}}", "%datum%", "<name>", "[Name]", "$lastname", "[aanhef]"),
    ],
)
def test_what_looks_like_a_column_is_refused_in_a_template(written: str) -> None:
    refused, notes = check(f"Beste {written}, tot ziens")

    assert len(refused) == 1
    assert written in refused[0]
    assert "is written {" in refused[0]
    assert notes == []


@pytest.mark.parametrize(
    "written", ["{{dit}}", "[let op]", "<br>", "«Bonjour»", "%x%", "$home", "[1]", r"\n"]
)
def test_what_may_be_meant_is_noted(written: str) -> None:
    refused, (note,) = check(f"Beste {{voornaam}}, {written}")

    assert refused == []
    assert written.replace("{{", "{").replace("}}", "}") in note


@pytest.mark.parametrize(
    "text",
    [
        *("tussen 10% en 20%", "€ 5 of $5", "me@x.nl en jij@y.nl", "a < b en c > d"),
        *("{voornaam} [mention=@all]", "[mention=7f3c]", "https://x.nl/?a=%20b%20", "#1 van de lijst"),
        *("100% {voornaam}%", "[{voornaam}]", "3 * 4", r"C:\nu"),
    ],
)
def test_what_is_no_field_is_sent_without_a_word(text: str) -> None:
    assert check(text) == ([], [])


def test_a_text_of_a_column_is_looked_at_by_the_exact_names_of_columns() -> None:
    def columns_in(text: str) -> list[str | None]:
        return [found.column for found in find_placeholders(text, COLUMNS)]

    assert columns_in("Beste {voornaam} en [First Name]") == ["voornaam", "first_name"]
    assert columns_in("Beste [vornaam], {dit}") == [None, None]
    assert columns_in("Beste Jan") == []


def test_the_text_of_a_template_is_looked_at_as_that_of_a_cell_is() -> None:
    assert check("Beste {voornaam}, bel O&#39;Brien")[0][0].startswith("the template has a letter as HTML")
    assert check("Beste {voornaam}, Zo\ufffd")[0][0].startswith("the template has a letter that was lost")
