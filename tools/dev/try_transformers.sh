#!/usr/bin/env bash
# Run the tests of imports and text towers with each major version of transformers that is supported.
#
#     bash tools/dev/try_transformers.sh [PYTHON]
#
# transformers and what it needs beside PYTHON's packages go to temporary folders, without their
# dependencies, so the environment stays as it is. Without transformers, the suite is the test.
set -euo pipefail
python=${1:-python}
cd "$(dirname "$0")/../.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

try() {
    local folder="$place/$1"
    shift
    "$python" -m pip install --quiet --no-deps --target "$folder" safetensors regex "$@"
    PYTHONPATH="$PWD:$folder" "$python" -m pytest -q -p no:cacheprovider \
        tests/clip/test_transformers.py tests/test_frameworks.py
}

try 4 'transformers==4.*' 'tokenizers>=0.22,<=0.23.0' 'huggingface_hub<1' hf_xet
try 5 'transformers==5.*' tokenizers huggingface_hub
