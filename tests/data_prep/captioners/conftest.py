"""A chat-completions server on loopback that sees the number in a picture, and misbehaves on request."""

import base64
import io
import json
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_prep.captioning import caption_spans
from data_prep.decode import open_source
from data_prep.settings import CaptionerSettings, ServerSettings
from data_prep.sources import Source
from data_prep.tables import SCHEMAS, Tables
from data_prep.units import Workshop
from vidgen_core.clip import encode

MODEL = "eyes-7b"


def picture(number):
    """Eight bars that spell a number below 256, [32, 64, 3]: readable through H.264 and JPEG."""
    bits = [255 * (number >> place & 1) for place in range(8)]
    return np.repeat(np.tile(np.repeat(np.uint8(bits), 8), (32, 1))[:, :, None], 3, axis=2)


def jpeg(number):
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, "JPEG", quality=95)
    return file.getvalue()


def number_of(file):
    row = np.asarray(Image.open(io.BytesIO(file)).convert("L").resize((64, 32))).mean(0)
    return sum(int(row[8 * place : 8 * place + 8].mean() > 127) << place for place in range(8))


def caption_of(number):
    return f"The number {number} moves."


class Request:
    """What the server got."""

    def __init__(self, body, headers):
        self.body, self.headers, self.at_s = body, headers, time.monotonic()
        content = body["messages"][0]["content"]
        self.text = content[-1]["text"]
        self.pictures = [base64.b64decode(part["image_url"]["url"].split(",")[1]) for part in content[:-1]]
        self.numbers = [number_of(one) for one in self.pictures]
        self.id = re.search(r"\[id (\w+)\]", self.text).group(1)
        self.picks = "Which of these two captions" in self.text
        self.try_out = set(self.numbers) == {255} and not self.picks


