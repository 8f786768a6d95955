# Sourced. Runs steps, of which a failed one doesn't stop the others, and adds up the checks that they report.

counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
failed=()

# Runs one step, keeps its output for the sum, and remembers whether it failed: step NAME COMMAND...
step() {
    local name=$1
    shift
    printf '\n== %s (%ss)\n' "$name" "$SECONDS"
    "$@" 2>&1 | tee -a "$counts" || failed+=("$name")
}

# Prints the sum of what test binaries and campaigns reported. A check that reported nothing is in the failed steps instead.
sum_up() {
    printf '\n== done (%ss)\n' "$SECONDS"
    awk '/^test result:/ { passed += $4; failed += $6 }
         /^[a-z ]+: [0-9]+ promises kept, [0-9]+ broken$/ { split($0, words, ": "); split(words[2], said, " ")
             passed += said[1]; failed += said[4] }
         END { printf "%d passed, %d failed\n", passed, failed }' "$counts"
}

# Exits with 1 and the names of the failed steps, if there are any.
verdict() {
    if [ "${#failed[@]}" -gt 0 ]; then
        printf 'failed: %s\n' "${failed[@]}" >&2
        exit 1
    fi
}
