#!/bin/sh
# Makes .venv-bi: Superset as infra/bi/requirements.lock names it, hash by hash. It cannot share .venv: it needs other versions of
# SQLAlchemy and pandas, and Python 3.11 or 3.12. The index is the one that pip is configured with on this machine.
set -eu

cd "$(dirname "$0")/../.."
stamp=$1

usable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null
}

python=
for candidate in "${PYTHON:-python3}" .venv/bin/python python3.12 python3.11; do
    if usable "$candidate"; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
    echo "error: Superset needs Python 3.11 or 3.12; name one with PYTHON=<path> make bi" >&2
    exit 1
fi

"$python" -m venv --clear .venv-bi
echo "installing Superset into .venv-bi"
pip() {
    .venv-bi/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes "$@"
}
# A few packages come as source, and are built with what the lock has.
sed -n '/^setuptools==/,/^[^ ]/{/^setuptools==/p;/^    --hash/p;}' infra/bi/requirements.lock >.venv-bi/setuptools.txt
pip -r .venv-bi/setuptools.txt
pip --no-build-isolation -r infra/bi/requirements.lock

touch "$stamp"
