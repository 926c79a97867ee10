"""Sending many messages, and uploading many files."""

from healthmsg.bulk.models import Outgoing, SendReport, SendResult
from healthmsg.bulk.preview import JournalReview, Preview, PreviewReport, Problem, ProblemKind, UnknownMessage
from healthmsg.bulk.reconcile import Reconciled
from healthmsg.bulk.runner import SendMany
from healthmsg.bulk.upload import Upload, UploadMany, UploadResult

__all__ = [
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
    "UnknownMessage",
    "Upload",
    "UploadMany",
    "UploadResult",
]
