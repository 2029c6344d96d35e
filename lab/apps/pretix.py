"""pretix: orders through its interface, each with a mail that its worker sends; and an export, which a worker writes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from lab.apps.application import DONE_S, Client, in_environment, outside, sql
from lab.deadlines import until
from lab.demo.fleet import Fleet
from lab.machine import Refusal

SHOP = """
import json, django
from datetime import timedelta
django.setup()
from django.utils.timezone import now
from django_scopes import scopes_disabled
from pretix.base.models import Organizer, Team
with scopes_disabled():
    lab, _ = Organizer.objects.get_or_create(slug="lab", defaults={"name": "Lab"})
    concert, _ = lab.events.get_or_create(slug="concert", defaults={
        "name": "Concert", "currency": "NOK", "date_from": now() + timedelta(days=30), "live": True})
    seat, _ = concert.items.get_or_create(name="Seat", defaults={"default_price": 0})
    seats, _ = concert.quotas.get_or_create(name="Seats", defaults={"size": None})
    seats.items.add(seat)
    team, _ = Team.objects.get_or_create(organizer=lab, name="Lab", defaults={
        "all_events": True, "all_event_permissions": True, "all_organizer_permissions": True})
    print(json.dumps({"token": team.tokens.create(name="lab").token, "item": seat.pk}))
"""
EVENT = "/api/v1/organizers/lab/events/concert"
SENT = "SELECT o.code FROM pretixbase_order o JOIN pretixbase_outgoingmail m ON m.order_id = o.id WHERE m.status = 'sent'"


@dataclass
class Pretix:
    fleet: Fleet
    name: str = "pretix"
    client: Client = field(init=False)
    item: int = 0

    def prepare(self) -> None:
        web = next(host for host in self.fleet.group("producers") if host.application == self.name)
        shop = json.loads(in_environment(web, self.name, SHOP).splitlines()[-1])
        self.client, self.item = Client(web.url, {"Authorization": f"Token {shop['token']}"}), shop["item"]

    def send(self) -> str | None:
        position = {"item": self.item, "variation": None, "price": "0.00", "answers": [], "subevent": None}
        order = {"email": "guest@example.org", "locale": "en", "sales_channel": "web", "send_email": True}
        status, answer = self.client.attempt("POST", f"{EVENT}/orders/", {**order, "positions": [position]})
        return answer["code"] if status == 201 else None

    def done(self) -> set[str]:
        """An order is done when its mail is sent."""
        return {code for (code,) in sql(self.fleet, self.name, SENT)}

    def prove(self) -> list[str]:
        run = self.client.ask("POST", f"{EVENT}/exporters/orderlist/run/", {"_format": "xlsx"})
        path = run["download"]
        _, export = until("the export", lambda: self.exported(path), DONE_S)
        orders = len(self.done())
        mails = outside("ls /var/mail/received/mails/new | wc -l").strip()
        return [
            f"{orders} orders have their mail; the mail server received {mails}",
            f"an export of {len(export)} bytes, written by a worker, was downloaded from the web server",
        ]

    def exported(self, path: str) -> tuple[int, bytes] | None:
        status, body = self.client.open("GET", path, None, "application/json")
        if status == 410:
            raise Refusal(f"pretix' export failed: {body[:300]!r}")
        return (status, body) if status == 200 and body[:2] == b"PK" else None
