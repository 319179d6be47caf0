#!/bin/sh
# Makes cert.pem and key.pem in this folder, for the names and addresses by which a phone on the
# same network reaches this machine:
#
#     sh make_certificate.sh 192.168.1.20 kiosk.lan
set -eu
[ $# -gt 0 ] || { echo "usage: sh make_certificate.sh ADDRESS_OR_NAME…" >&2 && exit 2; }

names=""
for name in "$@"; do
    case "$name" in
        *:*) kind=IP ;;
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
    esac
    names="$names,$kind:$name"
done
umask 077 # the key is nobody else's
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 397 \
    -subj "/CN=$1" -addext "subjectAltName=${names#,}" -keyout key.pem -out cert.pem
chmod 644 cert.pem
