"""`python -m healthmsg.cli`."""

from healthmsg.cli import main

main()
