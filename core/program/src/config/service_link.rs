//! Recognizes the environment variables by which Kubernetes tells a pod about the services in its namespace; they are
//! not settings. A service `infera-gateway` with the port 8710 yields, among others,
//! `INFERA_GATEWAY_SERVICE_HOST=10.0.0.1`, `INFERA_GATEWAY_PORT=tcp://10.0.0.1:8710` and
//! `INFERA_GATEWAY_PORT_8710_TCP_ADDR=10.0.0.1`.

/// The protocols of services' ports, as Kubernetes writes them in lower and upper case.
const PROTOCOLS: [(&str, &str); 3] = [("tcp", "TCP"), ("udp", "UDP"), ("sctp", "SCTP")];

/// The suffixes that may follow a port's number and protocol in a name.
const DETAILS: [&str; 4] = ["", "_PROTO", "_PORT", "_ADDR"];

/// Returns whether Kubernetes set the variable. Two underscores stand for a setting's dot, and no service's name has
/// them.
pub(super) fn is_one(name: &str, value: &str) -> bool {
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_SERVICE_PORT")
            || name.contains("_SERVICE_PORT_")
            || (name.ends_with("_PORT") && is_address(value))
            || name.rsplit_once("_PORT_").is_some_and(|(_, port)| is_port(port))
            // The last suffix is itself `_PORT`.
            || name.strip_suffix("_PORT").and_then(|name| name.rsplit_once("_PORT_")).is_some_and(|(_, port)| is_port(port)))
}

/// Returns whether the text has the form `tcp://10.0.0.1:8710`.
fn is_address(value: &str) -> bool {
    PROTOCOLS.iter().any(|(scheme, _)| value.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")))
}

/// Returns whether the text has the form `8710_TCP`, with or without a suffix.
fn is_port(text: &str) -> bool {
    let Some((number, rest)) = text.split_once('_') else { return false };
    let known = |(_, protocol): &(&str, &str)| {
        rest.strip_prefix(protocol).is_some_and(|rest| DETAILS.contains(&rest))
    };
    number.parse::<u16>().is_ok() && PROTOCOLS.iter().any(known)
}
