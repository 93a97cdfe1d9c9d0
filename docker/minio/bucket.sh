#!/bin/sh
# The bucket, and the user whose key our programs have: it may use this bucket and nothing else. Run at every start.
set -eu

# An alias of mc is a variable: so no password is in a command.
export MC_HOST_store="http://root:$MINIO_ROOT_PASSWORD@minio:9000"
mc mb --ignore-existing store/nightshift
# mc reads the new user's name and key from standard input, a line each.
printf 'nightshift\n%s\n' "$S3_SECRET_KEY" | mc admin user add store
mc admin policy create store nightshift /policy.json
mc admin policy attach store nightshift --user nightshift || mc admin user info store nightshift
