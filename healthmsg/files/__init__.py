"""Files: what can be uploaded, and where downloads are written."""

from healthmsg.files.uploads import FileToUpload, UploadFile, check_files, file_parts, prepare

__all__ = ["FileToUpload", "UploadFile", "check_files", "file_parts", "prepare"]
