# For launchers, which source it: what their command line lacks.

# tell_missing "NAME NAME ..." "$@": when there are fewer arguments than names, say which are given
# and which are missing, print the comment at the top of the script, and exit with 2.
tell_missing() {
  local names=($1) name
  shift
  [ $# -lt ${#names[@]} ] || return 0
  for name in "${names[@]}"; do
    if [ $# -gt 0 ]; then echo "$name=$1" >&2 && shift; else echo "$name is missing" >&2; fi
  done
  tell_usage
}

# Print the comment at the top of the script, and exit with 2.
tell_usage() {
  sed -n '2,${/^#/!q;s/^# //p}' "$0" >&2
  exit 2
}
