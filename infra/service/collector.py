"""Collects OpenTelemetry's traces on loopback, as far as a test needs it: it takes OTLP over HTTP and tells which programs
sent spans of a trace. It parses no protobuf, in which a trace's id and a service's name are plain bytes.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BODY_MAX = 8 * 1024 * 1024
BODIES_MAX = 1_000


class Collector:
    """Listens at `url` until closed."""

    def __init__(self, url):
        self.bodies = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            """Keeps the bodies that are posted."""

            def do_POST(self):  # the library's name
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(min(length, BODY_MAX))
                if len(collector.bodies) < BODIES_MAX:
                    collector.bodies.append(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Prints no line for each request."""

        place = urlsplit(url)
        self.server = ThreadingHTTPServer((place.hostname, place.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def senders(self, trace, programs):
        """Returns those of the programs that sent a span of this trace (its id in hexadecimal)."""
        wanted = bytes.fromhex(trace)
        about = [body for body in list(self.bodies) if wanted in body]
        return {program for program in programs if any(program.encode() in body for body in about)}

    def close(self):
        """Stops listening."""
        self.server.shutdown()
        self.server.server_close()
