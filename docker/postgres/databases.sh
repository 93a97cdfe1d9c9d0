#!/bin/sh
# Run by PostgreSQL's image when its volume is new: a database for each program that keeps something, and a user who
# owns that one and may use no other.
set -eu

sql() { # sql DATABASE [psql's options]; the statements come by standard input, and no password is in a command
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres --dbname "$@"
}

for name in airflow mlflow nightshift; do
  sql postgres <<SQL
\getenv password $(echo "$name" | tr '[:lower:]' '[:upper:]')_DB_PASSWORD
CREATE ROLE $name LOGIN PASSWORD :'password';
CREATE DATABASE $name OWNER $name;
REVOKE ALL ON DATABASE $name FROM PUBLIC;
SQL
done
echo 'CREATE EXTENSION vector;' | sql nightshift
