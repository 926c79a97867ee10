"""Sending many messages, and uploading many files."""

from healthmsg.bulk.messages import Outgoing, SendResult
from healthmsg.bulk.sender import SendMany
from healthmsg.bulk.uploader import Upload, UploadMany, UploadResult

__all__ = ["Outgoing", "SendMany", "SendResult", "Upload", "UploadMany", "UploadResult"]
