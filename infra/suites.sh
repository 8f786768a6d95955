# Sourced. Lists the test targets that need real servers: those that a manifest marks `test = false`, which a plain
# `cargo test` leaves to `make test-services`. They are read from the manifests, so that none is forgotten here.

# Prints `--test NAME` for each.
server_suites() {
    cargo metadata --no-deps --format-version 1 --locked | "${PYTHON:-python3}" -c '
import json, sys
targets = [target for package in json.load(sys.stdin)["packages"] for target in package["targets"]]
suites = sorted(target["name"] for target in targets if target["kind"] == ["test"] and not target["test"])
print(*(f"--test {suite}" for suite in suites), sep="\n")'
}
