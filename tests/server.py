"""A file server on the loopback, as unreliable as a test wants it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What it serves, how it misbehaves, and what it was asked for.

    `breaks_after` holds, for each coming answer, after how many bytes the connection breaks;
    `codes` the codes that coming requests are refused with.
    """

    files: dict[str, bytes]
    url: str = ""
    honours_ranges: bool = True
    breaks_after: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    before_answer: Callable[[], None] = lambda: None


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve files (name -> content) until the block ends."""
    state = Server(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name, wanted = self.path.lstrip("/"), self.headers.get("Range")
            state.asked.append((name, wanted))
            state.before_answer()
            content = state.files.get(name, b"")
            first = int(wanted[6:-1]) if wanted and state.honours_ranges else 0
            unknown = [404] if name not in state.files else []
            beyond = [416] if first and first >= len(content) else []
            if refused := state.codes[:1] or unknown or beyond:
                state.codes = state.codes[1:]
                self.send_error(refused[0])
                return
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            end = first + state.breaks_after.pop(0) if state.breaks_after else len(content)
            self.wfile.write(content[first:end])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
