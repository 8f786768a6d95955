//! Tests fleeting messages on a line that is frozen or cut: sending never waits and keeps a bounded number of them,
//! readers get the newest, and publishes that are confirmed are not held up by a flood.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infera_broker::{Address, Broker, Consumer, Fleeting as _, Message, Published, Queue, Sent};
use tokio::time::{Instant, sleep, timeout};

use super::broker;
use super::line::{Line, State};
use super::outages::{message, queue};

/// How long an expected event may take: the client detects a dead peer after twice its heartbeat of ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// The size of a large frame in bytes.
const LARGE: usize = 64 * 1024;

fn fleeting(length_max: u64) -> Queue {
    Queue::fleeting(queue().name, Vec::new(), length_max, length_max * LARGE as u64)
}

fn large(number: usize) -> Message {
    Message { body: Bytes::from(vec![b'x'; LARGE]), ..message(&format!("{number:05}")) }
}

/// Makes a frame of a usual size.
fn frame(number: usize) -> Message {
    Message { body: Bytes::from(vec![b'x'; 4_096]), ..message(&number.to_string()) }
}

fn to(queue: &Queue) -> Address {
    Address::Queue(queue.name.clone())
}

/// Sends frames under this id until one arrives.
async fn send_until_read(broker: &dyn Broker, queue: &Queue, reader: &mut Box<dyn Consumer>, id: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        broker.publish_fleeting(&to(queue), message(id));
        match timeout(Duration::from_millis(100), reader.next()).await {
            Ok(Some(delivery)) if delivery.message.id == id => return,
            Ok(Some(_)) => {}
            Ok(None) => panic!("the subscription ended"),
            Err(_) => assert!(Instant::now() < until, "no frame arrives"),
        }
    }
}

/// 38 MiB of frames meet a line that passes nothing: beyond 4 MiB that wait and what the broker was not yet asked about
/// they are dropped, no call waits, and once the line passes again so do new frames.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_for_a_frozen_line_are_dropped_and_new_ones_pass_when_it_thaws() {
    const COUNT: usize = 600;
    let (there, line) = (broker(), Line::new().await);
    let broker = line.broker(1_000);
    let queue = fleeting(10);
    there.declare(&queue).await.unwrap();
    let mut reader = there.consume(&queue.name, 1).await.unwrap();
    send_until_read(&*broker, &queue, &mut reader, "before").await;

    line.set(State::Frozen);
    let mut outcomes = Vec::new();
    let mut slowest = Duration::ZERO;
    for number in 0..COUNT {
        let began = Instant::now();
        outcomes.push(broker.publish_fleeting(&to(&queue), large(number)));
        slowest = slowest.max(began.elapsed());
        sleep(Duration::from_millis(1)).await;
    }
    let handed_on = outcomes.iter().filter(|outcome| **outcome == Sent::HandedOn).count();
    eprintln!("{handed_on} of {COUNT} frames were handed on; the slowest call took {slowest:?}");
    assert!(handed_on <= 100, "{handed_on} of {COUNT} were kept somewhere");
    assert_eq!(outcomes.last(), Some(&Sent::Dropped));
    assert!(slowest < Duration::from_millis(200), "a call took {slowest:?}");

    line.set(State::Forwards);
    send_until_read(&*broker, &queue, &mut reader, "after").await;
    there.delete(&queue.name).await.unwrap();
}

/// While the line is cut frames are dropped at once; when it is back, so are they.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_for_a_cut_line_are_dropped_until_it_is_back() {
    let (there, line) = (broker(), Line::new().await);
    let broker = line.broker(1_000);
    let queue = fleeting(10);
    there.declare(&queue).await.unwrap();
    let mut reader = there.consume(&queue.name, 1).await.unwrap();
    send_until_read(&*broker, &queue, &mut reader, "before").await;

    line.set(State::Cut);
    let until = Instant::now() + PATIENCE;
    while broker.publish_fleeting(&to(&queue), message("during")) == Sent::HandedOn {
        assert!(Instant::now() < until, "still handed on");
        sleep(Duration::from_millis(10)).await;
    }
    // One attempt after each pause takes a message that it may lose.
    let handed_on = {
        let mut count = 0;
        for _ in 0..2_000 {
            count += usize::from(broker.publish_fleeting(&to(&queue), message("during")) == Sent::HandedOn);
            sleep(Duration::from_millis(1)).await;
        }
        count
    };
    assert!(handed_on <= 40, "{handed_on} of 2,000 were handed on to a line that is cut");

    line.set(State::Forwards);
    send_until_read(&*broker, &queue, &mut reader, "after").await;
    there.delete(&queue.name).await.unwrap();
}

