#!/usr/bin/env bash
# Run the tests on the official OpenMMLab releases instead of the OneDL fork.
#
#     bash tools/dev/test_official.sh FOLDER [PYTHON] [pytest's arguments]
#
# The first call makes a virtual environment of PYTHON (default: python3.11; torch 2.1 has no wheels
# for newer ones) in FOLDER, outside the tree: 3 GB of downloads, 6 GB on disk, most of it torch, and
# mmcv built from its source with its operators for CPUs. Later calls only run the tests.
# FOLDER/versions.txt says what is installed.
set -euo pipefail
folder=$(realpath -m "$1")
python=${2:-python3.11}
shift $(($# < 2 ? $# : 2))
cd "$(dirname "$0")/../.."
case "$folder/" in
    "$PWD"/*) echo "$folder is inside the tree; name a folder outside" >&2; exit 2;;
esac
unset PYTHONPATH

if [ ! -e "$folder/versions.txt" ]; then
    "$python" -m venv "$folder"
    pip="$folder/bin/python -m pip"
    $pip install --quiet --upgrade pip
    $pip install --quiet -r requirements/openmmlab.txt wheel ninja psutil
    # Its setup.py imports torch, so no isolation. The operators are for CPUs, whatever compiler
    # of CUDA there is, and not optimised, which takes less than half the time: no test needs them
    # fast. The constraints keep its dependencies from bringing numpy 2.
    env -u CUDA_HOME CUDA_VISIBLE_DEVICES= FORCE_CUDA=0 MMCV_WITH_OPS=1 CFLAGS='-O0 -g0' \
        $pip install --quiet -c requirements/openmmlab.txt --no-build-isolation \
        --no-binary mmcv mmcv==2.1.0
    $pip install --quiet -e '.[openmmlab,crf,web,onnx,dev]' \
        mmengine==0.10.7 mmsegmentation==1.2.2 mmpretrain==1.2.0
    "$folder/bin/python" -c 'import mmcv._ext'
    $pip freeze --exclude-editable > "$folder/versions.txt"
fi
"$folder/bin/python" -m pytest "$@"
