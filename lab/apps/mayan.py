"""Mayan EDMS: documents through its interface; its workers turn each page into an image and read the text in it."""

from __future__ import annotations

import itertools
import time
import uuid
from dataclasses import dataclass, field

from lab.apps.application import DONE_S, Client, in_environment, sql
from lab.deadlines import until
from lab.demo.fleet import Fleet

PASSWORD = "import os; print(os.environ['MAYAN_AUTOADMIN_PASSWORD'])"
API = "/api/v4"
READ = """
    SELECT d.label, regexp_replace(c.content, '\\s+', ' ', 'g') FROM documents_document d
    JOIN documents_documentversion v ON v.document_id = d.id
    JOIN documents_documentversionpage p ON p.document_version_id = v.id
    JOIN ocr_documentversionpageocrcontent c ON c.document_version_page_id = p.id
    WHERE c.content <> ''
"""


def pdf(text: str) -> bytes:
    """A page with a line of text."""
    stream = f"BT /F1 48 Tf 60 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return body + head + table + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))


@dataclass
class Mayan:
    fleet: Fleet
    name: str = "mayan"
    client: Client = field(init=False)
    kind: int = 0
    numbers: itertools.count = field(default_factory=lambda: itertools.count(int(time.time())))

    def prepare(self) -> None:
        web = next(host for host in self.fleet.group("producers") if host.application == self.name)
        password = in_environment(web, self.name, PASSWORD).strip()
        self.client = Client(web.url)
        token = self.client.ask("POST", f"{API}/auth/token/obtain/", {"username": "admin", "password": password})["token"]
        self.client.headers = {"Authorization": f"Token {token}"}
        self.kind = self.client.ask("POST", f"{API}/document_types/", {"label": f"Letters {uuid.uuid4()}"})["id"]

    def send(self) -> str | None:
        number = next(self.numbers)
        name, border = f"letter-{number}.pdf", uuid.uuid4().hex
        parts = [
            f'--{border}\r\nContent-Disposition: form-data; name="document_type_id"\r\n\r\n{self.kind}\r\n'.encode(),
            f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'.encode(),
            b"Content-Type: application/pdf\r\n\r\n",
            pdf(f"Letter {number}"),
            f"\r\n--{border}--\r\n".encode(),
        ]
        form = f"multipart/form-data; boundary={border}"
        status, _ = self.client.open("POST", f"{API}/documents/upload/", b"".join(parts), form)
        return name if status in (201, 202) else None

    def done(self) -> set[str]:
        """A document is done when the text of its page was read."""
        return {label for label, *_ in sql(self.fleet, self.name, READ)}

    def prove(self) -> list[str]:
        name = until("an accepted document", self.send, 60)
        until(f"the text of {name}", lambda: name in self.done(), DONE_S)
        texts = {label: text for label, text, *_ in sql(self.fleet, self.name, READ)}
        number = name.removeprefix("letter-").removesuffix(".pdf")
        return [f"{name} was read as {texts[name].strip()!r}", *(["the number in it is right"] if number in texts[name] else [])]
