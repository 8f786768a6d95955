//! What a node may send: to which exchange, under which name, and how much of it.

use infera_broker::{Address, Broker as _, Published};
use lapin::BasicProperties;

use crate::stage::{ACCESS_REFUSED, PRECONDITION_FAILED, Stage, message, more_keys, next, publish, silent};

/// The default exchange reaches every queue by its name, so a node may write neither to it nor to the operator's
/// exchange.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_exchange_is_refused() {
    let stage = Stage::set().await;
    let connection = stage.connect().await;
    for exchange in ["", "infera.network", "amq.topic", "amq.fanout", "amq.direct"] {
        let fleeting = ["deltas.g1", "tokens.v1", "watch.v1", "watch"];
        let others = [&stage.jobs.name, &stage.private.name, &stage.own.name].map(String::as_str);
        for key in others.into_iter().chain(fleeting) {
            let channel = stage.channel(&connection).await;
            let refused = publish(&channel, (exchange, key), BasicProperties::default(), b"x").await;
            assert_eq!(refused, Err(ACCESS_REFUSED), "{exchange:?} {key}");
        }
    }
    stage.clear().await;
}

/// Heartbeats, replicas and refusals in another node's name, and keys that only look like the node's own, are
/// refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_routing_keys_are_refused() {
    let stage = Stage::set().await;
    let (node, victim) = (&stage.node, &stage.victim);
    let connection = stage.connect().await;
    for key in [
        format!("{victim}.heartbeat"),
        format!("{victim}.replica.any"),
        format!("{victim}.refusal.v1"),
        format!("{victim}.parked"),
        format!("{victim}.tokens.v1"),
        format!("{node}x.heartbeat"),
        format!("{node}x.tokens.v1"),
        "tokens.v1".to_owned(),
        "deltas.g1".to_owned(),
        "watch.v1".to_owned(),
        "watch".to_owned(),
        format!("{node}"),
        format!(".{node}.heartbeat"),
        "capacity".to_owned(),
        "heartbeat".to_owned(),
        String::new(),
        "*.heartbeat".to_owned(),
        "#".to_owned(),
        format!("*.{node}"),
    ] {
        let channel = stage.channel(&connection).await;
        let properties = BasicProperties::default().with_user_id(node.as_str().into());
        assert_eq!(stage.publish(&channel, &key, properties, "forged").await, Err(ACCESS_REFUSED), "{key:?}");
    }
    let mut hears = stage.hears().await;
    silent(&mut hears).await;
    stage.clear().await;
}

/// A runner may call his node `*`, but its id is ours, and no token has such a name. If one had, the name would be a
/// word like any other in a key, and a pattern only in the scope.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_called_star_speaks_for_nobody() {
    let stage = Stage::set().await;
    let (star, victim) = ("*", &stage.victim);
    let mut claims = stage.claims();
    claims["sub"] = star.into();
    claims["scope"] = serde_json::json!([format!("rabbitmq.write:%2F/infera.nodes/{star}.*")]);
    let connection = crate::stage::log_in(&crate::stage::signed(&claims)).await.unwrap();
    let key = format!("{victim}.heartbeat");
    // The scope is a pattern that matches every key, so an id must never be made from a runner's word.
    let channel = stage.channel(&connection).await;
    let as_star = BasicProperties::default().with_user_id(star.into());
    assert_eq!(stage.publish(&channel, &key, as_star, "as star").await, Ok(()));
    let as_victim = BasicProperties::default().with_user_id(victim.as_str().into());
    assert_eq!(stage.publish(&channel, &key, as_victim, "as victim").await, Err(PRECONDITION_FAILED));
    // Even then the user that the broker vouches for is not the victim.
    let mut hears = stage.hears().await;
    silent(&mut hears).await;
    stage.clear().await;
}

