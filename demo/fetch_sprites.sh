#!/bin/sh
# Download the pictogram packages from the npm registry into a folder (150 MB). With a second word,
# also the style that training never sees (70 MB more), drawn from its vector graphics.
# Usage: demo/fetch_sprites.sh FOLDER [held-out]
set -eu
if [ $# -lt 1 ] || [ "${2:-held-out}" != held-out ]; then
    echo "usage: $0 FOLDER [held-out]" >&2
    exit 2
fi
fetch() {
    npm install --prefix "$1" --no-save --ignore-scripts --no-audit --no-fund \
        emoji-datasource-google@16.0.0 \
        emoji-datasource-twitter@16.0.0 \
        @lobehub/fluent-emoji-3d@1.1.0 \
        $2
}
mkdir -p "$1"
if [ $# -eq 1 ]; then
    fetch "$1" ""
    exit
fi
fetch "$1" "openmoji@17.0.0 @resvg/resvg-js@2.6.2"
cd "$1"
node -e "
const fs = require('fs'), { Resvg } = require('@resvg/resvg-js')
const from = 'node_modules/openmoji/color/svg', to = 'node_modules/openmoji/color/128'
fs.mkdirSync(to, { recursive: true })
for (const name of fs.readdirSync(from)) {
    if (!/^[0-9A-F]+(-FE0F)?\\.svg$/.test(name)) continue  // single pictograms, no variants
    const svg = new Resvg(fs.readFileSync(from + '/' + name), { fitTo: { mode: 'width', value: 128 } })
    fs.writeFileSync(to + '/' + name.toLowerCase().replace('.svg', '.png'), svg.render().asPng())
}
"
