"""A runner for tests: no processes, and it remembers what it ran."""


class InProcess:
    """Runs tasks here, one after the other.

    Attributes:
        ran: Names of the sources that tasks were about, in order; tasks without one are not in it.

    """

    def __init__(self):
        self.ran = []

    def map(self, function, items, *, deadline_s=0.0):
        for item in items:
            if source := getattr(item, "source", None):
                self.ran.append(source.uri)
            yield item, function(item)
