"""Files: what can be uploaded, and where downloads are written."""

from healthmsg.files.taking import FileTaker, take_now
from healthmsg.files.uploads import check_files, file_parts, prepare
from healthmsg.files.values import FileToUpload, TakenFile, UploadFile

__all__ = [
    "FileTaker",
    "FileToUpload",
    "TakenFile",
    "UploadFile",
    "check_files",
    "file_parts",
    "prepare",
    "take_now",
]
