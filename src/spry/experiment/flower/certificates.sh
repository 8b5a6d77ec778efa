#!/usr/bin/env bash
# Makes keys/: an authority, the server's certificate, and a pair of keys for each node. Existing ones stay.
# Usage: ./certificates.sh NODES [HOST...]    HOST: names or addresses of the server, beside localhost
set -euo pipefail
nodes=$${1:-2}
shift || true
cd "$$(dirname "$$0")"
mkdir -p keys
cd keys
umask 077
names="DNS:localhost,IP:127.0.0.1"
for host in "$$@"; do
  if [[ $$host =~ ^[0-9.]+$$ || $$host == *:* ]]; then names+=",IP:$$host"; else names+=",DNS:$$host"; fi
done
if [[ ! -f ca.crt ]]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -days 365 -subj "/CN=$name authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.crt 2>/dev/null
fi
if [[ ! -f server.pem ]]; then
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr \
    2>/dev/null
  printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' "$$names" > server.ext
  openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile server.ext \
    -out server.pem 2>/dev/null
  rm -f server.csr server.ext
fi
for ((node = 0; node < nodes; node++)); do
  [[ -f node$$node ]] || ssh-keygen -q -t ecdsa -b 384 -N "" -C "" -f "node$$node"
done
