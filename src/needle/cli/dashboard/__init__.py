"""`needle dashboard`: the runs of a folder as a web page, live while they train."""

from .command import dashboard
from .server import DashboardServer, page

__all__ = ["DashboardServer", "dashboard", "page"]
