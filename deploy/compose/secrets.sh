#!/bin/sh
# Makes what the services of compose.yaml must not share with others, in secrets/. What is there already stays.
set -eu
cd "$(dirname "$0")"

# Only you can enter the folder. The files in it must be readable by the users of the containers, which are none of yours.
mkdir -p -m 700 secrets
umask 022

make() {
    [ -s "secrets/$1" ] || openssl rand "$2" 32 >"secrets/$1"
}

make admin_token -hex
make cache_key -base64
make redis_password -hex
make grafana_password -hex
printf 'requirepass %s\n' "$(cat secrets/redis_password)" >secrets/redis_conf
