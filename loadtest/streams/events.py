"""Splits a body into server-sent events."""

# Far more than any event here: a line without an end is an error, and not a reason to hold it all.
LINE_MAX_BYTES = 1 << 20


class EventReader:
    """Takes a body in any pieces; gives the data of the events that are whole."""

    def __init__(self):
        self.rest, self.data = b"", []

    def feed(self, chunk):
        """Returns the data of each event that ended with this piece. Comments and other fields are skipped."""
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        if len(self.rest) > LINE_MAX_BYTES:
            raise ValueError("a line of the stream has no end")
        whole = []
        for line in lines:
            line = line[:-1] if line.endswith(b"\r") else line
            if line.startswith(b"data:"):
                self.data.append(line[5:].removeprefix(b" ").decode("utf-8"))
            elif not line and self.data:
                whole.append("\n".join(self.data))
                self.data = []
        return whole

    @property
    def is_cut(self):
        """Whether the body ended within an event."""
        return bool(self.rest or self.data)
