"""A real S3 server on loopback, and a gate before it that notes requests, turns some away, and can be shut."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "a secret of tests",
               "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
_HOP = {"transfer-encoding", "connection", "content-length", "server", "date"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class _Noted:
    """A server with a log of the requests that came."""

    port: int
    log: Path

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self):
        """(method, path with its query) of every request."""
        return re.findall(r'"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP', self.log.read_text())

    def forget_asked(self):
        os.truncate(self.log, 0)

    def brought(self, suffix):
        """Paths of the objects that were read, by the end of their names."""
        paths = [path.partition("?")[0] for method, path in self.asked if method == "GET"]
        return [path for path in paths if path.endswith(suffix)]


class Server(_Noted):
    """moto's S3 in a process of its own."""

    def __init__(self, log):
        self.port, self.log = free_port(), Path(log)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, **CREDENTIALS})
        _wait_for(self.port, self.process)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Gate(_Noted):
    """The way to a server, a process of its own: a client that waits in native code may hold Python's lock.

    Rules are told by dicts: `method` and `holds` (a part of the path) choose requests, from the `first` on (1 if not
    given); they are answered with `status` and the S3 error `code`, or, with `die`, by the death of the process.
    """

    def __init__(self, server, folder):
        self._server, self.port = server, free_port()
        self.log, self._rules, self._process = Path(folder) / "asked.log", Path(folder) / "rules.json", None
        self.log.touch()
        self.rule()
        self.open()

    @property
    def alive(self):
        return self._process.poll() is None

    def open(self):
        ports = [str(self.port), str(self._server.port)]
        self._process = subprocess.Popen([sys.executable, __file__, *ports, str(self.log), str(self._rules)])
        _wait_for(self.port, self._process)

    def shut(self):
        """From now on nobody listens, and what was under way is cut off."""
        self._process.kill()
        self._process.wait()

    def rule(self, *rules):
        fresh = self._rules.with_suffix(".new")
        fresh.write_text(json.dumps(rules))
        fresh.replace(self._rules)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock, counts = threading.Lock(), Counter()

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.lock:
            with Path(self.server.log).open("a") as log:
                log.write(f'"{self.requestline}"\n')
            rule = self._rule()
        if rule and rule.get("die"):
            os._exit(1)
        if rule:
            status, headers = rule["status"], [("Content-Type", "application/xml")]
            answer = f"<Error><Code>{rule['code']}</Code><Message>{rule['code']}</Message></Error>".encode()
        else:
            status, headers, answer = self._forward(body)
        self.send_response_only(status)
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _rule(self):
        for rule in json.loads(Path(self.server.rules).read_text()):
            if rule.get("method", self.command) == self.command and rule.get("holds", "") in self.path:
                self.counts[json.dumps(rule)] += 1
                if self.counts[json.dumps(rule)] >= rule.get("first", 1):
                    return rule
        return None

    def _forward(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body=body, headers=kept)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on  # noqa: N815 - names of the base class

    def log_message(self, *_):
        """Quiet."""


class _Listening(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


def _wait_for(port, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the process ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("nobody listens")


if __name__ == "__main__":
    port, upstream, log, rules = sys.argv[1:]
    listening = _Listening(("127.0.0.1", int(port)), _Handler)
    listening.upstream, listening.log, listening.rules = int(upstream), log, rules
    listening.serve_forever(0.05)
