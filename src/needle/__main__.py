"""`python -m needle`."""

from .cli import main

main()
