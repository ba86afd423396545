"""`python -m research_loop`: the command line."""

from research_loop.cli import main

main()
