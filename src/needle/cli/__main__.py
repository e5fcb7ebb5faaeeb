"""`python -m needle.cli`."""

from . import main

main()
