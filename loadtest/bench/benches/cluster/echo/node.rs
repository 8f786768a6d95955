//! The echo's node: it answers every assignment with a replica.

use std::sync::Arc;

use futures::StreamExt as _;
use lapin::Channel;
use lapin::message::Delivery;
use tokio::task::JoinSet;

use super::queues::{Deliveries, EXCHANGE, Queues};
use super::{Part, READY, message_id, say};
use crate::bodies::Bodies;
use crate::publisher::{Parcel, Publisher, ack, connect};
use infera_bench::Fault;
use infera_bench::fixtures::Asker;

pub(super) async fn run(part: &Part, index: usize) -> Result<(), Fault> {
    let bodies = Arc::new(Bodies::new(&Asker::new(part.account.clone(), 1)?)?);
    let publishing = connect(&part.broker).await?;
    let publisher = Publisher::open(&publishing).await?;
    let consuming = Queues::over(connect(&part.broker).await?);
    let Deliveries { channel, consumer: mut assignments } = consuming.assignments(index).await?;
    say(READY)?;
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = answers.join_next() => { ended??; }
            assignment = assignments.next() => {
                let assignment = assignment.ok_or("no more assignments")??;
                let (publisher, bodies) = (publisher.clone(), Arc::clone(&bodies));
                answers.spawn(answer(index, (assignment, Arc::clone(&channel)), publisher, bodies));
            }
        }
    }
}

async fn answer(
    index: usize,
    (assignment, channel): (Delivery, Arc<Channel>),
    publisher: Publisher,
    bodies: Arc<Bodies>,
) -> Result<(), Fault> {
    let (verifier, job) = message_id(&assignment)?.split_once(':').ok_or("not an assignment of ours")?;
    let (key, id) = (format!("n{index}.replica.{verifier}"), job.to_owned());
    publisher.publish(Parcel { exchange: EXCHANGE, key, id, body: bodies.replica.clone() }).await?;
    ack(&channel, &assignment)
}
