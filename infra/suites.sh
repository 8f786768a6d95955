# Sourced. The test targets that need real servers: those that a manifest marks `test = false`, so that a plain
# `cargo test` leaves them to `make test-services`. Read from the manifests, so that none is left out by forgetting it here.

# Prints `--test NAME` for each.
server_suites() {
    cargo metadata --no-deps --format-version 1 --locked | "${PYTHON:-python3}" -c '
import json, sys
targets = [target for package in json.load(sys.stdin)["packages"] for target in package["targets"]]
suites = sorted(target["name"] for target in targets if target["kind"] == ["test"] and not target["test"])
print(*(f"--test {suite}" for suite in suites), sep="\n")'
}
