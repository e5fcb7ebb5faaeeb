"""The command `needle`: parses arguments, calls the packages below it, prints."""

import io
import sys


def main() -> None:
    """Run the command line. Without the extra `needle-dl[cli]`, say how to get it."""
    try:
        from .app import app
    except KeyboardInterrupt:  # while Python reads the modules
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"needle: {error.name} is not installed; run: pip install 'needle-dl[cli]'")
    for stream in (sys.stdout, sys.stderr):  # signs that they have no code for
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
