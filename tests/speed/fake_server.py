"""A server that speaks as much of OpenAI's protocol as the tests need, and misbehaves when it is told to.

    python fake_server.py PORT BEHAVIOUR

BEHAVIOUR: well (answers "one two three"), broken (status 500), breaks (closes the line in the middle of an
answer), complains (an error in the middle of it), hangs (says nothing more in the middle of it).
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def chunk(text: str | None = None, **more) -> bytes:
    """One piece of a streamed answer."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": more.pop("finish_reason", None)}
    body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body | more).encode() + b"\n\n"


class Handler(BaseHTTPRequestHandler):
    behaviour = "well"

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.rfile.read(length)
        if self.behaviour == "broken":
            self.send_response(500)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"detail": "the disk is full"}')
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        if self.behaviour == "breaks":
            self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(chunk("one "))
        if self.behaviour == "breaks":
            return
        if self.behaviour == "complains":
            self.wfile.write(b'data: {"error": "the worker is dead"}\n\n')
            return
        if self.behaviour == "hangs":
            time.sleep(600)
        self.wfile.write(chunk("two three"))
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        self.wfile.write(chunk(finish_reason="stop", usage=usage))
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    Handler.behaviour = sys.argv[2]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
