//! Reaches a gateway on loopback under several names. A web page whose own name resolves to loopback gets nothing.

use infera_gateway::Config;
use infera_gateway::config::HostName;
use serde_json::json;

use crate::support::client;
use crate::support::rig::{Rig, unlimited};

async fn ask(rig: &Rig, target: &str, host: Option<&str>) -> client::Reply {
    let (version, header) = match host {
        Some(host) => ("1.1", format!("Host: {host}\r\n")),
        None => ("1.0", String::new()),
    };
    let request = format!("GET {target} HTTP/{version}\r\n{header}Connection: close\r\n\r\n");
    client::send_raw(rig.address, request.as_bytes()).await.expect("in time").expect("a reply")
}

#[tokio::test]
async fn only_loopbacks_own_names_and_listed_ones_are_answered() {
    let listed = HostName::try_from("Infera.example".to_owned()).expect("a name");
    let rig = Rig::start(Config { hosts: vec![listed], ..unlimited() }).await;
    let port = rig.address.port();
    for host in
        ["localhost", "LocalHost", "127.0.0.1", "127.9.8.7", "[::1]", "infera.example", "infera.example."]
    {
        assert_eq!(ask(&rig, "/healthz", Some(host)).await.status, 200, "{host}");
        assert_eq!(ask(&rig, "/healthz", Some(&format!("{host}:{port}"))).await.status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "192.0.2.1", "[2001:db8::1]"] {
        for path in ["/healthz", "/signup_user", "/nowhere"] {
            let reply = ask(&rig, path, Some(&format!("{host}:{port}"))).await;
            assert_eq!(reply.status, 421, "{host}");
            let words = reply.json()["detail"].as_str().expect("words").to_owned();
            assert!(words.contains(host) && words.contains("gateway.hosts"), "{words}");
        }
        let reply = ask(&rig, "/v1/models", Some(host)).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (421, &json!("wrong_host")));
        let target = format!("http://{host}/healthz");
        assert_eq!(ask(&rig, &target, Some("localhost")).await.status, 421, "{target}");
    }
    assert_eq!(ask(&rig, "/healthz", None).await.status, 200, "HTTP/1.0 has no hosts");
    let with_host = b"GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n";
    let reply = client::send_raw(rig.address, with_host).await.expect("in time").expect("a reply");
    assert_eq!(reply.status, 421, "unless it names one");
}
