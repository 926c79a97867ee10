"""Files: what can be uploaded, and where downloads are written."""

from healthmsg.files.sources import FileSnapshots, FileToUpload, TakenFile, UploadFile, take_now
from healthmsg.files.uploads import file_parts, prepare

__all__ = [
    "FileSnapshots",
    "FileToUpload",
    "TakenFile",
    "UploadFile",
    "file_parts",
    "prepare",
    "take_now",
]
