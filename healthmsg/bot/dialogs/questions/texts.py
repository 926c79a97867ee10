"""Every sentence that the bot itself says."""

from attrs import frozen


@frozen
class Texts:
    """Every sentence that the bot itself says."""

    stopped: str = "Gestopt."
    no_answer: str = "Er kwam geen antwoord meer. Gestopt."
    too_many_tries: str = "Dat lukt niet. Gestopt."
    nothing_to_go_back_to: str = "Dit is de eerste vraag."
    answered_already: str = "Deze vraag is al beantwoord of gesloten."
    reminder: str = "Herinnering:"

    @classmethod
    def dutch(cls) -> "Texts":
        """Return the Dutch ones."""
        return cls()
