"""What a dialog raises where its author's code waits, for the author to catch."""


class DialogExit(Exception):  # noqa: N818 - the user's decision or silence is no error
    """The question that the dialog waits at has no answer. Uncaught, it ends the dialog."""


class Stopped(DialogExit):
    """The user typed a stop word."""


class NoAnswer(DialogExit):
    """The question's time has passed."""


class TooManyTries(DialogExit):
    """The user has given as many answers as `tries` allows, and none was valid."""


class HandedOver(DialogExit):
    """A person had taken the chat over while the question was open, and has given it back."""
