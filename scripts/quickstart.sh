#!/usr/bin/env bash
# From nothing to a report: makes .venv, installs, trains and certifies on the embedded data.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
# torch first: constraints.txt names a build for the CPU
.venv/bin/pip install -q -c constraints.txt torch
.venv/bin/pip install -q -c constraints.txt -e ".[quickstart]"
exec .venv/bin/robust-nlp quickstart "$@"
