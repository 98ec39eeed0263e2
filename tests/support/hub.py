"""A stand-in for the Hugging Face Hub: an HTTP server with files in memory, and what fakeimg asks of it."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator

TOKEN = 'hf_stand_in'  # the only one that may write


class Hub:
    """Attributes:
        files: repository -> file -> bytes.
        downloaded: files in the order in which they were asked for.
        address: of the server.
    """  # fmt: skip

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.downloaded: list[str] = []
        self.address = ''


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Serves a hub on a free port of this machine."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {'Content-Length': str(len(body)), **headers}.items():
                self.send_header(name.replace('_', '-'), value)
            self.end_headers()
            if self.command != 'HEAD':
                self.wfile.write(body)

        def say(self, value: object, status: int = 200) -> None:
            self.answer(status, json.dumps(value).encode(), Content_Type='application/json')

        def do_GET(self) -> None:
            path = self.path.partition('?')[0]
            if found := re.fullmatch(r'/api/models/([^/]+/[^/]+)(?:/revision/.+)?', path):
                files = hub.files.get(found[1])
                if files is None:
                    return self.answer(404, b'', X_Error_Code='RepoNotFound')
                return self.say({'id': found[1], 'sha': 'c' * 40, 'siblings': [{'rfilename': name} for name in files]})
            found = re.fullmatch(r'/([^/]+/[^/]+)/resolve/[^/]+/(.+)', path)
            data = hub.files.get(found[1], {}).get(found[2]) if found else None
            if found is None or data is None:
                return self.answer(404, b'', X_Error_Code='EntryNotFound')
            if self.command == 'GET':
                hub.downloaded.append(found[2])
            tag = f'"{hashlib.sha256(data).hexdigest()}"'
            return self.answer(200, data, ETag=tag, X_Repo_Commit='c' * 40)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
            if self.path == '/api/validate-yaml':
                return self.say({'errors': [], 'warnings': []})
            if self.headers.get('Authorization') != f'Bearer {TOKEN}':
                return self.say({'error': 'Invalid credentials in Authorization header'}, 401)
            if self.path == '/api/repos/create':
                asked = json.loads(body)
                name = f'{asked.get("organization") or "me"}/{asked["name"]}'
                if name.startswith('others/'):
                    return self.say({'error': 'Forbidden'}, 403)
                hub.files.setdefault(name, {})
                return self.say({'url': f'{hub.address}/{name}'})
            if '/preupload/' in self.path:
                names = [file['path'] for file in json.loads(body)['files']]
                return self.say({'files': [{'path': n, 'uploadMode': 'regular', 'shouldIgnore': False} for n in names]})
            if found := re.fullmatch(r'/api/models/([^/]+/[^/]+)/commit/.+', self.path):
                for line in map(json.loads, body.splitlines()):
                    if line['key'] == 'file':
                        hub.files[found[1]][line['value']['path']] = base64.b64decode(line['value']['content'])
                return self.say({'commitUrl': f'{hub.address}/{found[1]}/commit/{"c" * 40}', 'commitOid': 'c' * 40})
            return self.answer(404, b'')

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    hub.address = f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
