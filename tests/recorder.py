"""A progress for tests."""

import signal

from jaxppo.progress import Silent


class Recorder(Silent):
    """Remembers what it is told, and interrupts after so many chunks."""

    def __init__(self, chunks=None):
        self.notes, self.steps, self.chunks = [], [], chunks

    def note(self, text):
        self.notes.append(text)

    def advance(self, steps, rate, metrics):
        self.steps.append(steps)
        if len(self.steps) == self.chunks:
            signal.raise_signal(signal.SIGINT)
