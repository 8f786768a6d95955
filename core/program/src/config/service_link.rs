//! Which environment variables are what Kubernetes tells a pod of the services in its namespace, rather than settings.
//! A service `infera-gateway` with the port 8710 gives, among others, `INFERA_GATEWAY_SERVICE_HOST=10.0.0.1`,
//! `INFERA_GATEWAY_PORT=tcp://10.0.0.1:8710` and `INFERA_GATEWAY_PORT_8710_TCP_ADDR=10.0.0.1`.

/// Protocols of services' ports, as Kubernetes writes them in lower and upper case.
const PROTOCOLS: [(&str, &str); 3] = [("tcp", "TCP"), ("udp", "UDP"), ("sctp", "SCTP")];

/// What may follow a port's number and protocol in a name.
const DETAILS: [&str; 4] = ["", "_PROTO", "_PORT", "_ADDR"];

/// Whether Kubernetes set the variable. Two underscores are a setting's dot, which no service's name has.
pub(super) fn is_one(name: &str, value: &str) -> bool {
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_SERVICE_PORT")
            || name.contains("_SERVICE_PORT_")
            || (name.ends_with("_PORT") && is_address(value))
            || name.rsplit_once("_PORT_").is_some_and(|(_, port)| is_port(port))
            // The last detail is itself `_PORT`.
            || name.strip_suffix("_PORT").and_then(|name| name.rsplit_once("_PORT_")).is_some_and(|(_, port)| is_port(port)))
}

/// `tcp://10.0.0.1:8710`.
fn is_address(value: &str) -> bool {
    PROTOCOLS.iter().any(|(scheme, _)| value.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")))
}

/// `8710_TCP`, and what may follow.
fn is_port(text: &str) -> bool {
    let Some((number, rest)) = text.split_once('_') else { return false };
    let known = |(_, protocol): &(&str, &str)| {
        rest.strip_prefix(protocol).is_some_and(|rest| DETAILS.contains(&rest))
    };
    number.parse::<u16>().is_ok() && PROTOCOLS.iter().any(known)
}
