"""The recipients that the demo writes to."""

import csv
from importlib.resources import files

from attrs import field, frozen


@frozen
class Recipient:
    """A made-up patient with an appointment."""

    first_name: str = field(repr=False)
    last_name: str = field(repr=False)
    aux_id: str = field(repr=False)
    """The id that the practice's own system has for this patient, or nothing."""
    appointment: str = field(repr=False)

    @property
    def message(self) -> str:
        """What is written to this patient."""
        return (
            f"Beste {self.first_name} {self.last_name}, uw afspraak is op {self.appointment}."
            " Kunt u niet? Laat het ons hier weten. Huisartsenpraktijk De Linde"
        )


def read_recipients() -> list[Recipient]:
    """Read the CSV that ships with the package."""
    text = files("healthmsg.cli").joinpath("demo_recipients.csv").read_text(encoding="utf-8")
    return [Recipient(**row) for row in csv.DictReader(text.splitlines())]
