"""The types of questions: pure, without I/O and without a clock."""

from healthmsg.bot.dialogs.questions.base import (
    Given,
    Invalid,
    More,
    QuestionType,
    UnreadableAnswerError,
)
from healthmsg.bot.dialogs.questions.choices import Choice, ChoiceQuestion, ChoicesQuestion
from healthmsg.bot.dialogs.questions.confirm import ConfirmQuestion
from healthmsg.bot.dialogs.questions.contact import EmailQuestion, PhoneQuestion
from healthmsg.bot.dialogs.questions.dates import DateQuestion
from healthmsg.bot.dialogs.questions.files import Files, FilesQuestion
from healthmsg.bot.dialogs.questions.mentions import MentionQuestion
from healthmsg.bot.dialogs.questions.numbers import NumberQuestion
from healthmsg.bot.dialogs.questions.several import AskAllQuestion, Progress
from healthmsg.bot.dialogs.questions.text import TextQuestion
from healthmsg.bot.dialogs.questions.texts import Sentences, Texts
from healthmsg.bot.dialogs.questions.verification import VerificationQuestion, VerificationResult

__all__ = [
    "AskAllQuestion",
    "Choice",
    "ChoiceQuestion",
    "ChoicesQuestion",
    "ConfirmQuestion",
    "DateQuestion",
    "EmailQuestion",
    "Files",
    "FilesQuestion",
    "Given",
    "Invalid",
    "MentionQuestion",
    "More",
    "NumberQuestion",
    "PhoneQuestion",
    "Progress",
    "QuestionType",
    "Sentences",
    "TextQuestion",
    "Texts",
    "UnreadableAnswerError",
    "VerificationQuestion",
    "VerificationResult",
]
