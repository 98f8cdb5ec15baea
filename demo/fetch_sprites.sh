#!/bin/sh
# Download the three pictogram packages from the npm registry (150 MB) into a folder.
# Usage: demo/fetch_sprites.sh FOLDER
set -eu
if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
mkdir -p "$1"
npm install --prefix "$1" --no-save --ignore-scripts --no-audit --no-fund \
    emoji-datasource-google@16.0.0 \
    emoji-datasource-twitter@16.0.0 \
    @lobehub/fluent-emoji-3d@1.1.0
