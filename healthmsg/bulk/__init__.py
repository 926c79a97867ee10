"""Sending many messages, and uploading many files."""

from healthmsg.bulk.journal.base import JournalMessage
from healthmsg.bulk.models import Outgoing, SendReport, SendResult
from healthmsg.bulk.preview import JournalReview, Preview, PreviewReport, Problem, ProblemKind
from healthmsg.bulk.reconcile import Reconciled
from healthmsg.bulk.runner import SendMany
from healthmsg.bulk.upload import Upload, UploadMany, UploadResult

__all__ = [
    "JournalMessage",
    "JournalReview",
    "Outgoing",
    "Preview",
    "PreviewReport",
    "Problem",
    "ProblemKind",
    "Reconciled",
    "SendMany",
    "SendReport",
    "SendResult",
    "Upload",
    "UploadMany",
    "UploadResult",
]