/// A reader whose line is frozen while 75 MiB of frames come finds the newest when it thaws: between it and the sender
/// lie the queue's bound, what the broker has given to the connection, and the kernel's buffers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_behind_a_frozen_line_gets_the_newest() {
    const LENGTH_MAX: usize = 20;
    const COUNT: usize = 1_200;
    let (there, line) = (broker(), Line::new().await);
    let reading = line.broker(1_000);
    let queue = fleeting(LENGTH_MAX as u64);
    reading.declare(&queue).await.unwrap();
    let mut reader = reading.consume(&queue.name, 1).await.unwrap();
    send_until_read(&*there, &queue, &mut reader, "before").await;

    line.set(State::Frozen);
    for number in 0..COUNT {
        let until = Instant::now() + PATIENCE;
        while there.publish_fleeting(&to(&queue), large(number)) == Sent::Dropped {
            assert!(Instant::now() < until, "the sender's own line is held up");
            sleep(Duration::from_millis(1)).await;
        }
    }
    line.set(State::Forwards);
    let newest = format!("{:05}", COUNT - 1);
    let mut ids: Vec<String> = Vec::new();
    while ids.last() != Some(&newest) {
        let delivery = timeout(PATIENCE, reader.next()).await.expect("the newest").expect("a delivery");
        if delivery.message.id != "before" {
            ids.push(delivery.message.id);
        }
    }
    eprintln!("{} of {COUNT} frames came through", ids.len());
    assert!(ids.is_sorted(), "out of order: {ids:?}");
    assert!(ids.len() < COUNT * 2 / 3, "{} of {COUNT} frames waited somewhere", ids.len());
    reading.delete(&queue.name).await.unwrap();
}

/// A reader's end is noticed when its line is cut, and its queue can be declared and read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleeting_queue_is_declared_again_after_a_cut() {
    let line = Line::new().await;
    let broker = line.broker(1_000);
    let queue = fleeting(10);
    broker.declare(&queue).await.unwrap();
    let mut reader = broker.consume(&queue.name, 1).await.unwrap();
    line.set(State::Cut);
    assert!(matches!(timeout(PATIENCE, reader.next()).await, Ok(None)));
    line.set(State::Forwards);
    drop(reader);
    let until = Instant::now() + PATIENCE;
    while let Err(error) = broker.declare(&queue).await {
        assert!(Instant::now() < until, "{error}");
        sleep(Duration::from_millis(100)).await;
    }
    let mut reader = broker.consume(&queue.name, 1).await.unwrap();
    send_until_read(&*broker, &queue, &mut reader, "again").await;
    broker.delete(&queue.name).await.unwrap();
}

/// Publishes that are confirmed go on while frames are sent as fast as they can be, over the same connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_frames_holds_up_no_confirmed_message() {
    const ROUND: Duration = Duration::from_secs(3);
    let broker = broker();
    let (frames, kept) = (fleeting(100), queue());
    for queue in [&frames, &kept] {
        broker.declare(queue).await.unwrap();
    }
    let confirmed = async || {
        let (began, mut slowest, mut count) = (Instant::now(), Duration::ZERO, 0);
        while began.elapsed() < ROUND {
            let sent = Instant::now();
            assert_eq!(broker.publish(&to(&kept), message("kept")).await, Published::Confirmed);
            slowest = slowest.max(sent.elapsed());
            count += 1;
        }
        (count, ROUND / count, slowest)
    };
    let calm = confirmed().await;
    let handed_on = Arc::new(AtomicU64::new(0));
    let flood = {
        let (broker, to, handed_on) = (Arc::clone(&broker), to(&frames), Arc::clone(&handed_on));
        tokio::spawn(async move {
            loop {
                for number in 0..100 {
                    if broker.publish_fleeting(&to, frame(number)) == Sent::HandedOn {
                        handed_on.fetch_add(1, Ordering::Relaxed);
                    }
                }
                sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let flooded = confirmed().await;
    flood.abort();
    let frames_sent = handed_on.load(Ordering::Relaxed);
    eprintln!("confirmed (count, mean, slowest): {calm:?} without, {flooded:?} beside {frames_sent} frames");
    assert!(frames_sent > 1_000, "no flood");
    assert!(flooded.1 < Duration::from_millis(25), "a confirmation took {:?} on average", flooded.1);
    for queue in [&frames, &kept] {
        broker.delete(&queue.name).await.unwrap();
    }
}
