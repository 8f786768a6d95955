//! The operator's commands on a data folder, while a network runs on it and while none does.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use infera::commands::{ShowError, show_record};
use infera::data_folder::{DataFolder, operators_in};
use infera::network::Network;
use infera::operators::AskError;
use infera_types::ids::JobId;
use infera_types::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::client::{Client, question};
use crate::stage::{Stage, config, eventually};

/// The program itself, on this folder.
pub(crate) fn infera(data: &Path, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_infera"))
        .args(words)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// What a program said.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// The whole reply to one request at a network's socket for commands.
async fn ask(socket: &Path, key: &str, method: &str, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.expect("it listens");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("it answers");
    reply
}

async fn asked_and_archived(stage: &Stage) -> (JobId, String) {
    let reply = stage.client.chat(&question("What is 2 + 3?")).await;
    let job: JobId = reply.json["job_id"].as_str().expect("a job").parse().expect("an id");
    let data = stage.config.data.clone();
    let line = eventually("the record is archived", async || show_record(&data, job).await.ok()).await;
    (job, line)
}

/// The one segment of an archive.
fn segment(data: &Path) -> PathBuf {
    let mut path = data.join("archive");
    while path.is_dir() {
        let mut entries = std::fs::read_dir(&path).expect("a folder");
        path = entries.next().expect("something in it").expect("an entry").path();
        assert!(entries.next().is_none(), "{} holds one thing", path.display());
    }
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_record_is_shown_beside_a_network_and_without_one() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let (job, line) = asked_and_archived(&stage).await;
    let record: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(record["job_id"], json!(job.to_string()));
    assert_eq!(record["settlement"]["group"]["assignments"].as_array().map(Vec::len), Some(3), "{line}");
    let beside = infera(&stage.config.data, &["archive", "show", &job.to_string()], "");
    assert_eq!((beside.status.code(), text(&beside.stdout)), (Some(0), format!("{line}\n").as_str()));

    let unknown = JobId::new();
    let error = show_record(&stage.config.data, unknown).await.expect_err("no such job");
    assert!(matches!(&error, ShowError::Ask(AskError::Told { may_pass: true, .. })), "{error}");
    assert!(error.to_string().contains(&format!("job {unknown} has no record")), "{error}");

    let folder = stage.close().await;
    let alone = infera(folder.path(), &["archive", "show", &job.to_string()], "");
    assert_eq!((alone.status.code(), text(&alone.stdout)), (Some(0), format!("{line}\n").as_str()));
    let nothing = infera(folder.path(), &["archive", "show", &unknown.to_string()], "");
    assert_eq!((nothing.status.code(), text(&nothing.stdout)), (Some(1), ""));
    assert!(text(&nothing.stderr).contains(&format!("job {unknown} has no record")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_told_as_damaged_either_way() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let (job, _) = asked_and_archived(&stage).await;
    let folder = stage.close().await;
    let path = segment(folder.path());
    let mut bytes = std::fs::read(&path).expect("the segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, &bytes).expect("it rots");

    let alone = infera(folder.path(), &["archive", "show", &job.to_string()], "");
    assert_eq!((alone.status.code(), text(&alone.stdout)), (Some(3), ""));
    let damaged = format!("record of {job} in jobs/");
    assert!(text(&alone.stderr).contains(&damaged), "{}", text(&alone.stderr));

    let network = Network::start(config(folder.path(), 3)).await.expect("it starts");
    let shutdown = Shutdown::new();
    let running = tokio::spawn(network.run(shutdown.clone()));
    let beside = infera(folder.path(), &["archive", "show", &job.to_string()], "");
    assert_eq!((beside.status.code(), text(&beside.stdout)), (Some(3), ""));
    assert!(text(&beside.stderr).contains(&damaged), "{}", text(&beside.stderr));
    shutdown.cancel();
    running.await.expect("no panic").expect("every role ends well");
}

/// The socket for commands takes the key for local use and no other, however good.
#[tokio::test(flavor = "multi_thread")]
async fn another_accounts_key_shows_no_record() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let (job, line) = asked_and_archived(&stage).await;
    let socket = operators_in(&stage.config.data);
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let signed_up =
        stage.client.call("POST", "/signup_user", Some(&json!({"email": "other@example.com"}))).await;
    let other = signed_up.json["api_key"].as_str().expect("a key").to_owned();
    let path = format!("/archive/{job}");
    for key in [other, String::new(), format!("{}x", stage.client.key)] {
        let reply = ask(&socket, &key, "GET", &path).await;
        assert!(reply.starts_with("HTTP/1.1 401 ") && !reply.contains("job_id"), "{reply}");
    }
    let reply = ask(&socket, &stage.client.key, "GET", &path).await;
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with(&line), "{reply}");
    for (method, path, status) in
        [("POST", path.as_str(), 405), ("GET", "/archive/x", 400), ("GET", "/metrics", 400)]
    {
        let reply = ask(&socket, &stage.client.key, method, path).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {reply}");
    }
    stage.close().await;
}

/// A folder that is held by a process that doesn't answer.
#[tokio::test]
async fn what_holds_the_folder_and_does_not_answer_is_named() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let data = DataFolder::open(folder.path()).expect("a data folder");
    std::fs::write(data.ledger(), "not looked into here").expect("a ledger");
    data.note("http://127.0.0.1:1", "inf_x").expect("noted");
    let error = show_record(folder.path(), JobId::new()).await.expect_err("not noted");
    assert!(matches!(error, ShowError::Ask(AskError::Away { .. })), "{error}");
    // One that was killed leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(operators_in(folder.path())).expect("a socket"));
    let error = show_record(folder.path(), JobId::new()).await.expect_err("away");
    assert!(matches!(error, ShowError::Ask(AskError::Away { .. })), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

/// A leaked key is revoked beside the network that it opens, which takes it no more within its gateways' five seconds, nor after the
/// next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_opens_nothing_any_more() {
    let mut stage = Stage::open(1).await;
    let signed_up =
        stage.client.call("POST", "/signup_user", Some(&json!({"email": "leaky@example.com"}))).await;
    let leaked = signed_up.json["api_key"].as_str().expect("a key").to_owned();
    stage.run(1).await;
    let client = Client { address: stage.client.address, key: leaked.clone() };
    assert_eq!(client.call("GET", "/v1/models", None).await.status, 200);
    let typo = format!("{}x", &leaked[..leaked.len() - 1]);
    let mistyped = infera(&stage.config.data, &["account", "revoke-key"], &typo);
    assert_eq!(mistyped.status.code(), Some(2), "{}", text(&mistyped.stderr));
    let revoked = infera(&stage.config.data, &["account", "revoke-key"], &format!("{leaked}\n"));
    assert_eq!(revoked.status.code(), Some(0), "{}", text(&revoked.stderr));
    assert!(text(&revoked.stdout).contains("is revoked"), "{}", text(&revoked.stdout));
    eventually("it is refused", async || {
        (client.call("GET", "/v1/models", None).await.status == 401).then_some(())
    })
    .await;
    let folder = stage.close().await;

    let again = infera(folder.path(), &["account", "revoke-key"], &leaked);
    assert_eq!(again.status.code(), Some(3));
    for output in [&mistyped, &revoked, &again] {
        for key in [&leaked, &typo] {
            assert!(!text(&output.stdout).contains(key) && !text(&output.stderr).contains(key));
        }
    }
    let network = Network::start(config(folder.path(), 1)).await.expect("it starts");
    let client = Client { address: network.address, key: leaked };
    let shutdown = Shutdown::new();
    let running = tokio::spawn(network.run(shutdown.clone()));
    assert_eq!(client.call("GET", "/v1/models", None).await.status, 401);
    shutdown.cancel();
    running.await.expect("no panic").expect("every role ends well");
}

/// The program on this folder, where commands of several words have their flags in other places.
fn ordered(data: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infera"));
    command.args(words).env("INFERA_DATA", data).output().expect("it runs")
}

/// What an operator orders of the ledger is done beside a network that runs, as on a folder that nothing runs on, and ends with the
/// same codes.
#[tokio::test(flavor = "multi_thread")]
async fn orders_of_the_ledger_are_carried_out_beside_a_network_and_without_one() {
    let mut stage = Stage::open(3).await;
    stage.run(3).await;
    let signed_up =
        stage.client.call("POST", "/signup_user", Some(&json!({"email": "client@example.com"}))).await;
    assert_eq!(signed_up.status, 200, "{}", signed_up.json);
    let orders = |data: &Path| {
        for (words, code, said) in [
            (&["model", "price", "infera-tiny", "0.15", "0.60"][..], 0, "infera-tiny costs 0.15"),
            (&["account", "limit", "client@example.com", "25.50"], 0, "may spend 25.5"),
            (&["account", "pays", "client@example.com"], 0, "pays"),
            (&["account", "prove", "client@example.com"], 0, ""),
            (&["account", "weigh", "client@example.com", "2"], 0, ""),
            (&["key", "list", "client@example.com"], 0, "key_"),
            (&["node", "backstop", "resident-3", "off"], 0, ""),
            (&["node-group", "list", "client@example.com"], 0, ""),
            (&["model", "price", "infera-tiny", "dear", "0.60"], 2, "dear"),
            (&["account", "limit", "stranger@example.com", "1"], 3, "stranger@example.com"),
            (&["model", "price", "no-such", "1", "1"], 3, "no-such"),
        ] {
            let ended = ordered(data, words);
            let both = format!("{}{}", text(&ended.stdout), text(&ended.stderr));
            assert_eq!(ended.status.code(), Some(code), "{words:?}: {both}");
            assert!(both.contains(said), "{words:?}: {both}");
        }
        let made = ordered(data, &["key", "create-admin"]);
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        text(&made.stdout).lines().last().expect("a key").to_owned()
    };
    let data = stage.config.data.clone();
    let key = tokio::task::spawn_blocking(move || orders(&data)).await.expect("no panic");
    let admin = Client { address: stage.client.address, key };
    eventually("the new key opens it, and the price is shown", async || {
        let listed = admin.call("GET", "/v1/models", None).await;
        (listed.status == 200 && listed.json.to_string().contains("0.00000015")).then_some(())
    })
    .await;
    let folder = stage.close().await;
    orders(folder.path());
}
