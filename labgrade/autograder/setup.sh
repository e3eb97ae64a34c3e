#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image of the autograder: Python 3.11 or newer, and the lab.
# AUTOGRADER_ROOT is where the folder /autograder lies, should you try this elsewhere.
set -euo pipefail
root=${AUTOGRADER_ROOT:-/autograder}

fits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if fits "$python"; then
            echo "$python"
            return
        fi
    done
}

python=$(find_python)
if [ -z "$python" ]; then
    apt-get update -qq
    apt-get install -y -qq python3.11 python3.11-venv
    python=$(find_python)
fi
"$python" -m venv "$root/lab"
"$root/lab/bin/python" -m pip install -q "$root/source/lab"
