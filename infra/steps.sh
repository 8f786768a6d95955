# Sourced. A run of steps of which a failed one doesn't stop the others, and the sum of what they said.

counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
failed=()

# Runs one step, keeps what it says for the sum, and remembers when it fails: step NAME COMMAND...
step() {
    local name=$1
    shift
    printf '\n== %s (%ss)\n' "$name" "$SECONDS"
    "$@" 2>&1 | tee -a "$counts" || failed+=("$name")
}

# The last line sums what test binaries and campaigns said. A check that never spoke is in the failed steps instead.
sum_up() {
    printf '\n== done (%ss)\n' "$SECONDS"
    awk '/^test result:/ { passed += $4; failed += $6 }
         /^[a-z ]+: [0-9]+ promises kept, [0-9]+ broken$/ { split($0, words, ": "); split(words[2], said, " ")
             passed += said[1]; failed += said[4] }
         END { printf "%d passed, %d failed\n", passed, failed }' "$counts"
}

# Ends with 1 and the names of what failed, if anything did.
verdict() {
    if [ "${#failed[@]}" -gt 0 ]; then
        printf 'failed: %s\n' "${failed[@]}" >&2
        exit 1
    fi
}
