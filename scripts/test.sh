#!/usr/bin/env bash
# Everything that CI checks: lint, types, tests, the wheel, and the core on transformers 4.
#
#   scripts/test.sh             all of it
#   scripts/test.sh --quick     lint, types and the faster tests only
#
# PYTHON names the interpreter (default python3). Environments are made beside the project:
# .venv (transformers 5) and .venv-transformers4.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PIP_DISABLE_PIP_VERSION_CHECK=1

environment() { # environment FOLDER REQUIREMENT...
    local folder=$1
    shift
    [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
    # torch first, so that nothing else picks a larger build of it
    "$folder/bin/pip" install -q -c constraints.txt torch
    "$folder/bin/pip" install -q -c constraints.txt "$@"
}

environment .venv -e ".[test]" "transformers>=5"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
if [ "${1:-}" = "--quick" ]; then
    .venv/bin/python -m pytest -q -n 2 -m "not slow"
    exit
fi
.venv/bin/python -m pytest -q -n 2

# The wheel builds, and installs and works without the repository.
dist=$(mktemp -d)
trap 'rm -rf "$dist"' EXIT
.venv/bin/python -m build -q --wheel --outdir "$dist" >/dev/null
"$python" -m venv "$dist/env"
"$dist/env/bin/pip" install -q --no-deps "$dist"/*.whl
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
(cd "$dist" && PYTHONPATH="$site" env/bin/python - <<'PY')
import importlib.resources
import robust_nlp
assert "site-packages" in robust_nlp.__file__, robust_nlp.__file__
package = importlib.resources.files("robust_nlp")
for name in ("resources/reviews.jsonl", "resources/quickstart.yaml", "templates/report.html.j2",
             "templates/report.css", "py.typed"):
    assert (package / name).is_file(), name
base = robust_nlp.CallableClassifier(lambda texts: [[len(t), 1.0] for t in texts], ["long", "short"])
smoothed = robust_nlp.SmoothedClassifier(base, robust_nlp.RandomizedDeletion(p_del=0.8))
assert smoothed.certify(["a wheel that works"], robust_nlp.ExactPlan())[0].predicted == 0
print("wheel works:", robust_nlp.__version__)
PY

# The core on the transformers that TextAttack still needs, and what needs TextAttack.
environment .venv-transformers4 -e ".[attack,test]" "transformers>=4.57,<5"
.venv-transformers4/bin/python -m pytest -q -n 2 -m "not slow"
