"""Engines of PostgreSQL for whoever keeps something there: event log, profiles, the state of the feeds.

A pool of connections that outlives a restart of the server: each is asked before it is used (`pool_pre_ping`) and
renewed before a firewall forgets it, and every wait has an end, so a request hears that nothing was stored instead of
hanging.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

STATEMENT_WAITS = 10  # what takes longer than so many waits for a lock will not end
RECYCLE_SECONDS = 1800  # below what firewalls and poolers forget an idle connection after
POOL_WAIT = 10.0  # s; a request that gets no connection for so long is better answered with an error


def with_driver(url: URL) -> URL:
    """The URL with the driver that we install; SQLAlchemy's default for PostgreSQL is another one."""
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url


def postgresql_engine(url: URL, wait_seconds: float, pool: int) -> Engine:
    """An engine whose transactions are durable and wait no longer for a lock than `wait_seconds`.

    pool: connections that are kept; as many more are opened under load and closed after it.
    """
    milliseconds = round(wait_seconds * 1000)
    seconds = max(2, round(wait_seconds))
    # A server that is gone without a word is noticed: libpq would wait for it for some two hours.
    arguments = {
        "connect_timeout": seconds,
        "keepalives_idle": seconds,
        "keepalives_interval": seconds,
        "keepalives_count": 3,
        "tcp_user_timeout": 4 * milliseconds,
        "application_name": "nightshift",
    }
    engine = create_engine(
        url,
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=min(POOL_WAIT, wait_seconds),
        pool_recycle=RECYCLE_SECONDS,
        pool_pre_ping=True,
        connect_args=arguments,
    )

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_WAITS * milliseconds}")
        connection.exec_driver_sql("SET LOCAL synchronous_commit = on")

    return engine
