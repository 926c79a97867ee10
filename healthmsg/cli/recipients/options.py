"""The options of the messages, as every command has them that reads a file of recipients."""

from pathlib import Path
from typing import Annotated, Final

import typer

RECIPIENTS_HELP: Final = (
    "CSV or JSON Lines. Columns: to, or aux_id, user_id or groupchat_id; files; key; body; and any others for"
    " the template."
)
Text = Annotated[
    str | None, typer.Option("--template", help='The text: "Beste {first_name}, …". Braces: {{ and }}.')
]
TextFile = Annotated[Path | None, typer.Option("--template-file", help="A file with the text.")]
Buttons = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="A button under each message; again for each further one. Its answers' name is derived from it,"
        ' or given: "yes=Ja, graag".',
    ),
]
Label = Annotated[
    str | None, typer.Option("--label", help="The name of the question, by which a bot knows its answers.")
]
AllowRepeats = Annotated[
    bool, typer.Option("--allow-repeats", help="Send the same message to the same recipient again.")
]
AllowEmpty = Annotated[bool, typer.Option("--allow-empty", help="Fields of the template may be empty.")]
AcceptDoubtful = Annotated[
    bool,
    typer.Option("--accept-doubtful", help="Values that may be a mistake, such as the name Null, are meant."),
]
ExactAuxIds = Annotated[
    bool, typer.Option("--exact-aux-ids", help="Diacritics in auxiliary ids are meant as they are.")
]
Encoding = Annotated[str | None, typer.Option(help="Of the files, if it is detected wrongly: cp1252, …")]
