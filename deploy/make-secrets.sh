#!/bin/sh
# Makes the random secrets that the compose files read: the folder `secrets/` and the file `.env` beside this script.
# What is there already is kept. Run it again after the upgrade of a file that asks for more.
set -eu
umask 077
cd "$(dirname "$0")"

random() { # hexadecimal, so that it can stand in a URL and in XML as it is
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

mkdir -p secrets # only its owner can enter it: the container runtime hands the file itself to the container,
if [ ! -s secrets/admin_token ]; then
    random > secrets/admin_token
    chmod 0444 secrets/admin_token # whose user 10001 has to read it
fi

touch .env
add() {
    if ! grep -q "^$1=" .env; then
        echo "$1=$2" >> .env
    fi
}
password=$(random)
add THALWEG_CLICKHOUSE_PASSWORD "$password"
password=$(sed -n 's/^THALWEG_CLICKHOUSE_PASSWORD=//p' .env)
add THALWEG_CLICKHOUSE_PASSWORD_SHA256 "$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)"
add CLICKHOUSE_CLUSTER_SECRET "$(random)"
add S3_ACCESS_KEY "thalweg-$(random | cut -c 1-12)"
add S3_SECRET_KEY "$(random)"
echo "secrets/admin_token and .env are there. Nobody else can read them; back them up, and never commit them."
