#!/bin/sh
# What the entrypoint of PostgreSQL's image does before the command it is given: a new volume gets its first user, who
# has POSTGRES_PASSWORD, and runs the scripts that are mounted for it.
set -eu
data=/var/lib/postgresql/data
if [ ! -f "$data/PG_VERSION" ]; then
  printf '%s' "$POSTGRES_PASSWORD" >/tmp/password
  initdb -D "$data" -U postgres --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256 \
    --encoding UTF8 --locale C --no-sync >/dev/null
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  export PGHOST=/run/postgresql
  pg_ctl -D "$data" -o "-c listen_addresses= -c unix_socket_directories=$PGHOST" -w start >/dev/null
  for script in /docker-entrypoint-initdb.d/*.sh; do sh "$script"; done
  pg_ctl -D "$data" -m fast -w stop >/dev/null
fi
exec "$@" -D "$data" -c unix_socket_directories=/run/postgresql -c listen_addresses='*'
