"""Sending many messages, and uploading many files."""

from healthmsg.bulk.dry_run import DryRun, DryRunReport, Problem, ProblemKind
from healthmsg.bulk.messages import Outgoing, SendReport, SendResult
from healthmsg.bulk.reconcile import Reconciled
from healthmsg.bulk.review import JournalReview, UnknownMessage
from healthmsg.bulk.runs import SendManyOptions
from healthmsg.bulk.sender import SendMany
from healthmsg.bulk.uploader import Upload, UploadMany, UploadResult

__all__ = [
    "DryRun",
    "DryRunReport",
    "JournalReview",
    "Outgoing",
    "Problem",
    "ProblemKind",
    "Reconciled",
    "SendMany",
    "SendManyOptions",
    "SendReport",
    "SendResult",
    "UnknownMessage",
    "Upload",
    "UploadMany",
    "UploadResult",
]
