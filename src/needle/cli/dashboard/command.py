"""The command `needle dashboard`."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import typer

from ...train.records import find_runs
from ...train.run import RUNS
from ..errors import one_line_errors
from ..printing import say
from .server import DashboardServer

PORT = 6007


def dashboard(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the runs.")] = Path(RUNS),
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")
    ] = PORT,
) -> None:
    """Serve the runs as a web page on 127.0.0.1, live while they train.

    The page needs no network. On another machine, forward the port: ssh -L 6007:127.0.0.1:6007 HOST
    """
    with one_line_errors():
        if folder != Path(RUNS):  # the usual folder appears with the first run
            find_runs(folder)
        try:
            server = DashboardServer(folder, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise OSError(f"port {port} is taken; choose another with --port, or 0") from None
    say(f"needle dashboard of {folder}: {server.address} (Ctrl-C ends it)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
