"""TaskState: what a checkpoint keeps of the data."""

from __future__ import annotations

from ..typing import Json


class TaskState:
    """What a checkpoint keeps of the data. A resumed run must have the same."""

    def __init__(self, state: Json) -> None:
        self.state = state

    def state_dict(self) -> Json:
        """The state."""
        return {"state": self.state}

    def load_state_dict(self, state: Json) -> None:
        """Raise ValueError where the checkpoint was made with other data."""
        if state["state"] != self.state:
            raise ValueError(
                "[resume] the data are others than those of the checkpoint: another vocabulary, "
                "other classes or other columns"
            )
