#!/bin/sh
# Fetch the pinned NiiVue with npm, check it against README.md beside this script and put its file here.
set -eu
version=0.69.0
here=$(cd "$(dirname "$0")" && pwd)
integrity=$(sed -n 's/^| npm integrity | `\(.*\)` |$/\1/p' "$here/README.md")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "@niivue/niivue@$version" > /dev/null
got="sha512-$(openssl dgst -sha512 -binary niivue-niivue-$version.tgz | base64 -w 0)"
if [ "$got" != "$integrity" ]; then
  echo "@niivue/niivue@$version: expected $integrity, got $got; do not use this file" >&2
  exit 1
fi
tar -xzf niivue-niivue-$version.tgz package/dist/niivue.umd.js
cp package/dist/niivue.umd.js "$here/niivue.umd.js"