/// RabbitMQ 4 checks the keys in `CC` against the token, too; in 3.10 they get past its check. The reader drops
/// everything that carries `CC`, copies and original, even if every key is the sender's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_dropped() {
    let stage = Stage::set().await;
    let connection = stage.connect().await;
    let key = format!("{}.heartbeat", stage.node);
    let copied_to = |key: String| more_keys("CC", &[&key]).with_user_id(stage.node.as_str().into());
    let channel = stage.channel(&connection).await;
    let victims = copied_to(format!("{}.heartbeat", stage.victim));
    stage.let_pass_or_refused(&channel, &key, victims, "copied to another").await;
    let channel = stage.channel(&connection).await;
    let own = copied_to(format!("{}.capacity", stage.node));
    assert_eq!(stage.publish(&channel, &key, own, "copied").await, Ok(()), "the broker lets it pass");
    stage.speak_properly(&channel, "proper").await;
    let mut hears = stage.hears().await;
    let delivery = next(&mut hears).await;
    assert_eq!(delivery.message.id, "proper", "the one before was dropped");
    assert!(delivery.ack().await);
    silent(&mut hears).await;
    stage.clear().await;
}

/// `BCC` leaves no trace, so its copy is delivered, but under the key that was checked and so as the sender's own. If
/// the copy's key is another node's, RabbitMQ 4 refuses it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_copies_count_for_their_sender() {
    let stage = Stage::set().await;
    let connection = stage.connect().await;
    let channel = stage.channel(&connection).await;
    let victims = format!("{}.replica.any", stage.victim);
    let properties = more_keys("BCC", &[&victims]).with_user_id(stage.node.as_str().into());
    let key = format!("{}.replica.any", stage.node);
    let is_let_pass = stage.let_pass_or_refused(&channel, &key, properties, "hidden").await;
    let mut hears = stage.hears().await;
    if is_let_pass {
        let delivery = next(&mut hears).await;
        assert_eq!(delivery.sender(), stage.node.as_str(), "{delivery:?}");
        assert!(delivery.ack().await);
    }
    silent(&mut hears).await;
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_its_user_is_dropped() {
    let stage = Stage::set().await;
    let connection = stage.connect().await;
    let channel = stage.channel(&connection).await;
    let key = format!("{}.heartbeat", stage.node);
    assert_eq!(stage.publish(&channel, &key, BasicProperties::default(), "nameless").await, Ok(()));
    stage.speak_properly(&channel, "proper").await;
    let mut hears = stage.hears().await;
    let delivery = next(&mut hears).await;
    assert_eq!(delivery.message.id, "proper", "the one before was dropped");
    assert!(delivery.ack().await);
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_is_refused() {
    let stage = Stage::set().await;
    let connection = stage.connect().await;
    for user in [stage.victim.as_str(), "infera", "guest"] {
        let channel = stage.channel(&connection).await;
        let properties = BasicProperties::default().with_user_id(user.into());
        let key = format!("{}.heartbeat", stage.node);
        assert_eq!(
            stage.publish(&channel, &key, properties, "forged").await,
            Err(PRECONDITION_FAILED),
            "{user}"
        );
    }
    let mut hears = stage.hears().await;
    silent(&mut hears).await;
    stage.clear().await;
}

/// Messages of sixty megabytes are refused, because one is allowed. The operator's own connection is not affected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_messages_are_refused() {
    let stage = Stage::set().await;
    let connection = stage.connect().await;
    let channel = stage.channel(&connection).await;
    let huge = vec![b' '; 60 * 1024 * 1024];
    let key = format!("{}.replica.any", stage.node);
    let properties = BasicProperties::default().with_user_id(stage.node.as_str().into());
    let refused = publish(&channel, ("infera.nodes", &key), properties, &huge).await;
    assert_eq!(refused, Err(PRECONDITION_FAILED));
    let address = Address::Nodes(format!("{}.heartbeat", stage.victim));
    assert_eq!(stage.operator.publish(&address, message("meanwhile")).await, Published::Confirmed);
    let mut hears = stage.hears().await;
    let delivery = next(&mut hears).await;
    assert_eq!(delivery.message.id, "meanwhile");
    assert!(delivery.ack().await);
    silent(&mut hears).await;
    stage.clear().await;
}
