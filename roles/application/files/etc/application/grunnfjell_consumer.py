"""Managed by Grunnfjell. Celery's consumer, but one that looks for its broker once a second.

Celery waits 2, 4, 6 … 30 s between two attempts, and no setting reaches those numbers: after a broker was away for two minutes,
the fleet stands idle for up to half a minute more. An attempt at a closed port costs nothing, so a steady second is right. Each
worker takes a second of its own, so that a fleet does not come back to its broker in one instant.
"""

import random
from functools import partial

import grunnfjell_privacy
from celery.worker import consumer

grunnfjell_privacy.install_worker()

MEAN_S, SPREAD_S = 1.0, 0.5


class Consumer(consumer.Consumer):
    def ensure_connected(self, conn):
        wait_s = random.uniform(MEAN_S - SPREAD_S, MEAN_S + SPREAD_S)
        conn.ensure_connection = partial(conn.ensure_connection, interval_start=wait_s, interval_step=0, interval_max=wait_s)
        return super().ensure_connected(conn)
