# shellcheck shell=bash
# To be sourced: says that a part of the tests was left out, which is not a pass.
#
# STILLWAKE_LEAVE_NOTHING_OUT=1 makes leaving out a failure, as in CI.
left_out() {
    echo "LEFT OUT: $1: $2. This part is not passed." >&2
    [ "${STILLWAKE_LEAVE_NOTHING_OUT:-}" != 1 ] || exit 1
}