class Server:
    """The server; `behave(request, number of the request for these pictures)` says what it does wrong.

    Attributes:
        requests: All but try-outs.
        most: Most requests that were under way at a time.
        known: A key that it wants, "" for none.

    """

    def __init__(self):
        self.behave = lambda request, number: ""
        self.requests, self.known, self.lock = [], "", threading.Lock()
        self.under_way = self.most = 0
        self.work_s, self.limit_s = 0.0, 20.0
        self.say = lambda request: caption_of(request.numbers[0])
        self._asked = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.reply(200 if self.path == "/v1/models" else 404, {"data": [{"id": MODEL}, {"id": "ears-1b"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.under_way += 1
                    server.most = max(server.most, server.under_way)
                try:
                    server.answer(self, body)
                finally:
                    with server.lock:
                        server.under_way -= 1

            def reply(self, status, value, headers=(), *, promised=0):
                text = value if isinstance(value, bytes) else json.dumps(value).encode()
                # One that answers may be asked again before this thread has counted down.
                with server.lock:
                    server.under_way -= 1
                self.send_response(status)
                for name, content in dict(headers).items():
                    self.send_header(name, content)
                self.send_header("Content-Length", str(len(text) + promised))
                self.end_headers()
                self.wfile.write(text)
                with server.lock:
                    server.under_way += 1

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass  # clients that hang up are a part of the game

        self.http = Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def settings(self, **changes):
        server = {
            "url": self.url,
            "pause_s": 0.01,
            "timeout_s": self.limit_s,
            "attempts": 3,
            **changes.pop("server", {}),
        }
        return CaptionerSettings(
            **{"name": "endpoint", "model": MODEL, "server": ServerSettings(**server), "pair_checks": 0, **changes}
        )

    def captioned(self):
        """Requests for captions by the number in their pictures."""
        return Counter(request.numbers[0] for request in self.requests if not request.picks)

    def answer(self, handler, body):
        request = Request(body, dict(handler.headers))
        if handler.path != "/v1/chat/completions":
            return handler.reply(404, {"detail": "Not Found"})
        if self.known and request.headers.get("Authorization") != f"Bearer {self.known}":
            return handler.reply(401, {"error": {"message": f"Wrong key {request.headers.get('Authorization')}"}})
        if body["model"] != MODEL:
            return handler.reply(404, {"error": {"message": "no such model", "code": "model_not_found"}})
        with self.lock:
            if not request.try_out:
                self.requests.append(request)
            self._asked[(*request.numbers, request.picks)] += 1
            wrong = self.behave(request, self._asked[(*request.numbers, request.picks)])
        time.sleep(self.work_s)
        if wrong.isdigit():
            return handler.reply(int(wrong), {"error": {"message": "not now"}}, self.headers_of(request))
        return getattr(self, wrong or "well")(handler, request)

    headers_of = staticmethod(lambda request: {})

    def completion(self, text, finish="stop", **message):
        choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        return {"id": "chatcmpl-1", "model": f"{MODEL}-2026", "choices": [choice]}

    def said(self, request):
        if not request.picks:
            return self.say(request)
        first, second = (int(number) for number in re.findall(r"number (\d+)", request.text)[:2])
        return "1" if first == request.numbers[0] else "2" if second == request.numbers[0] else "neither"

    def well(self, handler, request):
        handler.reply(200, self.completion(f"[id {request.id}] {self.said(request)}"))

    def wrong_id(self, handler, request):
        handler.reply(200, self.completion("[id 0a0a0a] The number 77 moves."))

    def no_id(self, handler, request):
        handler.reply(200, self.completion(self.said(request)))

    def id_of_vllm(self, handler, request):
        answer = self.completion(self.said(request)) | {"id": f"chatcmpl-{request.headers['X-Request-Id']}"}
        handler.reply(200, answer)

    def truncated(self, handler, request):
        handler.reply(200, self.completion(f"[id {request.id}] {self.said(request)[:-3]}", "length"))

    def empty(self, handler, request):
        handler.reply(200, self.completion(f"[id {request.id}]"))

    def nothing(self, handler, request):
        handler.reply(200, self.completion(None))

    def blocked(self, handler, request):
        handler.reply(200, self.completion("", "content_filter"))

    def refusal(self, handler, request):
        handler.reply(200, self.completion(None, refusal="I cannot help with that"))

    def filtered(self, handler, request):
        handler.reply(400, {"error": {"message": "The input was held back", "code": "content_filter"}})

    def thinking(self, handler, request):
        text = f"<think>[id 0a0a0a]? no, {request.id}</think>\n**ID: {request.id}**\n{self.said(request)}"
        handler.reply(200, self.completion(text))

    def malformed(self, handler, request):
        handler.reply(200, b'{"choices": [{"mess')

    def no_choices(self, handler, request):
        handler.reply(200, {"choices": []})

    def page(self, handler, request):
        handler.reply(502, b"<html>Bad gateway</html>")

    def slow(self, handler, request):
        time.sleep(1.5 * self.limit_s)
        self.well(handler, request)

    def drip(self, handler, request):
        """Each byte comes in time, the answer does not."""
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(12):
            handler.wfile.write(b" ")
            time.sleep(0.2 * self.limit_s)

    def half(self, handler, request):
        handler.reply(200, b'{"id": ', promised=1000)
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    def huge(self, handler, request):
        handler.reply(200, self.completion("x" * (5 * 2**20)))

    def reset(self, handler, request):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(handler.connection.detach())
        handler.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VIDGEN_CAPTIONER_KEY", raising=False)
    started = Server()
    yield started
    started.close()


@pytest.fixture
def numbered():
    """(JPEG of a number, caption of a number, picture of a number)."""
    return jpeg, caption_of, picture


class Here:
    """Runs tasks in this process, and remembers them."""

    def __init__(self):
        self.ran = []

    def map(self, function, items, *, deadline_s=0.0):
        for item in items:
            self.ran.append((function.func.__name__, item.source.uri))
            yield item, function(item)


class Numbered:
    """Sources whose every span shows a number of its own, and a table that knows them.

    Attributes:
        spans: Rows as captioning wants them; `number` is what a clip shows.

    """

    def __init__(self, folder, *, sources=3, spans=12, frames=4):
        self.tables, self.sources, self.spans, self.shown = Tables(folder / "tables"), {}, [], {}
        for place in range(sources):
            numbers = [place * spans + span for span in range(spans)]
            file = folder / f"{place}.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(np.stack([picture(n) for n in numbers for _ in range(frames)]), "8"))
            source = Source(f"source{place}", file.name, file)
            self.sources[source.source_id] = source
            opened = open_source(file)
            with opened.container:
                times = [pts for pts, _ in opened.frames()]
            for span, number in enumerate(numbers):
                self.shown[f"clip{number:03d}"] = number
                self.spans.append({
                    "clip_id": f"clip{number:03d}", "source_id": source.source_id, "shot": span, "caption": "",
                    "caption_origin": "none", "start_pts": times[span * frames], "crop_x": 0, "crop_y": 0,
                    "stop_pts": times[span * frames + frames - 1], "crop_w": 64, "crop_h": 32,
                })  # fmt: skip
        rows = [dict.fromkeys(SCHEMAS["sources"].names) | {"source_id": one} for one in self.sources]
        self.tables.replace("sources", pa.Table.from_pylist(rows, SCHEMAS["sources"]))

    def shop(self, runner=None):
        return Workshop(self.tables, runner or Here(), lambda *_: None, 60.0)

    def captioned(self, settings, runner=None, spans=None):
        return caption_spans(spans or self.spans, self.sources, self.shop(runner), settings)


@pytest.fixture
def clips(tmp_path):
    """Thirty-six numbered clips of three sources."""
    return Numbered(tmp_path / "clips")


@pytest.fixture
def make_clips(tmp_path):
    return lambda name, **shape: Numbered(tmp_path / name, **shape)


@pytest.fixture
def here():
    return Here
