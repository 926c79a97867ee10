"""Sending many messages, and uploading many files."""

from healthmsg.bulk.messages import Outgoing, SendResult
from healthmsg.bulk.reconcile import Reconciled
from healthmsg.bulk.sender import SendMany
from healthmsg.bulk.uploader import Upload, UploadMany, UploadResult

__all__ = ["Outgoing", "Reconciled", "SendMany", "SendResult", "Upload", "UploadMany", "UploadResult"]
