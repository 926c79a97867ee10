"""Reading the file of recipients: a table (CSV), or JSON Lines."""

from healthmsg.cli.recipients.problems import Problem, Problems, RefusedError
from healthmsg.cli.recipients.reading import read_recipients, read_text_file
from healthmsg.cli.recipients.rows import Recipients, Row

__all__ = ["Problem", "Problems", "Recipients", "RefusedError", "Row", "read_recipients", "read_text_file"]
