"""`python -m prvr` is the `prvr` command."""

from prvr.cli import main

main()
