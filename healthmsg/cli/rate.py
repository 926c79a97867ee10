"""How fast a run goes."""

from rich.progress import ProgressColumn, Task
from rich.text import Text


class Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        """Show it, and 0 before there is any."""
        return Text(f"{task.speed or 0:5.1f}/s", style="cyan")
