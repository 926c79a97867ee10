"""From a file of recipients to the messages: read, checked and filled in."""
